"""What was served of one transaction, looked up in files: messages as NDJSON, or what `fraudstream replay` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from fraudstream.batch import TransactionBatch
from fraudstream.bus.files import read_transactions
from fraudstream.bus.lookup import rows_of
from fraudstream.bus.place import Place
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.records import Alert, Decision
from fraudstream.stream.featurelog import ARCHIVE_COLUMNS, OWN_COLUMNS
from fraudstream.stream.served import Features, Spoken, Spokens

_NOT_FEATURES = {
    *(*Decision.__struct_fields__, *OWN_COLUMNS, *ARCHIVE_COLUMNS),
    *("raw_score", "repeated", "expected_loss"),
}


@dataclass(frozen=True, slots=True)
class InFiles:
    """What was served, in files.

    Attributes:
        decisions_path: one row a decision; NDJSON as in the topic, or Parquet of `fraudstream replay`.
        features_path: one row a transaction with a column a feature.
        alerts_path, transactions_path: None where there are none.
        model: that decided where a decision names none.
    """

    decisions_path: Place
    features_path: Place
    alerts_path: Place | None
    transactions_path: Place | None
    model: str

    @property
    def places(self) -> dict[str, str]:
        """Return the files."""
        return {
            "decisions": f"the rows of {self.decisions_path}",
            "features": f"the rows of {self.features_path}",
            "transactions": f"the rows of {self.transactions_path or 'a file: none is given'}",
        }

    def decisions(self, transaction_id: str) -> Spokens:
        """Return all decisions of an id, in the order of the file."""
        found = Spokens()
        for row in rows_of(self.decisions_path, transaction_id):
            found.add(Spoken(self._decision(row)))
        return found

    def features(self, spoken: Spoken) -> Features | None:
        """Return the first row of the transaction that has features: a repeat has none."""
        for row in _of(spoken, rows_of(self.features_path, spoken.decision.transaction_id)):
            values = {_plain(name): value for name, value in row.items() if name not in _NOT_FEATURES}
            known = {name: float(value) for name, value in values.items() if _is_number(value)}
            if known:
                return {
                    name: known.get(name)
                    for name, value in values.items()
                    if name in known or _is_empty(value)
                }
        return None

    def alert(self, spoken: Spoken) -> Alert | None:
        """Return the decision's alert."""
        if self.alerts_path is None:
            return None
        for row in _of(spoken, rows_of(self.alerts_path, spoken.decision.transaction_id)):
            try:
                return msgspec.convert(row, Alert)
            except msgspec.ValidationError as error:
                raise ConfigError(f"{self.alerts_path}: is no alert: {error}") from None
        return None

    def transaction(self, spoken: Spoken, decoder: Decoder) -> TransactionBatch | None:
        """Read the files of transactions up to this one."""
        if self.transactions_path is None:
            return None
        for batch, _ in read_transactions(self.transactions_path, decoder):
            if spoken.decision.transaction_id in batch.ids:
                at = batch.ids.index(spoken.decision.transaction_id)
                return batch.part(at, at + 1)
        return None

    def _decision(self, row: dict[str, Any]) -> Decision:
        flags = row.get("flags") or (["repeated"] if row.get("repeated") else [])
        given = {name: row[name] for name in Decision.__struct_fields__ if row.get(name) is not None}
        try:
            return msgspec.convert({"model": self.model, **given, "flags": flags}, Decision)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.decisions_path}: is no decision: {error}") from None


def _of(spoken: Spoken, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows that are of one decision, or do not say of which."""
    own = spoken.decision.sequence
    return (row for row in rows if own < 0 or row.get("sequence") in (None, own))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_empty(value: Any) -> bool:
    return value is None or value != value


def _plain(column: str) -> str:
    """Return a column as the feature log names it; a replay puts a prefix before what is named like its own."""
    name = column.removeprefix("feature_")
    return name if name in _NOT_FEATURES - set(OWN_COLUMNS) else column
