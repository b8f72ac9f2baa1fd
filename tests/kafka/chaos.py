"""Workers under load that are killed, frozen, fenced, added and removed, and a broker that goes down; then a count.

`python -m tests.kafka.chaos --faults 130 --json`, which `make chaos` runs, is the long form of `test_chaos.py`. It
compares with one worker on the memory bus that reads the same log and is never disturbed. The features are of cards
alone, so that they are exact however the partitions are shared out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fraudstream.bus.lost import others_reach
from fraudstream.simulate import WorldConfig, simulate
from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import Deployment, WorkerProcess, deployed, eventually
from tests.kafka.verifier import differences, first_altered, is_right, left_hanging, oracle, saved_state
from tests.worlds import LIVE_MS, TinyWorld, make_world

REBUILDING_SAID_WITHIN = timedelta(seconds=5)
PARTITIONS = 3
WORKERS_MAX = 3
SESSION_S = 2.0  # of the deployment's settings
SETTLES_WITHIN_S = 180.0
DEAF_AFTER_S = 30.0
FAULTS = ("kill", "freeze", "fence", "join", "leave", "broker_restart", "broker_kill")
# What waited for a broker that was away is decided as everything else is.
UNDEGRADED = "\n[degradation]\nexplanations_lag = 0\nshadow_lag = 0\nbatches_lag = 0\n"
CARDS_ONLY = """
[[features]]
entity = "event"
of = "amount"
aggregates = ["value"]

[[features]]
entity = "card"
windows = ["10m", "1h", "24h", "30d"]
aggregates = ["count"]

[[features]]
entity = "card"
of = "amount"
windows = ["1h", "7d"]
aggregates = ["sum", "max"]

[[features]]
entity = "card"
of = "amount"
windows = ["30d"]
aggregates = ["mean", "std", "zscore"]

[[features]]
entity = "card"
of = "merchant_id"
windows = ["24h"]
aggregates = ["distinct"]

[[features]]
entity = "card"
windows = ["30d"]
aggregates = ["time_since_last"]

