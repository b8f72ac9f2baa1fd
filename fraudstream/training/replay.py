"""Files through the same engine and pipeline as the worker's. Nothing here computes a feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.batch import TransactionBatch
from fraudstream.bus.files import RejectedRow, count_rows, read_transactions
from fraudstream.decode import Decoder
from fraudstream.features import FeatureEngine, Observed
from fraudstream.scoring import Pipeline, Scored

Advance = Callable[[str, int, int | None], None]  # what, how many more, of how many
EXAMPLES_MAX = 100


@dataclass(frozen=True, slots=True)
class Observation:
    """One batch of files behind the engine.

    Attributes:
        rejected: rows that are not transactions; they are in no batch.
    """

    batch: TransactionBatch
    observed: Observed
    rejected: list[RejectedRow]


def observe_files(
    path: Path, engine: FeatureEngine, wanted: Callable[[TransactionBatch], bool], advance: Advance
) -> Iterator[Observation]:
    """Yield the features of the files' transactions, in log order.

    Args:
        wanted: batches for which it is False only move the state on; none is yielded for them.
        advance: told of each batch, for a progress bar.
    """
    total = count_rows(path)
    decoder = Decoder(engine.catalog.event, engine.catalog.fields_used)
    for batch, rejected in read_transactions(path, decoder):
        advance("replaying transactions", len(batch) + len(rejected), total)
        if wanted(batch):
            yield Observation(batch, engine.observe(batch), rejected)
            continue
        engine.absorb(batch)
        if rejected:
            empty = batch.take(np.empty(0, np.int64))
            yield Observation(empty, engine.observe(empty), rejected)


@dataclass(slots=True)
class ReplayCounts:
    """What a replay did."""

    transactions: int = 0
    alerts: int = 0
    rejected: int = 0


def replay_to_parquet(
    path: Path,
    pipeline: Pipeline,
    out: Path,
    from_ms: int | None,
    with_features: bool,
    advance: Advance,
) -> tuple[ReplayCounts, list[RejectedRow]]:
    """Score files offline and write one row a transaction.

    Args:
        from_ms: earlier transactions only warm the state.
        with_features: also write the catalogue's columns.

    Returns:
        The counts, and the first rows that are not transactions (at most EXAMPLES_MAX).
    """
    counts = ReplayCounts()
    examples: list[RejectedRow] = []
    start = from_ms if from_ms is not None else np.iinfo(np.int64).min
    schema = _schema(pipeline, with_features)
    temporary = out.with_name(f".{out.name}.part")
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for seen in observe_files(path, pipeline.engine, lambda b: bool((b.time_ms >= start).any()), advance):
            counts.rejected += len(seen.rejected)
            examples.extend(seen.rejected[: EXAMPLES_MAX - len(examples)])
            rows = np.flatnonzero(seen.batch.time_ms >= start)
            if not len(rows):
                continue
            observed = Observed(seen.observed.X[rows], seen.observed.flags[rows])
            scored = pipeline.score(seen.batch.take(rows), observed)
            writer.write_table(_table(scored, pipeline, schema))
            counts.transactions += len(rows)
            counts.alerts += int(scored.alerting.sum())
    temporary.replace(out)
    return counts, examples


def _schema(pipeline: Pipeline, with_features: bool) -> pa.Schema:
    columns = [
        ("transaction_id", pa.string()),
        ("event_time_ms", pa.int64()),
        ("score", pa.float64()),
        ("risk_points", pa.int64()),
        ("outcome", pa.string()),
        ("raw_score", pa.float64()),
    ]
    if with_features:
        taken = {name for name, _ in columns}
        names = pipeline.engine.catalog.names
        columns += [(f"feature_{name}" if name in taken else name, pa.float64()) for name in names]
    return pa.schema(columns)


def _table(scored: Scored, pipeline: Pipeline, schema: pa.Schema) -> pa.Table:
    outcomes = pipeline.policy.names
    columns = [
        scored.batch.ids,
        scored.batch.time_ms,
        scored.probability,
        scored.points,
        [outcomes[i] for i in scored.decided.tolist()],
        scored.raw,
        *scored.X.T,
    ]
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=False)], schema
    )
