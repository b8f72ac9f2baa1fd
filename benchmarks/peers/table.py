"""Who is measured, and the README's table of the results that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.machine import RESULTS

KEPT = RESULTS / "peers.json"
EXACTLY, LEAST = "exactly once", "at least once"
DEFAULT = "fraudstream_default"


@dataclass(frozen=True)
class Peer:
    """One way to do the job.

    Attributes:
        name: in the results, and of its file.
        title, delivery: in the table.
        share: of the transactions that it is given; the slow ones get fewer.
        environment: of a Python peer; empty for fraudstream and Java.
    """

    name: str
    title: str
    delivery: str
    share: float = 1.0
    environment: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is fraudstream."""
        return self.name.startswith("fraudstream")


PEERS = (
    Peer("fraudstream", "**fraudstream**", EXACTLY),
    Peer("fraudstream_at_least_once", "**fraudstream**", LEAST),
    Peer(DEFAULT, "**fraudstream**, its default catalogue of 65 features", EXACTLY),
    Peer("kafka_streams", "Kafka Streams (Java), a thread for each core", EXACTLY),
    Peer(
        "plain_batches",
        "a plain loop over batches: msgspec, one call of LightGBM each",
        LEAST,
        1.0,
        "plain",
    ),
    Peer("plain_loop", "a plain poll loop, a message at a time", LEAST, 0.5, "plain"),
    Peer("bytewax_flow", "Bytewax", LEAST, 0.5, "bytewax"),
    Peer("quix", "Quix Streams", LEAST, 0.25, "quix"),
    Peer("faust_take", "Faust, an agent with `take`", LEAST, 0.1, "faust"),
    Peer("faust_agent", "Faust, an agent an event at a time", LEAST, 0.1, "faust"),
)


def table(result: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown, with how many times a peer's rate ours is."""
    measured = result["peers"]
    ours = measured.get("fraudstream", {}).get("transactions_per_s")
    lines = [
        "| same job | delivery | transactions/s | CPU seconds a million | fraudstream is |",
        "| --- | --- | --- | --- | --- |",
    ]
    for peer in (peer for peer in PEERS if peer.name in measured):
        figures = measured[peer.name]
        if "not installed" in figures:
            lines.append(
                f"| {peer.title} | {peer.delivery} | not installed: {figures['not installed']} | | |"
            )
            continue
        rate, cpu = figures["transactions_per_s"], figures["cpu_s_per_million"]
        times = f"{ours / rate:.2f} times as fast" if ours and not peer.ours else ""
        lines.append(f"| {peer.title} | {peer.delivery} | {rate:,} | {cpu:.1f} | {times} |")
    return "\n".join(lines)
