"""The demo: a simulated history, a model trained on it, and a live worker under attack.

Everything is the product's own: the same training, the same worker process, real messages. Only the broker
is librdkafka's built-in one, unless `--brokers` names a real Kafka.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from fraudstream.bus.clients import client_config
from fraudstream.bus.topics import create_topics
from fraudstream.clock import monotonic_s
from fraudstream.console.child import ending_with_parent
from fraudstream.console.progress import progress_on
from fraudstream.console.tail import alert_text
from fraudstream.errors import BusError, FraudstreamError
from fraudstream.records import Alert, Decision
from fraudstream.sections import Settings
from fraudstream.settings import is_setting, load_settings
from fraudstream.simulate import World, WorldConfig, simulate
from fraudstream.simulate.write import Message, label_messages, messages
from fraudstream.training.run import train_from_files

DAY_MS = 86_400_000
HISTORY_DAYS = 90
START_MS = 1_735_689_600_000  # 2025-01-01: past by every clock, or all would be dated in the future
CUSTOMERS = 2_000
PER_CUSTOMER_DAY = 2.0
READY_WITHIN_S = 120.0
STOPPED_WITHIN_S = 20.0
DRAINED_WITHIN_S = 60.0
ALERTS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to play.

    Attributes:
        brokers: a real Kafka; None: the built-in broker.
        transactions: to play live.
        rate: a second.
        keep: folder that stays; None: a temporary one.
    """

    brokers: str | None
    transactions: int
    rate: float
    seed: int
    keep: Path | None


@dataclass(frozen=True, slots=True)
class Played:
    """What is played: the live transactions, and the labels of past and live ones as they become known.

    Attributes:
        labels: in the order of their times.
    """

    live: World
    labels: list[Message]

    @property
    def start_ms(self) -> int:
        """Return the time of the first live transaction."""
        return int(self.live.transactions["event_time"][0].as_py())


@dataclass(slots=True)
class Tally:
    """What came back so far."""

    sent_s: dict[str, float] = field(default_factory=dict)
    decided: dict[str, bool] = field(default_factory=dict)
    latency_ms: list[float] = field(default_factory=list)
    alerts: int = 0
    dead_letters: int = 0
    recent: deque[Alert] = field(default_factory=lambda: deque(maxlen=ALERTS_SHOWN))


def run_demo(plan: DemoPlan, quiet: bool) -> dict[str, Any]:
    """Run it all and return the summary; with `quiet` nothing is drawn on stdout.

    Raises:
        FraudstreamError: a part failed; the message says which.
    """
    console = Console(stderr=quiet, highlight=False)
    began_s = monotonic_s()
    with ExitStack() as stack:
        folder = plan.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudstream-demo-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        played = _make_world(plan, folder, console)
        settings = _write_settings(folder, plan, stack)
        model = _train(settings, folder, played, console)
        _make_topics(settings, plan.brokers is None)
        later = _send_known_labels(settings, played)
        worker = stack.enter_context(_worker_process(folder, settings, console))
        tally = _play(plan, Played(played.live, later), settings, worker, console)
        exit_code = _stop(worker)
    if exit_code != 0:
        raise FraudstreamError(f"demo: the worker ended with exit code {exit_code}")
    summary = _summary(tally, played.live, model) | {"wall_s": round(monotonic_s() - began_s, 1)}
    _show_summary(summary, plan, console)
    return summary


