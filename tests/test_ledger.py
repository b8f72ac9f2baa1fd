"""The label ledger against a slow twin: which label counts, at any instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.errors import ConfigError
from fraudstream.ledger import LABEL_COLUMNS, read_labels, silences

PRECEDENCE = ["analyst", "chargeback"]
RANKS = {"analyst": 2, "chargeback": 1}
CARDS = {"t0": "c0", "t1": "c0", "t2": "c1", "t3": None}
TIMES = {"t0": 10, "t1": 20, "t2": 15, "t3": 12}
Row = dict[str, Any]


@st.composite
def rows(draw: st.DrawFn) -> Row:
    row = {
        "label": draw(st.sampled_from(["fraud", "legit"])),
        "known_at": draw(st.integers(0, 40)),
        "source": draw(st.sampled_from([*PRECEDENCE, "customer", None])),
    }
    if draw(st.booleans()):
        return row | {"transaction_id": draw(st.sampled_from([*TIMES, "unknown"]))}
    return row | {
        "entity": "card",
        "key": draw(st.sampled_from(["c0", "c1", "c2"])),
        "from": draw(st.integers(0, 25)),
        "to": draw(st.none() | st.integers(0, 30)),
    }


def written(told: list[Row], folder: Path) -> Path:
    path = folder / "labels.parquet"
    pq.write_table(pa.Table.from_pylist(told, pa.schema(list(LABEL_COLUMNS.items()))), path)
    return path


def outcomes(path: Path, instant_ms: int) -> dict[str, bool]:
    known = read_labels(path, RANKS).as_of(instant_ms)
    times = np.array([*TIMES.values()], np.int64)
    fraud, labelled = known.outcomes().of([*TIMES], times, {"card": [*CARDS.values()]})
    assert not fraud[~labelled].any()
    return {one: bool(fraud[i]) for i, one in enumerate(TIMES) if labelled[i]}


def slowly(told: list[Row], instant_ms: int) -> dict[str, bool]:
    found = {}
    for one, time_ms in TIMES.items():
        counting = []
        for place, row in enumerate(told):
            own = row.get("transaction_id") == one
            end = row["known_at"] if row.get("to") is None else row["to"]
            wide = "entity" in row and row["key"] == CARDS[one] and row["from"] <= time_ms < end
            if row["known_at"] <= instant_ms and (own or wide):
                first = PRECEDENCE.index(row["source"]) if row["source"] in PRECEDENCE else len(PRECEDENCE)
                counting.append((-first, own, row["known_at"], place, row["label"] == "fraud"))
        if counting:
            found[one] = max(counting)[-1]
    return found


@given(st.lists(rows(), max_size=12), st.lists(rows(), max_size=6), st.integers(-1, 41))
def test_the_label_that_counts_is_the_twins_and_nothing_known_later_changes_it(
    tmp_path_factory: pytest.TempPathFactory, told: list[Row], later: list[Row], instant_ms: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    before = outcomes(written(told, folder), instant_ms)
    assert before == slowly(told, instant_ms)
    later = [row | {"known_at": instant_ms + 1 + row["known_at"]} for row in later]
    assert outcomes(written([*later, *told], folder), instant_ms) == before


def test_what_is_said_of_a_transaction_itself_goes_before_what_is_said_of_its_card(tmp_path: Path) -> None:
    card = {"entity": "card", "key": "c0", "from": 15, "label": "fraud", "known_at": 30}
    own = {"transaction_id": "t1", "label": "legit", "known_at": 25}
    assert outcomes(written([card], tmp_path), 30) == {"t1": True}
    assert outcomes(written([own, card], tmp_path), 30) == {"t1": False}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": "fraud", "known_at": 1}, "of no transaction and no entity"),
        ({"entity": "card", "key": "c0", "label": "fraud", "known_at": 1}, "of no transaction and no entity"),
        ({"transaction_id": "t", "entity": "card", "key": "c", "from": 1, "label": "fraud", "known_at": 1}, "both"),
        ({"transaction_id": "t", "label": "fraud", "known_at": -1}, "known_at"),
        ({"transaction_id": "t", "label": "fraud", "known_at": 2**50}, "known_at"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_label_is_refused(tmp_path: Path, row: Row, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_labels(written([row], tmp_path), {})


def test_a_long_stretch_without_a_labelled_transaction_is_a_silence() -> None:
    #        0    10   20   30   40   50
    # labels      |    ||                    longest allowed: 12
    assert silences(np.array([20, 10, 19, 90]), (0, 50), 12) == [(20, 50)]
    assert silences(np.array([], np.int64), (0, 50), 12) == [(0, 50)]
    assert silences(np.array([5, 15, 25, 35, 45]), (0, 50), 12) == []
