"""The demo as a person runs it, small; what its summary must hold whichever broker it ran on."""

from __future__ import annotations

from typing import Any

from tests.cli.running import fraudstream

TRANSACTIONS = 3_000
SUMMARY = {
    "transactions", "decisions", "alerts", "dead_letters", "frauds", "frauds_caught", "recall",
    "false_positive_rate", "latency_ms_p50", "latency_ms_p99", "transactions_per_s", "model", "wall_s",
}  # fmt: skip


def play_demo(*arguments: str) -> dict[str, Any]:
    """Play the demo, check its summary and return it; a Kafka of the user's own is not for it."""
    own = {"FRAUDSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "FRAUDSTREAM_WORKER__GROUP": "own"}
    ended = fraudstream("demo", "--transactions", str(TRANSACTIONS), "--json", *arguments, **own)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert len(ended.out.splitlines()) == 1
    summary: dict[str, Any] = ended.last_object()
    assert summary.keys() == SUMMARY
    assert summary["transactions"] == summary["decisions"] == TRANSACTIONS
    assert summary["dead_letters"] == 0
    assert summary["alerts"] >= summary["frauds_caught"] >= 1
    assert summary["recall"] == round(summary["frauds_caught"] / summary["frauds"], 4)
    assert summary["false_positive_rate"] <= 0.02
    assert 0 < summary["latency_ms_p50"] <= summary["latency_ms_p99"]
    assert summary["model"] == "card_payment/0001"
    return summary