def _make_world(plan: DemoPlan, folder: Path, console: Console) -> Played:
    a_day = CUSTOMERS * PER_CUSTOMER_DAY
    days = HISTORY_DAYS + max(2, int(plan.transactions / a_day) + 2)
    console.print(f"[bold]1[/] simulating {HISTORY_DAYS} days of history and the live days after it ...")
    config = WorldConfig(
        customers=CUSTOMERS,
        start_ms=START_MS,
        days=days,
        transactions_per_customer_day=PER_CUSTOMER_DAY,
        seed=plan.seed,
    )
    world = simulate(config)
    live_from_ms = START_MS + HISTORY_DAYS * DAY_MS
    first = int(np.searchsorted(world.transactions["event_time"].to_numpy(), live_from_ms))
    for name, table in (("transactions", world.transactions.slice(0, first)), ("labels", world.labels)):
        (folder / "history" / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "history" / name / f"{name}.parquet")
    live = world.transactions.slice(first, plan.transactions)
    frauds = sum(world.truth["is_fraud"].to_pylist())
    console.print(
        f"  {first:,} past transactions, {len(live):,} to play; {frauds:,} frauds among all of them"
    )
    return Played(World(live, world.labels, world.truth), list(label_messages(world)))


def _write_settings(folder: Path, plan: DemoPlan, stack: ExitStack) -> Settings:
    brokers = plan.brokers or stack.enter_context(_embedded_broker())
    unique = "" if plan.brokers is None else f"demo.{os.getpid()}."
    topics = {
        "transactions": "fraud.transactions",
        "labels": "fraud.labels",
        "decisions": "fraud.decisions",
        "alerts": "fraud.alerts",
        "dlq": "fraud.transactions.dlq",
        "features": "fraud.features",
    }
    lines = ["# Written by `fraudstream demo`.", "[topics]"]
    lines += [f'{name} = "{unique}{topic}"' for name, topic in topics.items()]
    lines += ["[state]", 'complete_from = "start"  # nothing was before the first simulated day']
    lines += ["[model]", f'registry = "{folder / "models"}"', "[labels]", 'maturity = "21d"']
    lines += ["[worker]", f'group = "fraudstream-demo-{os.getpid()}"', f"web_port = {_free_port()}"]
    lines += [f'warm = "{folder / "history" / "transactions"}"']
    lines += ["[kafka]", f'"bootstrap.servers" = "{brokers}"']
    if plan.brokers is None:
        lines += ["[kafka_consumer]", '"fetch.wait.max.ms" = 5']  # the built-in broker waits it out each time
    (folder / "fraudstream.toml").write_text("\n".join(lines) + "\n", "utf-8")
    return load_settings(folder / "fraudstream.toml", environment={})


