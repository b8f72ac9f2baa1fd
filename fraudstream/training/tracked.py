"""Decisions in files and labels -> the false-positive rate by model and day, as of an instant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.bus.files import columns_of, read_table
from fraudstream.bus.place import Place
from fraudstream.clock import iso, now_ms
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.ledger import Labels, newest_mature_ms, read_labels
from fraudstream.scoring.tracking import NEVER_MS, Tracked, Tracker
from fraudstream.sections import Settings
from fraudstream.training.replay import SEGMENT_COLUMN, Advance, entity_columns, known_of_scored
from fraudstream.training.segments import codes_of

ANY_MODEL = "all"  # of files that do not say which model decided


def quality_of_files(
    settings: Settings, scored: Place, labels: Place, as_of_ms: int | None, advance: Advance
) -> dict[str, Any]:
    """Track what was decided: counts where everything is mature, estimates where reports are still to come.

    Args:
        scored: what `fraudstream replay` wrote, or other files with its columns `transaction_id`,
            `event_time_ms` and `outcome`; with a column `model` each model is tracked by itself, with `segment`
            also each segment.
        as_of_ms: nothing known later is used; None: now.

    Raises:
        ConfigError: no transaction is there by then.
    """
    as_of_ms = now_ms() if as_of_ms is None else as_of_ms
    table = _decisions(settings, scored, as_of_ms)
    alerting = {outcome.name for outcome in settings.outcomes if outcome.alert}
    known = read_labels(labels, settings.labels.ranks).as_of(as_of_ms)
    reported_ms, labelled = reports_of(table, known, settings.event)
    tracked = Tracked(
        time_ms=table["event_time_ms"].to_numpy(),
        alerted=np.array([outcome in alerting for outcome in table["outcome"].to_pylist()], np.bool_),
        reported_ms=reported_ms,
        labelled=labelled,
        clusters=tuple(codes_of(table[name])[0] for name in table.column_names if name.startswith("entity_")),
    )
    model = np.array(
        table["model"].to_pylist() if "model" in table.column_names else [ANY_MODEL] * len(tracked)
    )
    segment = None
    if SEGMENT_COLUMN in table.column_names:
        segment = np.array([value or "" for value in table[SEGMENT_COLUMN].to_pylist()])
    names = np.unique(model).tolist()
    maturity_ms = settings.labels.maturity_ms
    found = {}
    for name in names:
        rows = model == name
        its_segments = None if segment is None else segment[rows]
        found[name] = _of_model(tracked.take(rows), its_segments, as_of_ms, maturity_ms)
        advance("tracking models", 1, len(names))
    return {
        "as_of": iso(as_of_ms),
        "mature_before": iso(newest_mature_ms(as_of_ms, maturity_ms)),
        "alerting_outcomes": sorted(alerting),
        "models": found,
    }


def reports_of(table: pa.Table, known: Labels, event: EventType) -> tuple[Any, Any]:
    """Return when each transaction was reported as the fraud it still is, [n], and whether anything is known, [n].

    A fraud that was taken back is none. One that is reported again after that counts from then.
    """
    fraud_now, labelled, since_ms = known_of_scored(table, known, event)
    reported: dict[str, int] = {}
    ranks: dict[str, int] = {}
    columns = (known.fraud.tolist(), known.known_at_ms.tolist(), known.rank.tolist())
    for transaction_id, fraud, at_ms, rank in zip(known.ids.to_pylist(), *columns, strict=True):
        if rank < ranks.setdefault(transaction_id, rank):
            continue
        ranks[transaction_id] = rank
        if not fraud or reported.get(transaction_id, NEVER_MS) == NEVER_MS:
            reported[transaction_id] = at_ms if fraud else NEVER_MS
    ids = table["transaction_id"].to_pylist()
    own_ms = np.array([reported.get(transaction_id, NEVER_MS) for transaction_id in ids], np.int64)
    return np.where(fraud_now, np.minimum(own_ms, since_ms), NEVER_MS), labelled


def _decisions(settings: Settings, scored: Place, as_of_ms: int) -> pa.Table:
    """Return the first decisions of the transactions up to an instant."""
    present = columns_of(scored)
    columns = {"transaction_id": pa.large_string(), "event_time_ms": pa.int64(), "outcome": pa.string()}
    optional = {"model": pa.string(), SEGMENT_COLUMN: pa.string(), "repeated": pa.bool_()}
    optional |= dict.fromkeys(entity_columns(settings.event), pa.large_string())
    table = read_table(scored, columns | {name: kind for name, kind in optional.items() if name in present})
    for name in columns:
        if empty := table[name].null_count:
            raise ConfigError(
                f"{scored}: {name}: {empty} of the rows have none; give what `fraudstream replay` wrote"
            )
    rows = table["event_time_ms"].to_numpy() <= as_of_ms
    if "repeated" in table.column_names:
        rows &= ~table["repeated"].to_numpy()
    if not rows.any():
        raise ConfigError(f"{scored}: none of {len(table)} transactions is there by {iso(as_of_ms)}")
    return table.filter(pa.array(rows))


def _of_model(
    tracked: Tracked, segment: npt.NDArray[np.str_] | None, as_of_ms: int, maturity_ms: int
) -> dict[str, Any]:
    tracker = Tracker(tracked, as_of_ms, maturity_ms)
    mature = as_of_ms - tracked.time_ms >= maturity_ms

    def parts(within: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return {
            name: asdict(tracker.figures(tracked.take(rows))) if rows.any() else None
            for name, rows in {"mature": mature & within, "provisional": ~mature & within}.items()
        }

    named = [] if segment is None else np.unique(segment).tolist()
    return {
        **parts(np.ones(len(tracked), np.bool_)),
        "segments": {name: parts(segment == name) for name in named},
        "days": [{"day": iso(day.begins_ms)[:10], **asdict(day.figures)} for day in tracker.days(tracked)],
    }
