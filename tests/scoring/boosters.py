"""Small boosters with every kind of split."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np

from fraudstream.batch import Float64


def trained(
    seed: int, leaves: int, missing: float, rounds: int = 12, **parameters: Any
) -> tuple[lgb.Booster, Float64]:
    """Return a booster of five features, of which the fourth is a whole number, and its training rows.

    Args:
        parameters: LightGBM's; `categorical` lists the categorical features.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 5))
    X[:, 3] = rng.integers(0, 70, 600)
    X[rng.random(X.shape) < missing] = np.nan
    X[rng.random(X.shape) < 0.05] = 0.0
    odd = np.nan_to_num(X[:, 3]) % 3 == 1
    y = (np.nansum(X[:, :3], axis=1) + 2 * odd + rng.normal(size=600) > 0.5).astype(float)
    chosen: dict[str, Any] = {
        "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 2, "verbosity": -1, "seed": seed,
        "min_data_per_group": 2, "cat_smooth": 1.0,
    }  # fmt: skip
    categorical = parameters.pop("categorical", "auto")
    made: dict[str, Any] = {
        name: parameters.pop(name) for name in ("zero_as_missing", "use_missing") if name in parameters
    }
    data = lgb.Dataset(X, y, categorical_feature=categorical, params=made | {"min_data_in_bin": 1})
    booster = lgb.train(chosen | made | parameters, data, rounds)
    return lgb.Booster(model_str=booster.model_to_string()), X
