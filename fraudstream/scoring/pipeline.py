"""The way of a batch from features to decisions: the same code for the worker and for a replay of files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, TransactionBatch, UInt64
from fraudstream.features import FeatureEngine, Observed
from fraudstream.features.engine import FLAG_NAMES, FLAG_REPEATED, FLAG_UNSCORED
from fraudstream.features.repeats import UNDECIDED, FirstDecisions
from fraudstream.scoring.decide import Policy
from fraudstream.scoring.model import Model

FLAGS = [tuple(name for bit, name in FLAG_NAMES.items() if bits & bit) for bits in range(256)]


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch with everything that was decided of it; every column has one entry a row.

    Attributes:
        X: features, [n, features].
        raw, probability, points: see `Model`.
        decided: position of the outcome in `Policy.names`.
        alerting: rows whose outcome alerts.
        flag_bits: bits of FLAG_NAMES.
    """

    batch: TransactionBatch
    X: Float64
    raw: Float64
    probability: Float64
    points: Int64
    decided: Int64
    alerting: npt.NDArray[np.bool_]
    flag_bits: npt.NDArray[np.uint8]

    def flags(self) -> list[tuple[str, ...]]:
        """Return the names of each row's flags."""
        return [FLAGS[bits] for bits in self.flag_bits.tolist()]

    def take(self, rows: Int64) -> Scored:
        """Return some of the rows."""
        return Scored(
            self.batch.take(rows), self.X[rows], self.raw[rows], self.probability[rows], self.points[rows],
            self.decided[rows], self.alerting[rows], self.flag_bits[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DecidedAgain:
    """Repeated transactions with their decisions.

    Attributes:
        scored: where the decision was recalled, features and raw score are NaN: they were not kept.
        recalled: whether the first decision was known, [n].
        model: which model decided, [n]; see `FirstDecisions`.
    """

    scored: Scored
    recalled: npt.NDArray[np.bool_]
    model: Int64


class Pipeline:
    """Engine, model and policy of one worker or one replay.

    Args:
        engine: carries the state.
        model: bound to the engine's catalogue.
        policy: what is decided of which score.
    """

    def __init__(self, engine: FeatureEngine, model: Model, policy: Policy) -> None:
        self.engine = engine
        self.model = model
        self.policy = policy

    def score(self, batch: TransactionBatch, observed: Observed) -> Scored:
        """Score and decide rows whose features are known."""
        return self.scored_by(self.model, batch, observed)

    def unscored(self, batch: TransactionBatch, observed: Observed, closed: bool) -> Scored:
        """Decide rows whose score cannot be had: open, as below every threshold; closed, as by the first rule."""
        rows = len(batch)
        return Scored(
            batch=batch,
            X=observed.X,
            raw=np.full(rows, np.nan),
            probability=np.full(rows, float(closed)),
            points=np.full(rows, 1000 * closed, np.int64),
            decided=self.policy.without_score(len(batch), closed),
            alerting=np.zeros(len(batch), np.bool_),
            flag_bits=observed.flags | FLAG_UNSCORED,
        )

    def scored_by(self, model: Model, batch: TransactionBatch, observed: Observed) -> Scored:
        """Return what a model would decide: the one in use, or its challenger."""
        raw = model.raw_scores(observed.X)
        points = model.risk_points(raw)
        probability = model.probabilities(raw)
        decided = self.policy.decide(batch, points, probability)
        return Scored(
            batch=batch,
            X=observed.X,
            raw=raw,
            probability=probability,
            points=points,
            decided=decided,
            alerting=self.policy.alerting(decided),
            flag_bits=observed.flags,
        )

    def remember(self, entries: UInt64, scored: Scored, model: int = 0) -> FirstDecisions:
        """Keep what was decided of transactions, for the case that they are repeated, and return it.

        Args:
            entries: [n] from `FeatureEngine.recognise`.
            model: number of the model that decided.
        """
        models = np.full(len(scored.batch), model, np.int64)
        flags = scored.flag_bits.astype(np.int64)
        first = FirstDecisions(scored.probability, scored.decided, scored.points, models, flags)
        self.engine.repeats.remember(entries, first)
        return first

    def decide_again(
        self, batch: TransactionBatch, entries: UInt64, first: FirstDecisions, model: int = 0
    ) -> DecidedAgain:
        """Return the first decisions of repeated transactions once more; none of them alerts again.

        Where the first one is not known (it was made before the state was rebuilt), the features are read as
        they are now, without a change to the state, and the decision on them counts as the first.
        """
        recalled = first.outcome != UNDECIDED
        X, raw = np.full((len(batch), len(self.engine.catalog)), np.nan), np.full(len(batch), np.nan)
        probability, decided = first.probability.copy(), first.outcome.copy()
        points, models = first.points.copy(), first.model.copy()
        flags = first.flags.astype(np.uint8)
        rows = np.flatnonzero(~recalled)
        if len(rows):
            now = self.score(batch.take(rows), self.engine.peek(batch.take(rows)))
            self.remember(entries[rows], now, model)
            X[rows], raw[rows], probability[rows], points[rows] = now.X, now.raw, now.probability, now.points
            decided[rows], flags[rows], models[rows] = now.decided, now.flag_bits, model
        no_alerts = np.zeros(len(batch), np.bool_)
        again = Scored(batch, X, raw, probability, points, decided, no_alerts, flags | FLAG_REPEATED)
        return DecidedAgain(again, recalled, models)