"""


def cards_world(folder: Path) -> TinyWorld:
    """Return a tiny world whose model sees cards alone."""
    return make_world(folder, CARDS_ONLY)


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    """Return transactions of a world of their own, in event order."""
    config = WorldConfig(
        customers=300,
        merchants=60,
        start_ms=LIVE_MS,
        days=max(2, count // 800),
        transactions_per_customer_day=3.0,
        fraud_rate=0.03,
        seed=seed,
        peak_day=None,
        new_pattern_day=None,
    )
    rows: list[dict[str, Any]] = simulate(config).transactions.slice(0, count).to_pylist()
    assert len(rows) == count, f"the world has only {len(rows)} transactions"
    return rows


class Load:
    """Sends rows at a steady rate in a thread, until it is stopped or has sent all.

    As a payment system would, it sends again what was not acknowledged when it needs a new producer: librdkafka may
    forget its brokers for good (`fraudstream.bus.lost`). Then some rows are in the topic twice.

    Attributes:
        sent: how many rows were acknowledged.
        producers: how many were needed.
    """

    def __init__(self, deployment: Deployment, rows: list[dict[str, Any]], rate: float) -> None:
        self.sent = 0
        self.producers = 0
        self._rows = rows
        self._rate = rate
        self._topic = deployment.topic("transactions")
        self._config = {
            "bootstrap.servers": deployment.bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "log_level": 0,
        }
        self._waiting: set[int] = set()
        self._heard_s = time.monotonic()
        self._halt = threading.Event()
        self._renew()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Tell whether all rows have been handed over."""
        return not self._thread.is_alive()

    def stop(self) -> int:
        """Send no more; return how many rows are in the topic."""
        self._halt.set()
        self._thread.join()
        until_s = time.monotonic() + SETTLES_WITHIN_S
        while self._waiting:
            self._producer.poll(0.5)
            self._look()
            assert time.monotonic() < until_s, f"{len(self._waiting)} rows cannot be sent"
        return self.sent

    def _run(self) -> None:
        began_s = time.monotonic()
        for number in range(len(self._rows)):
            due_s = began_s + number / self._rate
            if self._halt.wait(max(0.0, due_s - time.monotonic())):
                return
            self._send(number)
            self._producer.poll(0)
            self._look()

    def _send(self, number: int) -> None:
        row = self._rows[number]
        self._waiting.add(number)
        value, key = json.dumps(row).encode(), row["card_id"].encode()
        self._producer.produce(self._topic, value, key, on_delivery=partial(self._report, number))

    def _report(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            assert error.code() == KafkaError._PURGE_QUEUE, error  # of a producer that was given up
            return
        self._heard_s = time.monotonic()
        self.sent += number in self._waiting
        self._waiting.discard(number)

    def _look(self) -> None:
        """Take another producer where this one hears nothing and others do."""
        if self._waiting and time.monotonic() - self._heard_s > DEAF_AFTER_S:
            self._heard_s = time.monotonic()
            if others_reach(self._config):
                self._renew()

    def _renew(self) -> None:
        self._producer = Producer(self._config)
        self.producers += 1
        for number in sorted(self._waiting):
            self._send(number)


@dataclass
class Chaos:
    """Workers with names, a supervisor that starts again what has ended, and what is done to them."""

    deployment: Deployment
    broker: KafkaBroker | None
    chance: random.Random
    running: dict[str, WorkerProcess] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    restarts: int = 0

    def join(self) -> str | None:
        """Start one more worker; return its name, or None where there are enough."""
        free = [f"w{n}" for n in range(WORKERS_MAX) if f"w{n}" not in self.running]
        if not free:
            return None
        self._start(free[0])
        return free[0]

    def fault(self, kind: str) -> bool:
        """Do something bad; False where it cannot be done now."""
        name = self.chance.choice(sorted(self.running))
        worker = self.running[name]
        if kind == "kill":
            worker.kill()
        elif kind == "freeze":
            worker.process.send_signal(signal.SIGSTOP)
            time.sleep(SESSION_S * self.chance.uniform(0.3, 2.0))  # some wake up in time, some as zombies
            worker.process.send_signal(signal.SIGCONT)
        elif kind == "fence":
            self._fence(name)
        elif kind == "join":
            if self.join() is None:
                return False
        elif kind == "leave":
            if len(self.running) == 1:
                return False
            del self.running[name]
            self._end(worker)
        elif self.broker is None:
            return False
        elif kind == "broker_restart":
            self.broker.restart()
        else:
            self.broker.kill()
            time.sleep(self.chance.uniform(0.0, 3.0))
            self.broker.start()
        self.done[kind] += 1
        return True

    def supervise(self) -> None:
        """Start again what has ended, as an operator's supervisor does; fail where it ended as it should not."""
        for name, worker in list(self.running.items()):
            code = worker.process.poll()
            if code is None:
                continue
            assert code in (1, -signal.SIGKILL), f"{name} ended with {code}:\n{worker.log_text()[-3000:]}"
            assert "Traceback" not in worker.log_text(), worker.log_text()[-3000:]
            self.restarts += 1
            self._start(name)

    def pause(self, seconds: float) -> None:
        """Let it run for a while."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.supervise()
            time.sleep(0.1)

    def settle(self, positions: Mapping[int, int]) -> None:
        """Wait until all of the log is committed, then end the workers, the last one alone."""

        def committed() -> bool:
            self.supervise()
            return self.deployment.committed() == positions

        eventually(committed, SETTLES_WITHIN_S, "everything is committed")
        names = sorted(self.running)
        for name in names[1:]:
            self._end(self.running.pop(name))
        last = self.running[names[0]]
        if len(names) > 1:
            self._own_all(last)
        self._end(self.running.pop(names[0]))

    def _own_all(self, worker: WorkerProcess) -> None:
        """Wait until a worker serves all partitions.

        One that has nothing to rebuild after an assignment stays ready, and does not say so again.
        """

        def owns() -> bool:
            assigned = worker.events("partitions_assigned")
            if not assigned or len(assigned[-1]["partitions"]) != PARTITIONS:
                return False
            at = assigned[-1]["timestamp"]
            since = datetime.now(UTC) - datetime.fromisoformat(at)
            ready, rebuilding = (worker.events(name) for name in ("worker_ready", "worker_rebuilding"))
            stays = since > REBUILDING_SAID_WITHIN and len(ready) > len(rebuilding)
            return stays or (bool(ready) and ready[-1]["timestamp"] > at)

        eventually(owns, 90, "the last worker serves all partitions", worker)

    def _start(self, name: str) -> None:
        self.running[name] = self.deployment.start(
            FRAUDSTREAM_WORKER__INSTANCE=name, FRAUDSTREAM_WORKER__WEB_PORT="0"
        )

    def _end(self, worker: WorkerProcess) -> None:
        if worker.process.poll() is None:
            code = worker.stop()
            # 1: it was being fenced; SIGTERM: it was asked to before it could listen
            assert code in (0, 1, -signal.SIGTERM), f"ended with {code}:\n{worker.log_text()[-3000:]}"
        assert "Traceback" not in worker.log_text(), worker.log_text()[-3000:]

    def _fence(self, name: str) -> None:
        """Take a worker's transactional id: its transaction is aborted, and it may not go on."""
        identity = f"{self.deployment.settings.worker.group}.{name}"
        thief = Producer(
            {"bootstrap.servers": self.deployment.bootstrap, "transactional.id": identity, "log_level": 0}
        )
        with contextlib.suppress(KafkaException):  # it may be taken back meanwhile
            thief.init_transactions(10)


def play(
    world: TinyWorld,
    folder: Path,
    faults: Iterable[str],
    chance: random.Random,
    delivery: str = "exactly_once",
    rate: float = 200.0,
    rows: int = 100_000,
    own_broker: KafkaBroker | None = None,
    bootstrap: KafkaBroker | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run workers under load, do all faults to them one after the other, and return what is wrong at the end.

    Args:
        faults: kinds in their order; one that cannot be done at the moment is passed over.
        own_broker: may be restarted.
    """
    broker = own_broker or bootstrap
    assert broker is not None
    lines = (
        f'delivery = "{delivery}"\nbatch_rows_max = 64\ncommit_interval_ms = 100\nexplain_budget_ms = 60000'
    )
    with deployed(broker, world, folder, partitions=PARTITIONS, worker=lines) as deployment:
        with deployment.config.open("a", encoding="utf-8") as config:
            config.write(f'\n[snapshots]\nfolder = "{folder / "snapshots"}"\ninterval = "2s"\n{UNDEGRADED}')
        deployment.reload()
        chaos = Chaos(deployment, own_broker, chance)
        chaos.join()
        chaos.join()
        load = Load(deployment, rows_of(rows, chance.randrange(10**6)), rate)
        try:
            eventually(lambda: bool(deployment.committed()), 120, "the first commit")
            for number, kind in enumerate(faults, 1):
                if load.done:
                    break
                if chaos.fault(kind):
                    say(f"{number}: {kind}, {len(chaos.running)} workers, {load.sent} sent")
                chaos.pause(chance.uniform(0.5, 4.0))
        finally:
            sent = load.stop()
        log = deployment.read("transactions")
        ends: dict[int, int] = {}
        for message in log:
            ends[message.partition()] = max(message.offset() + 1, ends.get(message.partition(), 0))
        chaos.settle(ends)
        hanging = partial(left_hanging, deployment)
        # A worker that was killed leaves a transaction open until the broker ends it, ten to twenty seconds later.
        eventually(
            lambda: not hanging("decisions") + hanging("alerts"), SETTLES_WITHIN_S, "no transaction is open"
        )
        expected = oracle(world, log)
        exactly_once = delivery == "exactly_once"
        alerts, decisions = deployment.read("alerts"), deployment.read("decisions")
        return {
            "delivery": delivery,
            "faults": sum(chaos.done.values()),
            "by_kind": dict(chaos.done),
            "restarts": chaos.restarts,
            "transactions": len(log),
            "sent": sent,
            "senders": load.producers,
            "decisions": len(decisions),
            "alerts": len(alerts),
            "snapshots_loaded": sum(len(w.events("snapshot_loaded")) for w in deployment.workers),
            "wrong_decisions": differences(expected.decisions, decisions, exactly_once),
            "wrong_alerts": differences(expected.alerts, alerts, exactly_once),
            "first_altered": first_altered(expected.decisions, decisions)
            or first_altered(expected.alerts, alerts),
            "dead_letters": len(deployment.read("dlq")),
            "hanging": hanging("decisions") + hanging("alerts"),
            "state_equal": saved_state(deployment) == expected.state,
        }


def main() -> int:
    """Run the long form."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--faults", type=int, default=130, help="a fifth cannot be done when it comes")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rate", type=float, default=200.0)
    options.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    options.add_argument("--folder", type=Path, help="where logs and snapshots stay; without it they go")
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    chosen = options.parse_args()
    chance = random.Random(chosen.seed)
    faults = (chance.choice(FAULTS) for _ in range(chosen.faults))
    with tempfile.TemporaryDirectory(prefix="fraudstream-chaos-") as name, KafkaBroker() as broker:
        folder = chosen.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        world = cards_world(folder / "world")
        (folder / "play").mkdir()
        told = play(
            world,
            folder / "play",
            faults,
            chance,
            chosen.delivery,
            chosen.rate,
            rows=int(chosen.rate * 15 * chosen.faults),
            own_broker=broker,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    told |= {"seed": chosen.seed, "right": is_right(told)}
    print(json.dumps(told) if chosen.json else msgspec.json.format(json.dumps(told)))
    return 0 if told["right"] else 1


if __name__ == "__main__":
    sys.exit(main())
