"""Risk points -> outcome, by the user's thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64
from fraudstream.settings import Outcome


@dataclass(frozen=True, slots=True)
class Policy:
    """The outcomes in falling order of their thresholds, and what stands below all of them."""

    outcomes: tuple[Outcome, ...]
    otherwise: str

    @property
    def names(self) -> list[str]:
        """Return the outcome names; the last is the one below every threshold."""
        return [outcome.name for outcome in self.outcomes] + [self.otherwise]

    def decide(self, points: Int64) -> Int64:
        """Return the position in `names` of each row's outcome, [n]."""
        thresholds = np.array([outcome.points_min for outcome in self.outcomes], np.int64)
        if not len(thresholds):
            return np.zeros(len(points), np.int64)
        reached = points[:, None] >= thresholds[None, :]
        first = reached.argmax(axis=1)
        return np.where(reached.any(axis=1), first, len(thresholds)).astype(np.int64)

    def alerting(self, decided: Int64) -> npt.NDArray[np.bool_]:
        """Return which rows' outcomes alert, [n]."""
        alerts = np.array([outcome.alert for outcome in self.outcomes] + [False])
        flagged: npt.NDArray[np.bool_] = alerts[decided]
        return flagged
