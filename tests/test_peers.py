"""The benchmark beside other frameworks: what it compares with, and the table that it writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers.job import WINDOWS_MS, Card, minor_of, observe
from benchmarks.peers.reference import CHECKED_MIN, check, features_of
from benchmarks.peers.table import KEPT, table
from docs.generate import ROOT

STEPS_MS = st.one_of(st.sampled_from([0, 1, *WINDOWS_MS]), st.integers(0, 2 * WINDOWS_MS[2]))
AMOUNTS = st.integers(0, 10_000_000).map(lambda minor: minor / 100)
DECIDED = {"card_1": [(f"t-{i}", i / 1000) for i in range(CHECKED_MIN + 2)]}


@given(st.lists(st.tuples(STEPS_MS, AMOUNTS), max_size=200))
def test_both_ways_to_keep_windows_give_the_features_of_the_reference(steps: list[tuple[int, float]]) -> None:
    time_ms, earlier, rows, card = 1_700_000_000_000, list[dict[str, Any]](), list[list[int]](), Card()
    for step_ms, amount in steps:
        time_ms += step_ms
        row = {"event_time": time_ms, "amount": amount}
        must = features_of(row, earlier)
        assert list(observe(rows, time_ms, minor_of(amount))) == must
        assert list(card.observe(time_ms, minor_of(amount))) == must
        earlier.append(row)


def test_a_peer_that_decided_so_far_passes() -> None:
    so_far = {"card_1": DECIDED["card_1"][:-1]}
    assert check("peer", so_far, DECIDED) == CHECKED_MIN + 1


@pytest.mark.parametrize(
    "decided",
    [
        DECIDED["card_1"][:5] + DECIDED["card_1"][6:],
        DECIDED["card_1"][:5] + DECIDED["card_1"][4:],
        DECIDED["card_1"] + DECIDED["card_1"][-1:],
        [*DECIDED["card_1"][:-1], (DECIDED["card_1"][-1][0], 0.5)],
        [*DECIDED["card_1"][:-1], (DECIDED["card_1"][-1][0], float("nan"))],
        DECIDED["card_1"][: CHECKED_MIN - 1],
    ],
    ids=["dropped", "doubled", "doubled at the end", "altered", "no number", "too few"],
)
def test_a_peer_that_differs_ends_the_run(decided: list[tuple[str, float]]) -> None:
    with pytest.raises(SystemExit, match="peer"):
        check("peer", {"card_1": decided}, DECIDED)


def test_the_readme_has_the_table_of_the_kept_results() -> None:
    assert table(json.loads(KEPT.read_text("utf-8"))) in (ROOT / "README.md").read_text("utf-8")


def test_the_table_says_what_was_not_installed_and_needs_no_figures_of_ours() -> None:
    measured = {
        "quix": {"not installed": "ERROR: no such version"},
        "bytewax_flow": {"transactions_per_s": 2000, "cpu_s_per_million": 3.14},
    }
    *_, bytewax, quix = table({"peers": measured}).splitlines()
    assert bytewax == "| Bytewax | at least once | 2,000 | 3.1 |  |"
    assert "not installed: ERROR: no such version" in quix
