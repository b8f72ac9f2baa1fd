"""Scored files and labels -> how well promised false-positive rates and probabilities were met, week by week.

Only mature transactions count, by the rule of the ledger (`ledger.py`): one without a label known by then is
legitimate. A repeated transaction is no second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fraudstream.batch import Float64, Int64
from fraudstream.bus.files import read_table
from fraudstream.bus.place import Place
from fraudstream.clock import iso
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.ledger import Flags, Labels, all_mature_ms, newest_mature_ms, read_labels
from fraudstream.scoring.model import POINTS_FPR
from fraudstream.scoring.promises import calibration, promise, rate, reliability
from fraudstream.sections import DAY_MS, Settings
from fraudstream.training.replay import ENTITY_COLUMN, Advance, entity_columns, known_of_scored

WEEK_MS = 7 * DAY_MS
PROMISED = (0.001, 0.005, 0.01)
_COLUMNS = {
    "transaction_id": pa.large_string(),
    "event_time_ms": pa.int64(),
    "score": pa.float64(),
    "risk_points": pa.int64(),
    "repeated": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """Mature transactions and what was known of them; every column has one entry a row.

    Attributes:
        labelled: whether anything was known.
        clusters: for each entity the one of each row; a row without it stands alone.
    """

    points: Int64
    probability: Float64
    fraud: Flags
    labelled: Flags
    clusters: tuple[Int64, ...]

    def __len__(self) -> int:
        return len(self.fraud)

    def take(self, rows: Flags) -> Judged:
        """Return the rows that are True."""
        return Judged(
            points=self.points[rows],
            probability=self.probability[rows],
            fraud=self.fraud[rows],
            labelled=self.labelled[rows],
            clusters=tuple(kind[rows] for kind in self.clusters),
        )


def promises_of_files(
    settings: Settings,
    scored: Place,
    labels: Place,
    as_of_ms: int | None,
    promised: Sequence[float],
    advance: Advance,
) -> dict[str, Any]:
    """Compare what a replay's scores promised with what the labels say of the same transactions.

    Args:
        scored: what `fraudstream replay` wrote.
        as_of_ms: nothing known later is used; None: now, or when the newest transaction is mature, if that was
            earlier.
        promised: false-positive rates of the risk points' table.

    Raises:
        ConfigError: a rate is not in the table, or no transaction is mature.
    """
    points_of = {share: points for points, share in POINTS_FPR}
    for share in promised:
        if share not in points_of:
            known = ", ".join(f"{each:g}" for each in points_of)
            raise ConfigError(f"--rate {share:g}: no risk points promise it; give one of {known}")
    maturity_ms = settings.labels.maturity_ms
    columns = _COLUMNS | dict.fromkeys(entity_columns(settings.event), pa.large_string())
    table = read_table(scored, columns)
    for name in _COLUMNS:
        if empty := table[name].null_count:
            raise ConfigError(
                f"{scored}: {name}: {empty} of the rows have none; give what `fraudstream replay` wrote"
            )
    table = table.filter(pa.array(~table["repeated"].to_numpy()))
    time_ms = table["event_time_ms"].to_numpy()
    if as_of_ms is None:
        as_of_ms = all_mature_ms(int(time_ms.max(initial=0)), maturity_ms)
    mature = time_ms <= newest_mature_ms(as_of_ms, maturity_ms)
    if not mature.any():
        raise ConfigError(
            f"{scored}: none of {len(table)} transactions is mature at {iso(as_of_ms)}; "
            "give earlier ones, a later --as-of, or a shorter labels.maturity"
        )
    ledger = read_labels(labels, settings.labels.ranks).as_of(as_of_ms)
    judged = _judged(table.filter(pa.array(mature)), ledger, settings.event)
    wanted = [(points_of[share], share) for share in promised]
    first_ms = int(time_ms.min()) // DAY_MS * DAY_MS
    week = (time_ms - first_ms) // WEEK_MS
    week_of_judged = week[mature]
    weeks = []
    for number in np.unique(week).tolist():
        advance("weeks", 1, int(week.max()) + 1)
        begins = first_ms + number * WEEK_MS
        about = {
            "from": iso(begins),
            "to": iso(begins + WEEK_MS),
            "transactions": int((week == number).sum()),
        }
        weeks.append(about | _met(judged.take(week_of_judged == number), wanted))
    everything = {"transactions": len(table)} | _met(judged, wanted)
    everything["reliability"] = reliability(judged.probability, judged.fraud, judged.clusters)
    clusters = [name.removeprefix(ENTITY_COLUMN) for name in entity_columns(settings.event)]
    return {"as_of": iso(as_of_ms), "clusters": clusters, "weeks": weeks, "all": everything}


def _judged(table: pa.Table, known: Labels, event: EventType) -> Judged:
    fraud, labelled, _ = known_of_scored(table, known, event)
    names = [name for name in table.column_names if name.startswith(ENTITY_COLUMN)]
    return Judged(
        points=table["risk_points"].to_numpy(),
        probability=table["score"].to_numpy(),
        fraud=fraud,
        labelled=labelled,
        clusters=tuple(_codes(table[name]) for name in names),
    )


def _codes(column: pa.ChunkedArray) -> Int64:
    """Return a number for each text; a null has one of its own."""
    code = column.combine_chunks().dictionary_encode().indices
    alone = -1 - np.arange(len(code))
    missing = np.asarray(code.is_null())
    return np.where(missing, alone, np.asarray(code.fill_null(0))).astype(np.int64)


def _met(judged: Judged, wanted: list[tuple[int, float]]) -> dict[str, Any]:
    legitimate = judged.take(~judged.fraud)
    return {
        "mature": len(judged),
        "labelled": int(judged.labelled.sum()),
        "frauds": int(judged.fraud.sum()),
        "legitimate": len(legitimate),
        "false_positives": [
            asdict(promise(points, share, rate(legitimate.points >= points, legitimate.clusters)))
            for points, share in wanted
            if len(legitimate)
        ],
        "calibration": calibration(judged.probability, judged.fraud) if len(judged) else None,
    }
