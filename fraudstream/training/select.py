"""Features by stability: those that matter in most parts of the training window.

The window is cut into spans; in each a small model is trained by itself. A feature is kept that has its share of
the gain in a majority of them: what helped once only is as likely to be chance, and drifts, costs and has to be
explained like any other (after Meinshausen and Buehlmann, "Stability selection", 2010, with spans of time in place of
random halves).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import lightgbm as lgb
import numpy as np

from fraudstream.batch import Float64
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.training.dataset import Dataset
from fraudstream.training.replay import Advance

SPANS = 5
TREES = 60
FRAUDS_MIN = 10
GAIN_MIN = 0.002


def stable(data: Dataset, catalog: Catalog, parameters: dict[str, Any], advance: Advance) -> Catalog:
    """Return the catalogue of the features to keep, in their order.

    Args:
        data: the training window; its columns are the catalogue's.
        parameters: LightGBM's.

    Raises:
        ModelError: fewer than three spans have frauds enough to tell.
    """
    shares = gain_shares(data, parameters, advance)
    if len(shares) < 3:
        raise ModelError(
            f'training.features = "stable": only {len(shares)} of {SPANS} parts of the training window have '
            f'{FRAUDS_MIN} frauds and more, 3 are needed. Give more history, or "all"'
        )
    kept = (shares >= GAIN_MIN).sum(axis=0) * 2 > len(shares)
    kept[shares.sum(axis=0).argmax()] = True
    return replace(catalog, features=tuple(f for f, keep in zip(catalog.features, kept, strict=True) if keep))


def gain_shares(data: Dataset, parameters: dict[str, Any], advance: Advance) -> Float64:
    """Return each feature's share of the gain in each span with frauds enough, [spans, features]."""
    cuts = (
        np.linspace(int(data.time_ms.min()), int(data.time_ms.max()) + 1, SPANS + 1).astype(np.int64).tolist()
    )
    found = []
    for begin, end in pairwise(cuts):
        part = data.between(begin, end)
        advance("selecting features", 1, SPANS)
        if part.fraud.sum() < FRAUDS_MIN:
            continue
        rows = lgb.Dataset(part.X, part.fraud.astype(np.float64))
        gains = lgb.train(parameters, rows, TREES).feature_importance("gain")
        found.append(gains / (gains.sum() or 1.0))
    return np.array(found).reshape(-1, data.X.shape[1])


def columns(data: Dataset, whole: Catalog, kept: Catalog) -> Dataset:
    """Return a dataset of the features that are kept alone."""
    place = {name: i for i, name in enumerate(whole.names)}
    return replace(data, X=np.ascontiguousarray(data.X[:, [place[name] for name in kept.names]]))
