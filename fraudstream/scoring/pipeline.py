"""The way of a batch from features to decisions: the same code for the worker and for a replay of files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, TransactionBatch
from fraudstream.features import FeatureEngine, Observed
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.scoring.decide import Policy
from fraudstream.scoring.explain import Explanation, explain
from fraudstream.scoring.model import Model

_FLAGS = [tuple(name for bit, name in FLAG_NAMES.items() if bits & bit) for bits in range(256)]


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
        return [_FLAGS[bits] for bits in self.flag_bits.tolist()]


class Pipeline:
    """Engine, model and policy of one worker or one replay.

    Args:
        engine: carries the state.
        model: bound to the engine's catalogue.
        policy: what is decided from which points on.
    """

    def __init__(self, engine: FeatureEngine, model: Model, policy: Policy) -> None:
        self.engine = engine
        self.model = model
        self.policy = policy

    def score(self, batch: TransactionBatch, observed: Observed) -> Scored:
        """Score and decide rows whose features are known."""
        raw = self.model.raw_scores(observed.X)
        points = self.model.risk_points(raw)
        decided = self.policy.decide(points)
        return Scored(
            batch=batch,
            X=observed.X,
            raw=raw,
            probability=self.model.probabilities(raw),
            points=points,
            decided=decided,
            alerting=self.policy.alerting(decided),
            flag_bits=observed.flags,
        )

    def explain(self, scored: Scored, reasons_max: int) -> list[Explanation]:
        """Explain the alerting rows, in their order."""
        return explain(self.model, scored.X, np.flatnonzero(scored.alerting), reasons_max)
