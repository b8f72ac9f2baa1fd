"""Files through the same engine and pipeline as the worker's. Nothing here computes a feature.

Labels are learned as they became known: each before the batch in whose stream time it is first seen, so that a
replay has the values that the worker served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.bus.files import RejectedRow, count_rows, read_transactions
from fraudstream.bus.place import Place
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.features import FeatureEngine, Observed
from fraudstream.features.engine import FLAG_REPEATED
from fraudstream.features.repeats import Recognised
from fraudstream.ledger import Flags, Labels
from fraudstream.scoring import Model, Pipeline, Scored
from fraudstream.scoring.decide import amounts, expected_loss
from fraudstream.sections import BEFORE_ALL_MS

Advance = Callable[[str, int, int | None], None]  # what, how many more, of how many
EXAMPLES_MAX = 100
ENTITY_COLUMN = "entity_"
SEGMENT_COLUMN = "segment"


@dataclass(frozen=True, slots=True)
class Observation:
    """One batch of files behind the engine.

    Attributes:
        batch: all of it; `fresh` without the repeats.
        recognised: which rows of `batch` are which.
        observed: of the rows of `fresh`.
        rejected: rows that are not transactions; they are in no batch.
    """

    batch: TransactionBatch
    fresh: TransactionBatch
    recognised: Recognised
    observed: Observed
    rejected: list[RejectedRow]


@dataclass(frozen=True, slots=True)
class LogFiles:
    """What is replayed.

    Attributes:
        transactions: a file or a folder.
        labels: what features may see, each in its time; None: nothing.
        fields: those that somebody looks at besides the features.
        end_ms: transactions from here on are not there; None: all are.
        begin_ms: of an archive, the dates before this instant's are not read; None: all are.
    """

    transactions: Place
    labels: Labels | None = None
    fields: frozenset[str] = frozenset()
    end_ms: int | None = None
    begin_ms: int | None = None


def observe_files(
    files: LogFiles,
    engine: FeatureEngine,
    wanted: Callable[[TransactionBatch], bool],
    advance: Advance,
) -> Iterator[Observation]:
    """Yield the features of the files' transactions, in log order.

    Args:
        wanted: batches for which it is False only move the state on; none is yielded for them, unless
            with it come rows that are not transactions.
        advance: told of each batch, for a progress bar.
    """
    path, labels = files.transactions, files.labels
    total = count_rows(path, files.begin_ms)
    decoder = Decoder(engine.catalog.event, engine.catalog.fields_used | files.fields)
    learned_ms = BEFORE_ALL_MS
    for batch, rejected in read_transactions(path, decoder, begin_ms=files.begin_ms):
        advance("replaying transactions", len(batch) + len(rejected), total)
        if files.end_ms is not None:
            batch = batch.take(np.flatnonzero(batch.time_ms < files.end_ms))
        if labels is not None and engine.labels is not None and len(batch):
            newest_ms = max(learned_ms, int(batch.time_ms[-1]))
            engine.learn(labels.known_within(learned_ms, newest_ms))
            learned_ms = newest_ms
        recognised = engine.recognise(batch)
        fresh = recognised.fresh_of(batch)
        if rejected or wanted(batch):
            yield Observation(batch, fresh, recognised, engine.observe(fresh), rejected)
        else:
            engine.absorb(fresh)


@dataclass(slots=True)
class ReplayCounts:
    """What a replay did."""

    transactions: int = 0
    repeated: int = 0
    alerts: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to replay, and where to.

    Attributes:
        output: Parquet file to write.
        labels: files of what became known; None: features see no label.
        from_ms: earlier transactions only warm the state; None: there are none.
        end_ms: transactions from here on are not there; None: all are.
        with_features: also write the catalogue's columns.
        challenger: version, alias or folder of a model; also write what it would decide. Empty: none.
        segment: field whose value is written as `segment`; empty: none.
    """

    transactions: Place
    output: Path
    labels: Place | None = None
    from_ms: int | None = None
    end_ms: int | None = None
    with_features: bool = False
    challenger: str = ""
    segment: str = ""


def replay_to_parquet(
    plan: ReplayPlan,
    labels: Labels | None,
    pipeline: Pipeline,
    advance: Advance,
    challenger: Model | None = None,
) -> tuple[ReplayCounts, list[RejectedRow]]:
    """Score files offline and write one row a transaction.

    Args:
        challenger: also write what it would decide.

    Returns:
        The counts, and the first rows that are not transactions (at most EXAMPLES_MAX).
    """
    counts = ReplayCounts()
    examples: list[RejectedRow] = []
    start_ms = BEFORE_ALL_MS if plan.from_ms is None else plan.from_ms
    decided_from_ms = start_ms - pipeline.engine.settings.repeat_horizon_ms  # what may be repeated later
    schema = _schema(pipeline, plan, challenger is not None)
    temporary = plan.output.with_name(f".{plan.output.name}.part")

    def wanted(batch: TransactionBatch) -> bool:
        return bool((batch.time_ms >= decided_from_ms).any())

    fields = frozenset(pipeline.policy.fields_used | {plan.segment} - {""})
    files = LogFiles(plan.transactions, labels, fields, plan.end_ms)
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for seen in observe_files(files, pipeline.engine, wanted, advance):
            counts.rejected += len(seen.rejected)
            examples.extend(seen.rejected[: EXAMPLES_MAX - len(examples)])
            if not len(seen.batch):
                continue
            scored = _decided(seen, pipeline)
            rows = np.flatnonzero(scored.batch.time_ms >= start_ms)
            said = _said(challenger, scored, pipeline) if challenger is not None else []
            if plan.segment:
                said.insert(0, pa.array(scored.batch.texts[plan.segment], pa.string()))
            writer.write_table(_table(scored, said, rows, pipeline, schema))
            counts.transactions += len(rows)
            counts.repeated += int(_repeated(scored)[rows].sum())
            counts.alerts += int(scored.alerting[rows].sum())
    temporary.replace(plan.output)
    return counts, examples


