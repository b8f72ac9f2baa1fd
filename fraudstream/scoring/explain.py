"""Why a transaction alerts: the features that raised its score most, in plain words.

The contributions are LightGBM's own (exact TreeSHAP): they and the base add up to the raw score.
Source: Lundberg et al., "Consistent Individualized Feature Attribution for Tree Ensembles" (2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraudstream.batch import Float64, Int64
from fraudstream.records import Reason
from fraudstream.scoring.model import Model


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reasons of one row; base + contributions + rest is the raw score."""

    reasons: list[Reason]
    base: float
    rest: float


def explain(model: Model, X: Float64, rows: Int64, reasons_max: int) -> list[Explanation]:
    """Explain these rows of the catalogue's X.

    Cost: 1 to 5 ms a row (LightGBM's `pred_contrib`), so for alerts only.
    """
    if not len(rows):
        return []
    chosen = np.ascontiguousarray(X[rows])
    contributions = model.contributions(chosen)
    return [_explained(model, x, parts, reasons_max) for x, parts in zip(chosen, contributions, strict=True)]


def _explained(model: Model, x: Float64, parts: Float64, reasons_max: int) -> Explanation:
    features = [model.catalog.features[column] for column in model.columns]
    strongest = np.argsort(-parts[:-1], kind="stable")[:reasons_max]
    picked = [int(i) for i in strongest if parts[i] > 0]
    reasons = []
    for i in picked:
        value = float(x[model.columns[i]])
        known = None if np.isnan(value) else value
        words = features[i].in_words(known)
        reasons.append(
            Reason(feature=features[i].name, value=known, contribution=float(parts[i]), text=words)
        )
    rest = float(parts[:-1].sum() - sum(reason.contribution for reason in reasons))
    return Explanation(reasons, float(parts[-1]), rest)
