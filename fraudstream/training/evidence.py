"""Files -> mature transactions with what each model says of them and what became known: what evaluation judges.

Only mature transactions count, by the rule of the ledger (`ledger.py`). All models see the same rows and the same
features. Baselines stand beside them: the amount, a count of the card's last transactions, and a small tree on the
transaction's own fields that learned from what was known when the window began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fraudstream.batch import Float64, Int64, TransactionBatch
from fraudstream.bus.place import Place
from fraudstream.clock import iso
from fraudstream.errors import ConfigError
from fraudstream.features import Observed
from fraudstream.ledger import Flags, Labels, newest_mature_ms
from fraudstream.scoring import Pipeline
from fraudstream.scoring.decide import amounts
from fraudstream.scoring.drift import Drift, Shift
from fraudstream.scoring.model import Model
from fraudstream.training.baselines import TreeBaseline, velocity_column
from fraudstream.training.replay import (
    ENTITY_COLUMN,
    Advance,
    LogFiles,
    Observation,
    entity_columns,
    observe_files,
)
from fraudstream.training.segments import Segments, codes_of

FOREVER_MS = 2**62  # an instant after every event time


class NothingMatureError(ConfigError):
    """Give a wider window, a later instant, or a shorter `labels.maturity`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one model says of each row, [n].

    Attributes:
        score: what it ranks by; only the order counts.
        probability: calibrated; None of a baseline.
        alerting: whether its outcome alerts; None of a baseline.
    """

    score: Float64
    probability: Float64 | None = None
    alerting: Flags | None = None

    def take(self, rows: Flags) -> Said:
        """Return the rows that are True."""
        return Said(
            self.score[rows],
            None if self.probability is None else self.probability[rows],
            None if self.alerting is None else self.alerting[rows],
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Mature transactions of a window; every column has one entry a row.

    Attributes:
        labelled: whether anything was known.
        amount: in major units; NaN where unknown.
        clusters: for each entity the one of each row; a row without it stands alone.
        entity_names: for each entity the text of each code of `clusters` that is not negative.
        said: by model, then by baseline.
        segments: by their text, which rows belong to them.
        counts: rows by what became of them.
        drift: by model, how each feature has moved since its training window; see `Drift.shifts`.
    """

    time_ms: Int64
    fraud: Flags
    labelled: Flags
    amount: Float64
    clusters: dict[str, Int64]
    entity_names: dict[str, list[str]]
    said: dict[str, Said]
    segments: dict[str, Flags]
    counts: dict[str, int]
    drift: dict[str, dict[str, Shift]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.fraud)

    def take(self, rows: Flags) -> Evidence:
        """Return the rows that are True."""
        return Evidence(
            time_ms=self.time_ms[rows],
            fraud=self.fraud[rows],
            labelled=self.labelled[rows],
            amount=self.amount[rows],
            clusters={name: code[rows] for name, code in self.clusters.items()},
            entity_names=self.entity_names,
            said={name: said.take(rows) for name, said in self.said.items()},
            segments={name: inside[rows] for name, inside in self.segments.items()},
            counts=self.counts,
            drift=self.drift,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be judged.

    Attributes:
        from_ms, to_ms: event times in [from, to).
        as_of_ms: nothing known later is used.
        maturity_ms: age at which silence means legitimate.
        segments: fields and filters.
        baselines: whether to score them too.
    """

    from_ms: int
    to_ms: int
    as_of_ms: int
    maturity_ms: int
    segments: Sequence[str] = ()
    baselines: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """Who judges the same transactions.

    Attributes:
        pipeline: its engine is moved on, its policy decides; its model is one of `models`.
    """

    pipeline: Pipeline
    models: dict[str, Model]


def gather(
    transactions: Place, labels: Labels, panel: Panel, question: Question, advance: Advance
) -> Evidence:
    """Replay the files and let every model score the window.

    Args:
        labels: all that the files hold; features see each in its time.

    Raises:
        NothingMatureError: no transaction of the window is mature.
        ConfigError: a segment does not fit the event type.
    """
    known = labels.as_of(question.as_of_ms)
    gathering = _Gathering(known, panel, question)
    files = LogFiles(transactions, known, gathering.fields, question.to_ms)
    for seen in observe_files(files, panel.pipeline.engine, gathering.wants, advance):
        gathering.see(seen)
    if not gathering.columns:
        end = "" if question.to_ms >= FOREVER_MS else f" to {iso(question.to_ms)}"
        window = f"from {iso(question.from_ms)}{end}"
        raise NothingMatureError(
            f"{transactions}: none of {gathering.counts['transactions']} transactions {window} is mature at "
            f"{iso(question.as_of_ms)}; give a wider window, a later --as-of, or a shorter labels.maturity"
        )
    return gathering.evidence()


class _Gathering:
    """Takes from each batch what counts."""

    def __init__(self, labels: Labels, panel: Panel, question: Question) -> None:
        self._panel, self._question = panel, question
        self._catalog = panel.pipeline.engine.catalog
        self._segments = Segments(question.segments, self._catalog.event)
        self._velocity = velocity_column(self._catalog)
        begins = (question.from_ms, question.maturity_ms)
        self._tree = TreeBaseline(self._catalog, labels, *begins) if question.baselines else None
        self._drift = {
            name: Drift(model.parts.reference, self._catalog.names)
            for name, model in panel.models.items()
            if model.parts.reference
        }
        self._outcomes = labels.outcomes()
        self.columns: dict[str, list[Any]] = {}
        self.counts = dict.fromkeys(("transactions", "repeated", "rejected", "newest_ms"), 0)
        own = panel.pipeline.policy.fields_used | self._segments.fields
        self.fields = frozenset(own | labels.fields(self._catalog.event))

    def wants(self, batch: TransactionBatch) -> bool:
        """Tell whether the features of a batch are needed."""
        learning = self._tree is not None and bool(self._tree.learns_from(batch).any())
        return learning or bool(self._inside(batch.time_ms).any())

    def see(self, seen: Observation) -> None:
        """Keep what counts of a batch."""
        X = seen.observed.X
        if self._tree is not None:
            self._tree.see(seen.fresh, X)
        inside = self._inside(seen.fresh.time_ms)
        again = seen.batch.time_ms[seen.recognised.again]
        self.counts["rejected"] += len(seen.rejected)
        self.counts["repeated"] += int(self._inside(again).sum())
        self.counts["transactions"] += int(inside.sum())
        if inside.any():
            self.counts["newest_ms"] = max(self.counts["newest_ms"], int(seen.fresh.time_ms[inside].max()))
            for counting in self._drift.values():
                counting.count(X[inside])
        mature_ms = newest_mature_ms(self._question.as_of_ms, self._question.maturity_ms)
        rows = np.flatnonzero(inside & (seen.fresh.time_ms <= mature_ms))
        if len(rows):
            self._keep(seen.fresh.take(rows), Observed(X[rows], seen.observed.flags[rows]))

    def _inside(self, time_ms: Int64) -> Flags:
        return (time_ms >= self._question.from_ms) & (time_ms < self._question.to_ms)

    def _keep(self, batch: TransactionBatch, observed: Observed) -> None:
        event, X = self._catalog.event, observed.X
        self._segments.add(batch)
        columns: dict[str, Any] = {"time_ms": batch.time_ms, "amount": amounts(batch, event)}
        columns["fraud"], columns["labelled"] = self._outcomes.of_batch(batch, event)
        for column, name in entity_columns(event).items():
            columns[column] = pa.array(batch.texts[name], pa.large_string())
        for name, model in self._panel.models.items():
            scored = self._panel.pipeline.scored_by(model, batch, observed)
            columns[f"raw {name}"] = scored.raw
            columns[f"probability {name}"] = scored.probability
            columns[f"alerting {name}"] = scored.alerting
        if self._tree is not None:
            columns["raw amount"] = np.nan_to_num(columns["amount"])
            columns["raw small tree"] = self._tree.score(X)
            if self._velocity is not None:
                columns[f"raw {self._catalog.names[self._velocity]}"] = np.nan_to_num(X[:, self._velocity])
        for name, column in columns.items():
            self.columns.setdefault(name, []).append(column)

    def evidence(self) -> Evidence:
        """Join what was kept."""
        codes = {
            column.removeprefix(ENTITY_COLUMN): codes_of(pa.chunked_array(self.columns.pop(column)))
            for column in entity_columns(self._catalog.event)
        }
        joined = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        fraud, labelled = joined["fraud"], joined["labelled"]
        names = [name.removeprefix("raw ") for name in joined if name.startswith("raw ")]
        said = {
            name: Said(
                joined[f"raw {name}"], joined.get(f"probability {name}"), joined.get(f"alerting {name}")
            )
            for name in names
        }
        if self._tree is not None and not self._tree.learned:
            del said["small tree"]
        known_counts = {"mature": len(fraud), "labelled": int(labelled.sum()), "frauds": int(fraud.sum())}
        return Evidence(
            time_ms=joined["time_ms"],
            fraud=fraud,
            labelled=labelled,
            amount=joined["amount"],
            clusters={name: code for name, (code, _) in codes.items()},
            entity_names={name: texts for name, (_, texts) in codes.items()},
            said=said,
            segments=self._segments.rows(),
            counts=self.counts | known_counts,
            drift={name: counting.shifts() for name, counting in self._drift.items()},
        )