@contextmanager
def _embedded_broker() -> Iterator[str]:
    """Start librdkafka's mock cluster in this process and yield its address."""
    holder = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored", "log_level": 0})
    brokers = holder.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    holder.flush(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _train(settings: Settings, folder: Path, played: Played, console: Console) -> str:
    console.print("[bold]2[/] training on what was known when the live days begin ...")
    history = folder / "history"
    with progress_on(console) as advance:
        result = train_from_files(
            settings, history / "transactions", history / "labels", played.start_ms, True, advance
        )
    metrics = result["metrics"]
    console.print(
        f"  model {result['model']}: {result['training']['trees']} trees; on the validation window AUC "
        f"{metrics['auc']:.3f}, average precision {metrics['average_precision']:.3f}"
    )
    model: str = result["model"]
    return model


def _make_topics(settings: Settings, embedded: bool) -> None:
    if not embedded:
        create_topics(settings)
        return
    producer = Producer(
        client_config(settings, "producer")
    )  # the built-in broker makes topics on first sight
    topics = settings.topics
    for name in (topics.transactions, topics.labels, topics.decisions, topics.alerts, topics.dlq):
        producer.list_topics(name, timeout=10)


def _send_known_labels(settings: Settings, played: Played) -> list[Message]:
    """Send the labels that are known when the live days begin; return the later ones."""
    producer = Producer(client_config(settings, "producer"))
    known = sum(known_at <= played.start_ms for _, _, known_at in played.labels)
    for key, value, _ in played.labels[:known]:
        producer.produce(settings.topics.labels, value, key)
        producer.poll(0)
    if producer.flush(DRAINED_WITHIN_S):
        raise BusError("demo: the labels were not delivered")
    return played.labels[known:]


@contextmanager
def _worker_process(folder: Path, settings: Settings, console: Console) -> Iterator[subprocess.Popen[bytes]]:
    console.print("[bold]3[/] starting the worker as a process of its own ...")
    log_path = folder / "worker.log"
    with log_path.open("wb") as log_file:
        command = [sys.executable, "-m", "fraudstream", "worker", "-c", str(folder / "fraudstream.toml")]
        worker = subprocess.Popen(
            ending_with_parent(command, signal.SIGTERM),
            stdout=log_file,
            stderr=log_file,
            stdin=subprocess.DEVNULL,
            env={
                name: text for name, text in os.environ.items() if not is_setting(name)
            },  # the user's own Kafka
        )
        try:
            _wait_ready(worker, settings, log_path)
            yield worker
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


def _wait_ready(worker: subprocess.Popen[bytes], settings: Settings, log_path: Path) -> None:
    url = f"http://{settings.worker.web_host}:{settings.worker.web_port}/readyz"
    deadline = monotonic_s() + READY_WITHIN_S
    while monotonic_s() < deadline:
        if worker.poll() is not None:
            raise FraudstreamError(f"demo: the worker ended at once: {_last_line(log_path)}")
        try:
            with urllib.request.urlopen(url, timeout=1.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise FraudstreamError(
        f"demo: the worker was not ready within {READY_WITHIN_S:.0f} s: {_last_line(log_path)}"
    )


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _play(
    plan: DemoPlan, played: Played, settings: Settings, worker: subprocess.Popen[bytes], console: Console
) -> Tally:
    live, labels = played.live, deque(played.labels)
    console.print(
        f"[bold]4[/] playing {len(live.transactions):,} live transactions at {plan.rate:,.0f}/s ..."
    )
    tally = Tally()
    fraud = _fraud_ids(live)
    outgoing = list(messages(live.transactions, "card_id"))
    ids = live.transactions["transaction_id"].to_pylist()
    producer = Producer(client_config(settings, "producer") | {"linger.ms": 1})
    reader = _reader(settings)
    began_s, sent = monotonic_s(), 0
    deadline = began_s + len(outgoing) / plan.rate + DRAINED_WITHIN_S
    with Live(console=console, refresh_per_second=4, transient=True) as screen:
        while len(tally.decided) + tally.dead_letters < len(outgoing):
            now_s = monotonic_s()
            if worker.poll() is not None or now_s > deadline:
                break
            due = min(len(outgoing), int((now_s - began_s) * plan.rate) + 1)
            for i in range(sent, due):
                while labels and labels[0][2] <= outgoing[i][2]:
                    key, value, _ = labels.popleft()
                    producer.produce(settings.topics.labels, value, key)
                tally.sent_s[ids[i]] = monotonic_s()
                producer.produce(settings.topics.transactions, outgoing[i][1], outgoing[i][0])
            sent = due
            producer.poll(0)
            _read(reader, settings, tally)
            if console.is_terminal:
                screen.update(_screen(tally, fraud, sent, len(outgoing), now_s - began_s))
        _read(reader, settings, tally)
    reader.close()
    if len(tally.decided) + tally.dead_letters < len(outgoing):
        raise BusError(
            f"demo: only {len(tally.decided)} of {len(outgoing)} transactions got a decision in time"
        )
    for alert in tally.recent:
        console.print(alert_text(alert), soft_wrap=True)
    return tally


def _fraud_ids(live: World) -> set[str]:
    truth = live.truth.filter(live.truth["is_fraud"])
    return set(truth["transaction_id"].to_pylist())


def _reader(settings: Settings) -> Consumer:
    topics = settings.topics
    consumer = Consumer(client_config(settings, "consumer") | {"group.id": f"{settings.worker.group}-screen"})
    wanted = []
    for topic in (topics.decisions, topics.alerts, topics.dlq):
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        wanted += [TopicPartition(topic, partition, 0) for partition in partitions]
    consumer.assign(wanted)
    return consumer


def _read(reader: Consumer, settings: Settings, tally: Tally) -> None:
    topics = settings.topics
    for message in reader.consume(2000, 0.005):
        if message.error() is not None:
            continue
        now_s = monotonic_s()
        if message.topic() == topics.decisions:
            decision = msgspec.json.decode(message.value(), type=Decision)
            tally.latency_ms.append(1000 * (now_s - tally.sent_s[decision.transaction_id]))
            tally.decided[decision.transaction_id] = decision.outcome != "approve"
        elif message.topic() == topics.alerts:
            tally.alerts += 1
            tally.recent.append(msgspec.json.decode(message.value(), type=Alert))
        else:
            tally.dead_letters += 1


def _rates(tally: Tally, fraud: set[str]) -> tuple[int, int, int, int]:
    """Return frauds and frauds caught, legitimate transactions and legitimate ones stopped."""
    frauds = [stopped for key, stopped in tally.decided.items() if key in fraud]
    legitimate = len(tally.decided) - len(frauds)
    stopped = sum(tally.decided.values()) - sum(frauds)
    return len(frauds), sum(frauds), legitimate, stopped


def _screen(tally: Tally, fraud: set[str], sent: int, total: int, elapsed_s: float) -> Group:
    frauds, caught, legitimate, stopped = _rates(tally, fraud)
    latest = np.array(tally.latency_ms[-5000:] or [0.0])
    table = Table(box=None, show_header=False)
    table.add_row("played", f"{sent:,} of {total:,}", "decisions", f"{len(tally.decided):,}")
    table.add_row(
        "rate", f"{len(tally.decided) / max(elapsed_s, 1e-9):,.0f}/s", "alerts", f"{tally.alerts:,}"
    )
    table.add_row("latency p50", f"{np.median(latest):.1f} ms", "p99", f"{np.quantile(latest, 0.99):.1f} ms")
    table.add_row(
        "frauds caught", f"{caught} of {frauds}", "false-positive rate", f"{stopped / max(legitimate, 1):.3%}"
    )
    alerts = Group(*(alert_text(alert) for alert in tally.recent))
    return Group(Panel(table, title="live"), Panel(alerts, title="latest alerts"))


def _stop(worker: subprocess.Popen[bytes]) -> int:
    worker.send_signal(signal.SIGTERM)
    try:
        return worker.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


def _summary(tally: Tally, live: World, model: str) -> dict[str, Any]:
    frauds, caught, legitimate, stopped = _rates(tally, _fraud_ids(live))
    latency = np.array(tally.latency_ms)
    span_s = max(tally.sent_s.values()) - min(tally.sent_s.values())
    return {
        "transactions": len(tally.sent_s),
        "decisions": len(tally.decided),
        "alerts": tally.alerts,
        "dead_letters": tally.dead_letters,
        "frauds": frauds,
        "frauds_caught": caught,
        "recall": round(caught / max(frauds, 1), 4),
        "false_positive_rate": round(stopped / max(legitimate, 1), 6),
        "latency_ms_p50": round(float(np.median(latency)), 2),
        "latency_ms_p99": round(float(np.quantile(latency, 0.99)), 2),
        "transactions_per_s": round(len(tally.decided) / max(span_s, 1e-9), 1),
        "model": model,
    }


def _show_summary(summary: dict[str, Any], plan: DemoPlan, console: Console) -> None:
    table = Table(box=None, show_header=False)
    for name, value in summary.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(Panel(table, title="summary", expand=False))
    console.print(
        'Next: `fraudstream demo --keep demo-data` keeps data, model and settings; README.md, "With your own '
        'Kafka", shows the same worker on yours; `fraudstream features list` shows what the model sees.'
    )
