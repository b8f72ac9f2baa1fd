"""Were the features that were served those that a replay gives? Measured, on what stands in the topics.

Each run (see `runs`) is replayed by itself, on an engine that has seen nothing: the transactions that its state held
before it served, in event order; then those that it served, in the order in which it served them. What it says of
each row is compared with the fingerprint in the decision and, where there is a feature log, with the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, Float64, Int64, TransactionBatch
from fraudstream.bus.formats import new_reader
from fraudstream.decode import Decoder
from fraudstream.features import FeatureEngine
from fraudstream.features.labels import KnownLabel
from fraudstream.scoring.fingerprint import NAN, fingerprints
from fraudstream.sections import Settings
from fraudstream.stream.featurelog import column_names
from fraudstream.stream.recorded import (
    ROWS_A_CHUNK,
    Entry,
    Position,
    Read,
    Run,
    Transactions,
    read_dead_letters,
    read_known,
    read_runs,
    table_of,
)
from fraudstream.stream.runs import partitions_of
from fraudstream.stream.serve import absorb

EXAMPLES_MAX = 10


@dataclass(slots=True)
class Audit:
    """What was found.

    Attributes:
        matched, mismatched: decisions whose features a replay gives, or gives otherwise.
        missing: transactions that were passed over, and decisions that nothing can be compared with: their
            transaction is gone, or they have no fingerprint.
        repeated: decisions that only say the first one again.
        superseded: decisions that were under way in a crash and whose order is not known; a later run decided again.
        before, waiting: transactions before the first and behind the last decision of their partition.
        features: by name, how many values matched, mismatched, are missing from the feature log; empty without one.
        examples: the first decisions that do not match or are missing, with their position and run.
    """

    runs: int = 0
    matched: int = 0
    mismatched: int = 0
    missing: int = 0
    repeated: int = 0
    superseded: int = 0
    before: int = 0
    waiting: int = 0
    features: dict[str, list[int]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Tell whether nothing mismatched and nothing is missing."""
        wrong = sum(mismatched + missing for _, mismatched, missing in self.features.values())
        return not (self.mismatched or self.missing or wrong)

    def example(self, what: str, position: Position, run: str) -> None:
        """Keep one of the first."""
        if len(self.examples) < EXAMPLES_MAX:
            partition, offset = position
            self.examples.append({"what": what, "partition": partition, "offset": offset, "run": run})


def audit(
    settings: Settings, warmed: Callable[[], FeatureEngine], read: Read, advance: Callable[[int], None]
) -> Audit:
    """Replay what was served and compare.

    Args:
        warmed: makes an engine as the worker's was when it began.
        read: reads a topic up to its current end.
        advance: told how many decisions more have been compared.

    Memory: all transactions and the feature log as they stand in the topics.
    """
    topics, found = settings.topics, Audit()
    runs = read_runs(read, topics)  # first: so the transactions of all of them are there
    catalog = warmed().catalog
    decoder = Decoder(settings.event, catalog.fields_used)
    transactions = Transactions(read(topics.transactions), decoder, new_reader(settings))
    dead, labels = read_dead_letters(read, topics), read_known(read, topics, settings.labels.ranks)
    if any(run.log for run in runs):
        found.features = {name: [0, 0, 0] for name in catalog.names}
    _account(runs, transactions, dead, found)
    runs = [run for run in runs if run.name]
    found.runs = len(runs)
    later: set[Position] = set()
    for number in reversed(range(len(runs))):
        run = runs[number]
        held = _held_before(runs, number, transactions)
        _Replay(run, warmed(), transactions, later, found).compare(labels, held, advance)
        for entry in run.entries[run.sound :]:
            if entry.position in later:
                found.superseded += 1
            elif number == len(runs) - 1:
                found.waiting += 1
            else:
                found.missing += 1
                found.example("not decided again after a crash", entry.position, run.name)
        later.update(entry.position for entry in run.entries)
    return found


def _account(runs: list[Run], transactions: Transactions, dead: set[Position], found: Audit) -> None:
    """Find transactions that have neither a decision nor a dead letter."""
    decided = {entry.position for run in runs for entry in run.entries}
    ends: dict[int, tuple[int, int]] = {}
    for partition, offset in decided:
        low, high = ends.get(partition, (offset, offset))
        ends[partition] = (min(low, offset), max(high, offset))
    for position in zip(transactions.partition.tolist(), transactions.offset.tolist(), strict=True):
        if position in decided or position in dead:
            continue
        low, high = ends.get(position[0], (0, -1))
        if position[1] > high:
            found.waiting += 1
        elif position[1] < low:
            found.before += 1
        else:
            found.missing += 1
            found.example("no decision", position, "")


