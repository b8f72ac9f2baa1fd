"""The label ledger: who said what of which transactions, and when it was known. It only ever grows.

It is a folder of Parquet, NDJSON or CSV files (or one file). A row is one label:

- of a transaction (`transaction_id`), or of all transactions of an entity (`entity`, `key`) with event times in
  [`from`, `to`): "all of this card since Tuesday". Without `to` it speaks of what happened before it was known.
- `label`: `fraud` or `legit`; `known_at`: when it was known; `source`: who says so.

Nothing is taken back by changing a row: a reversal is a later row. Which label counts, everywhere:

1. Only those known at the instant that is asked for.
2. Of those, the ones of the source that `labels.precedence` names first; those that it does not name come last.
3. Of those, the ones of the transaction itself before those of an entity.
4. Of those, the one with the latest `known_at`; at once, the one that stands later.

A transaction without a label is legitimate once it is mature: once `labels.maturity` has passed since it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.bus.files import read_table
from fraudstream.bus.place import Place
from fraudstream.clock import now_ms
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.features.labels import RANK_UNIT, KnownLabel

Flags = npt.NDArray[np.bool_]

LABEL_COLUMNS = {
    "transaction_id": pa.large_string(),
    "label": pa.string(),
    "known_at": pa.int64(),
    "source": pa.string(),
    "entity": pa.string(),
    "key": pa.large_string(),
    "from": pa.int64(),
    "to": pa.int64(),
}
_OPTIONAL = ("transaction_id", "source", "entity", "key", "from", "to")
_UNSAID = np.iinfo(np.int64).min


class EntityLabel(NamedTuple):
    """What became known of all transactions of an entity with event times in [from, to)."""

    entity: str
    key: str
    from_ms: int
    to_ms: int
    fraud: bool
    known_at_ms: int
    rank: int


@dataclass(frozen=True, slots=True)
class Labels:
    """What became known, in the order of `known_at`; what became known at once stands as in the files.

    Attributes:
        ids: of the transactions, [n].
        fraud: [n].
        known_at_ms: Unix milliseconds UTC, [n], ascending.
        rank: of the source, [n]; the highest prevails.
        of_entities: the labels of whole entities, in the same order. Features do not see them.
    """

    ids: pa.Array
    fraud: Flags
    known_at_ms: Int64
    rank: Int64
    of_entities: tuple[EntityLabel, ...] = ()

    def as_of(self, instant_ms: int) -> Labels:
        """Return what was known at an instant."""
        end = int(np.searchsorted(self.known_at_ms, instant_ms, side="right"))
        wide = tuple(label for label in self.of_entities if label.known_at_ms <= instant_ms)
        return Labels(self.ids.slice(0, end), self.fraud[:end], self.known_at_ms[:end], self.rank[:end], wide)

    def outcomes(self) -> Outcomes:
        """Return which label counts, of each transaction."""
        order = np.lexsort((self.known_at_ms, self.rank))
        words = 2 * (self.rank * RANK_UNIT + self.known_at_ms) + self.fraud
        ids = self.ids.take(pa.array(order)).to_pylist()
        wide: dict[str, dict[str, list[EntityLabel]]] = {}
        for label in sorted(self.of_entities, key=lambda label: (label.rank, label.known_at_ms)):
            wide.setdefault(label.entity, {}).setdefault(label.key, []).append(label)
        return Outcomes(dict(zip(ids, words[order].tolist(), strict=True)), wide)

    def fields(self, event: EventType) -> frozenset[str]:
        """Return the fields by which the labels of entities find their transactions.

        Raises:
            ConfigError: the event type has no such entity, or it is one of several fields.
        """
        single = {name: field for name, field in event.entities.items() if isinstance(field, str)}
        used = {label.entity for label in self.of_entities}
        if unknown := used - single.keys():
            raise ConfigError(
                f'labels: entity "{min(unknown)}": the event type has none of one field; give {", ".join(single)}'
            )
        return frozenset(single[name] for name in used)

    def known_within(self, after_ms: int, until_ms: int) -> list[KnownLabel]:
        """Return what features learn after one instant and not after the other, in that order."""
        start, end = np.searchsorted(self.known_at_ms, (after_ms, until_ms), side="right").tolist()
        ids = self.ids.slice(start, end - start).to_pylist()
        rest = (column[start:end].tolist() for column in (self.fraud, self.known_at_ms, self.rank))
        return [*map(KnownLabel, ids, *rest)]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The label that counts, of each transaction.

    Attributes:
        own: by transaction id twice its weight (rank, then `known_at`), and 1 for fraud.
        wide: by entity and key, the labels of entities; the last that covers a transaction prevails.
    """

    own: dict[str, int]
    wide: dict[str, dict[str, list[EntityLabel]]]

    def of(
        self, ids: Sequence[str], time_ms: Int64, keys: Mapping[str, Sequence[str | None]]
    ) -> tuple[Flags, Flags]:
        """Return which transactions are known as fraud, and of which anything is known, [n] each.

        Args:
            keys: by entity the one of each transaction; those in `wide` are needed.
        """
        fraud, labelled, _ = self.said_of(ids, time_ms, keys)
        return fraud, labelled

    def said_of(
        self, ids: Sequence[str], time_ms: Int64, keys: Mapping[str, Sequence[str | None]]
    ) -> tuple[Flags, Flags, Int64]:
        """Return the same, and when the label that counts was known, [n], 0 where there is none."""
        words = np.fromiter(map(self.own.get, ids, repeat(_UNSAID)), np.int64, len(ids))
        fraud, labelled = (words != _UNSAID) & (words % 2 == 1), words != _UNSAID
        rank = np.where(labelled, words // (2 * RANK_UNIT), -1)
        found: dict[int, EntityLabel] = {}
        for entity, labels in self.wide.items():
            for row, key in enumerate(keys[entity]):
                for label in labels.get(key, ()) if key is not None else ():
                    covers = label.from_ms <= time_ms[row] < label.to_ms and label.rank > rank[row]
                    if covers and (row not in found or _weight(label) >= _weight(found[row])):
                        found[row] = label
        known_at_ms = np.where(labelled, words // 2 % RANK_UNIT, 0)
        for row, label in found.items():
            fraud[row], labelled[row], known_at_ms[row] = label.fraud, True, label.known_at_ms
        return fraud, labelled, known_at_ms

    def of_batch(self, batch: TransactionBatch, event: EventType) -> tuple[Flags, Flags]:
        """Return the same of a batch that holds the fields of `Labels.fields`."""
        keys = {name: batch.texts[event.entity_fields(name)[0]] for name in self.wide}
        return self.of(batch.ids, batch.time_ms, keys)


def _weight(label: EntityLabel) -> tuple[int, int]:
    return label.rank, label.known_at_ms


def newest_mature_ms(as_of_ms: int, maturity_ms: int) -> int:
    """Return the latest event time of which silence means legitimate, at an instant."""
    return as_of_ms - maturity_ms


def all_mature_ms(newest_ms: int, maturity_ms: int) -> int:
    """Return when all up to an event time is mature, or now if that is earlier."""
    return min(now_ms(), newest_ms + maturity_ms)


def silences(labelled_ms: Int64, window_ms: tuple[int, int], silence_ms: int) -> list[tuple[int, int]]:
    """Return the stretches (from, to) of a window, longer than `silence_ms`, without one labelled transaction.

    No label source was connected then, rather than no fraud committed.

    Args:
        labelled_ms: event times of the transactions of which anything is known, in any order.
    """
    start_ms, end_ms = window_ms
    inside = labelled_ms[(labelled_ms >= start_ms) & (labelled_ms < end_ms)]
    times = np.concatenate([[start_ms], np.sort(inside), [end_ms]])
    ends = np.flatnonzero(np.diff(times) > silence_ms)
    return [(int(times[i]), int(times[i + 1])) for i in ends.tolist()]


def read_labels(path: Place, ranks: Mapping[str, int]) -> Labels:
    """Read the labels of files; all of them stand in memory.

    Args:
        ranks: of the sources, as `labels.precedence` gives them; 0 for the others.

    Raises:
        ConfigError: a label is neither `fraud` nor `legit`, a value is missing, or a row is neither of a
            transaction nor of an entity.
    """
    table = read_ledger(path)
    known_at_ms = table["known_at"].to_numpy()
    table = table.take(pa.array(np.argsort(known_at_ms, kind="stable")))
    by_source = pc.fill_null(table["source"], "").combine_chunks().dictionary_encode()
    rank_of = np.array([ranks.get(source, 0) for source in by_source.dictionary.to_pylist()], np.int64)
    rank = rank_of[by_source.indices.to_numpy()]
    own = pc.is_valid(table["transaction_id"]).to_numpy()
    rows = table.filter(pa.array(own))
    wide = table.filter(pa.array(~own)).to_pylist()
    return Labels(
        ids=rows["transaction_id"].combine_chunks(),
        fraud=pc.equal(rows["label"], "fraud").to_numpy(),
        known_at_ms=rows["known_at"].to_numpy(),
        rank=rank[own],
        of_entities=tuple(
            EntityLabel(
                entity=row["entity"],
                key=row["key"],
                from_ms=row["from"],
                to_ms=row["known_at"] if row["to"] is None else row["to"],
                fraud=row["label"] == "fraud",
                known_at_ms=row["known_at"],
                rank=int(of_source),
            )
            for row, of_source in zip(wide, rank[~own].tolist(), strict=True)
        ),
    )


def read_ledger(path: Place) -> pa.Table:
    """Read all rows of files as they stand, with the columns LABEL_COLUMNS.

    Raises:
        ConfigError: as `read_labels`.
    """
    table = read_table(path, LABEL_COLUMNS, _OPTIONAL)
    kinds = set(pc.unique(table["label"]).to_pylist()) - {"fraud", "legit"}
    if kinds:
        raise ConfigError(f'{path}: label {min(map(str, kinds))!r}: give "fraud" or "legit"')
    known_at = table["known_at"]
    if known_at.null_count:
        raise ConfigError(f"{path}: known_at: {known_at.null_count} of the labels have none")
    if len(table) and not 0 <= pc.min(known_at).as_py() <= pc.max(known_at).as_py() < RANK_UNIT:
        raise ConfigError(f"{path}: known_at: a label has one that is not in Unix milliseconds since 1970")
    own = pc.is_valid(table["transaction_id"])
    wide = pc.and_(
        pc.is_valid(table["entity"]), pc.and_(pc.is_valid(table["key"]), pc.is_valid(table["from"]))
    )
    if neither := len(table) - int(pc.sum(pc.xor(own, wide)).as_py() or 0):
        raise ConfigError(
            f"{path}: {neither} of the labels are of no transaction and no entity, or of both: give "
            "transaction_id, or entity, key and from"
        )
    return table