def _decided(seen: Observation, pipeline: Pipeline) -> Scored:
    """Score what is new, and give what is repeated its first decision again."""
    recognised = seen.recognised
    scored = pipeline.score(seen.fresh, seen.observed)
    decided = pipeline.remember(recognised.entries[recognised.fresh], scored)
    rows = recognised.again
    if not len(rows):
        return scored
    first = recognised.first_with(recognised.fresh, decided)
    again = pipeline.decide_again(seen.batch.take(rows), recognised.entries[rows], first).scored
    order = np.argsort(np.concatenate([recognised.fresh, rows]))
    names = ("X", "raw", "probability", "points", "decided", "alerting", "flag_bits")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(scored, name), getattr(again, name)])[order] for name in names
    }
    return Scored(batch=seen.batch, **columns)


def _repeated(scored: Scored) -> Any:
    return (scored.flag_bits & FLAG_REPEATED) != 0


def entity_columns(event: EventType) -> dict[str, str]:
    """Return the columns that name entities, with their fields; a pair has none, its parts do."""
    return {ENTITY_COLUMN + n: field for n, field in event.entities.items() if isinstance(field, str)}


def known_of_scored(table: pa.Table, labels: Labels, event: EventType) -> tuple[Flags, Flags, Int64]:
    """Return which rows of a replay's output are known as fraud, of which anything is known, and since when.

    Raises:
        ConfigError: it holds no column of an entity that a label is of.
    """
    labels.fields(event)
    outcomes = labels.outcomes()
    if missing := [name for name in outcomes.wide if ENTITY_COLUMN + name not in table.column_names]:
        raise ConfigError(
            f"labels of {missing[0]}: the scored files have no column {ENTITY_COLUMN}{missing[0]}"
        )
    keys = {name: table[ENTITY_COLUMN + name].to_pylist() for name in outcomes.wide}
    return outcomes.said_of(table["transaction_id"].to_pylist(), table["event_time_ms"].to_numpy(), keys)


def _said(challenger: Model, scored: Scored, pipeline: Pipeline) -> list[pa.Array]:
    """Return the challenger's columns; null where a first decision was recalled, and no features were scored."""
    said = pipeline.scored_by(challenger, scored.batch, Observed(scored.X, scored.flag_bits))
    recalled = np.isnan(scored.raw)
    outcomes = np.array(pipeline.policy.names)[said.decided]
    return [pa.array(column, mask=recalled) for column in (said.probability, said.points, outcomes, said.raw)]


def _schema(pipeline: Pipeline, plan: ReplayPlan, challenged: bool) -> pa.Schema:
    columns = [
        ("transaction_id", pa.string()),
        ("event_time_ms", pa.int64()),
        ("score", pa.float64()),
        ("risk_points", pa.int64()),
        ("outcome", pa.string()),
        ("raw_score", pa.float64()),
        ("repeated", pa.bool_()),
        ("rule", pa.string()),
        ("expected_loss", pa.float64()),
        ("amount_major", pa.float64()),
        *((name, pa.string()) for name in entity_columns(pipeline.policy.event)),
    ]
    if plan.segment:
        columns.append((SEGMENT_COLUMN, pa.string()))
    if challenged:
        columns += [
            ("challenger_score", pa.float64()),
            ("challenger_risk_points", pa.int64()),
            ("challenger_outcome", pa.string()),
            ("challenger_raw_score", pa.float64()),
        ]
    if plan.with_features:
        taken = {name for name, _ in columns}
        names = pipeline.engine.catalog.names
        columns += [(f"feature_{name}" if name in taken else name, pa.float64()) for name in names]
    return pa.schema(columns)


def _table(
    scored: Scored, said: list[pa.Array], rows: Int64, pipeline: Pipeline, schema: pa.Schema
) -> pa.Table:
    policy = pipeline.policy
    outcomes, rules = policy.names, policy.texts
    decided = scored.decided[rows].tolist()
    entities = entity_columns(policy.event).values()
    columns = [
        [scored.batch.ids[row] for row in rows.tolist()],
        scored.batch.time_ms[rows],
        scored.probability[rows],
        scored.points[rows],
        [outcomes[i] for i in decided],
        scored.raw[rows],
        _repeated(scored)[rows],
        [rules[i] for i in decided],
        expected_loss(scored.batch, scored.probability, policy.event)[rows],
        amounts(scored.batch, policy.event)[rows],
        *([scored.batch.texts[field][row] for row in rows.tolist()] for field in entities),
        *(column.take(pa.array(rows)) for column in said),
        *scored.X[rows].T,
    ]
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=False)], schema
    )