def _held_before(runs: list[Run], number: int, transactions: Transactions) -> npt.NDArray[np.bool_]:
    """Return which transactions a run's state held before it served, [n].

    Those below the first that it served of their partition; where it served none, those that earlier runs served.
    """
    run, wanted = runs[number], partitions_of(runs[number].name)
    first = run.first_offsets()
    earlier: dict[int, int] = {}
    for other in runs[:number]:
        for entry in other.entries:
            partition, offset = entry.position
            earlier[partition] = max(offset + 1, earlier.get(partition, 0))
    held = np.zeros(len(transactions), bool)
    for partition in np.unique(transactions.partition).tolist():
        if wanted is not None and partition not in wanted:
            continue
        below = first.get(partition, earlier.get(partition, 0))
        held |= (transactions.partition == partition) & (transactions.offset < below)
    return held


class _Replay:
    """One run on its own engine."""

    def __init__(
        self,
        run: Run,
        engine: FeatureEngine,
        transactions: Transactions,
        later: set[Position],
        found: Audit,
    ) -> None:
        self._run = run
        self._later = later
        self._engine = engine
        self._transactions = transactions
        self._found = found
        self._columns = column_names(engine.catalog)
        self._table: tuple[bytes, Any] = (b"", None)

    def compare(
        self, labels: list[KnownLabel], held: npt.NDArray[np.bool_], advance: Callable[[int], None]
    ) -> None:
        """Bring the engine to where the run began, then replay and compare what the run served."""
        self._engine.learn(labels)
        before = self._transactions.in_event_order(held)
        for start in range(0, len(before), ROWS_A_CHUNK):
            absorb(self._engine, self._transactions.chunk(before[start : start + ROWS_A_CHUNK]))
        for entries, rows in self._chunks():
            batch = self._transactions.chunk(rows)
            peeked = entries[0].repeated
            seen = self._engine.peek(batch) if peeked else self._engine.observe(batch)
            self._judge(entries, batch, seen.X)
            advance(len(entries))

    def _chunks(self) -> list[tuple[list[Entry], Int64]]:
        """Cut what was served into parts in event order; a repeated row stands alone, as it was only looked at."""
        chunks: list[tuple[list[Entry], list[int]]] = []
        newest_ms, alone = MISSING, True
        for entry in self._run.entries[: self._run.sound]:
            if entry.repeated and not entry.features_hash:
                self._found.repeated += 1
                continue
            row = self._transactions.row(entry.position)
            if row is None or self._transactions.time_ms[row] == MISSING or not entry.features_hash:
                self._found.missing += 1
                self._found.example("nothing to compare", entry.position, self._run.name)
                if row is None or self._transactions.time_ms[row] == MISSING:
                    continue
            time_ms = int(self._transactions.time_ms[row])
            if alone or entry.repeated or time_ms < newest_ms or len(chunks[-1][0]) >= ROWS_A_CHUNK:
                chunks.append(([], []))
            chunks[-1][0].append(entry)
            chunks[-1][1].append(row)
            newest_ms, alone = time_ms, entry.repeated
        return [(entries, np.array(rows, np.int64)) for entries, rows in chunks]

    def _judge(self, entries: list[Entry], batch: TransactionBatch, X: Float64) -> None:
        """Count what is the same and what is not."""
        for entry, now in zip(entries, fingerprints(X), strict=True):
            if entry.features_hash == now:
                self._found.matched += 1
            elif entry.features_hash:
                self._found.mismatched += 1
                self._found.example("other features", entry.position, self._run.name)
        if self._run.log:
            self._judge_values(entries, batch, X)

    def _judge_values(self, entries: list[Entry], batch: TransactionBatch, X: Float64) -> None:
        """Compare with the feature log, column by column.

        What a later run decided again may not have come into the log before the crash.
        """
        sequence = np.array([entry.sequence for entry in entries])
        logged = np.zeros(X.shape, bool)
        same = np.ones(X.shape, bool)
        for first, last, octets in self._run.log:
            if first > sequence[-1] or last < sequence[0]:
                continue
            table = self._read(octets)
            numbers = table["sequence"].to_numpy()
            at = np.minimum(np.searchsorted(sequence, numbers), len(sequence) - 1)
            here = np.flatnonzero(
                (sequence[at] == numbers)
                & (batch.partition[at] == table["partition"].to_numpy())
                & (batch.offset[at] == table["offset"].to_numpy())
            )
            rows = at[here]
            for column, name in enumerate(self._columns):
                if name in table.column_names:
                    values = np.asarray(table[name].to_numpy(), np.float64)[here]
                    logged[rows, column] = True
                    same[rows, column] &= _bits(values) == _bits(X[rows, column])
        matched, mismatched = (logged & same).sum(axis=0), (logged & ~same).sum(axis=0)
        ours = np.array([entry.position not in self._later for entry in entries])
        missing = (~logged & ours[:, None]).sum(axis=0)
        for column, counts in enumerate(self._found.features.values()):
            counts[0] += int(matched[column])
            counts[1] += int(mismatched[column])
            counts[2] += int(missing[column])

    def _read(self, octets: bytes) -> Any:
        if self._table[0] is not octets:
            self._table = (octets, table_of(octets))
        return self._table[1]


def _bits(values: Float64) -> Int64:
    """Return the bits of each value, any NaN like any other."""
    bits = np.ascontiguousarray(values).view(np.int64)
    return np.where(np.isnan(values), NAN, bits)
