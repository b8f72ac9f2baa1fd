"""Features that know the outcome: found before a model learns from them.

A feature of the engine sees the past alone. A field of the transaction need not: a table that was exported later may
hold what somebody wrote there when the outcome was known, a chargeback's reason. Training would find it the best of
all features, and serving would never have it. Two things give it away: it tells fraud and legitimate transactions
apart by itself better than anything known beforehand does, or that it is filled in means fraud, almost always.
Amount, time and entities are what is authorized: features over these alone are let through, however well they tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from fraudstream.batch import Float64
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.features.catalog import EVENT

PRESENT_PRECISION_MAX = 0.95
PRESENT_FRAUDS_MIN = 10
LEGITIMATE_MAX = 100_000  # evenly taken from all: an AUC to three digits


def check_leaks(X: Float64, fraud: npt.NDArray[np.bool_], catalog: Catalog, auc_max: float) -> None:
    """Refuse a feature that looks into the future.

    Args:
        X: [n, features] of the catalogue; fraud: [n] with both classes.
        auc_max: of a single feature; 1 turns both checks off.

    Raises:
        ModelError: naming the first such feature and what gave it away.
    """
    if auc_max >= 1:
        return
    legitimate = np.flatnonzero(~fraud)
    some = legitimate[
        np.linspace(0, len(legitimate) - 1, min(LEGITIMATE_MAX, len(legitimate))).astype(np.int64)
    ]
    rows = np.concatenate([np.flatnonzero(fraud), some])
    event = catalog.event
    beforehand = {event.time, event.amount}.union(*(event.entity_fields(name) for name in event.entities))
    for column, feature in enumerate(catalog.features):
        fields = {*feature.of, *(condition.field for condition in feature.where)}
        if not feature.label and fields <= beforehand:
            continue
        alone = single_auc(X[rows, column], fraud[rows])
        if alone > auc_max:
            raise _refused(
                feature.name, f"alone it has AUC {alone:.4f}, training.leak_auc_max is {auc_max:g}"
            )
        if feature.entity == EVENT:
            present = ~np.isnan(X[:, column])
            frauds, n = int(fraud[present].sum()), int(present.sum())
            if frauds >= PRESENT_FRAUDS_MIN and frauds > PRESENT_PRECISION_MAX * n:
                raise _refused(feature.name, f"it is there for {n} transactions, of which {frauds} are fraud")


def single_auc(values: Float64, fraud: npt.NDArray[np.bool_]) -> float:
    """Return the AUC of one feature by itself, in the better direction, missing values at the better end."""
    _, place = np.unique(values, return_inverse=True)  # all NaN are one value, the last
    first = np.where(np.isnan(values), -1, place)
    aucs = [float(roc_auc_score(fraud, order)) for order in (place, first)]
    return max(max(auc, 1 - auc) for auc in aucs)


def _refused(name: str, what: str) -> ModelError:
    return ModelError(
        f"{name} looks into the future: {what}. If it is known only when the outcome is, leave it out of "
        "[[features]]; if it is known beforehand, set training.leak_auc_max = 1"
    )
