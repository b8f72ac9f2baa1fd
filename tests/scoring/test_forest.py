"""The compiled forest against LightGBM itself, its slow twin."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.batch import Float64
from fraudstream.scoring.forest import NotCompilable, compile_forest


def trained(seed: int, leaves: int, missing: float, **parameters: Any) -> tuple[lgb.Booster, Float64]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 5))
    X[:, 3] = rng.integers(0, 4, 600)
    X[rng.random(X.shape) < missing] = np.nan
    y = (np.nansum(X, axis=1) + rng.normal(size=600) > 0.5).astype(float)
    chosen = {
        "objective": "binary",
        "num_leaves": leaves,
        "min_data_in_leaf": 2,
        "verbosity": -1,
        "seed": seed,
    }
    categorical = parameters.pop("categorical", "auto")
    data = lgb.Dataset(X, y, categorical_feature=categorical)
    booster = lgb.train({**chosen, **parameters}, data, 12)
    return lgb.Booster(model_str=booster.model_to_string()), X


def bits(values: Float64) -> list[int]:
    listed: list[int] = values.view(np.int64).tolist()
    return listed


@given(
    seed=st.integers(0, 10_000),
    leaves=st.sampled_from([2, 3, 16, 31, 63, 64]),
    missing=st.sampled_from([0.0, 0.2]),
    rows=st.sampled_from([0, 1, 63, 64, 65, 200]),
)
@settings(max_examples=25)
def test_scores_have_the_same_bits_as_lightgbms(seed: int, leaves: int, missing: float, rows: int) -> None:
    booster, X = trained(seed, leaves, missing)
    forest = compile_forest(booster.model_to_string())
    for chosen in (X[:rows], forest.probes(max(rows, 1), seed)):
        expected = booster.predict(chosen, raw_score=True) if len(chosen) else np.empty(0)
        assert bits(forest.raw_scores(chosen)) == bits(np.asarray(expected, np.float64))


def test_infinite_values_go_where_lightgbm_sends_them() -> None:
    booster, X = trained(3, 31, 0.2)
    X = X[:128].copy()
    X[::3] = np.inf
    X[1::3] = -np.inf
    forest = compile_forest(booster.model_to_string())
    assert bits(forest.raw_scores(X)) == bits(booster.predict(X, raw_score=True))


def test_a_constant_tree_is_one_leaf() -> None:
    booster, X = trained(1, 31, 0.0, min_gain_to_split=1e9)
    forest = compile_forest(booster.model_to_string())
    assert bits(forest.raw_scores(X)) == bits(booster.predict(X, raw_score=True))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"categorical": [3]}, "categorical"),
        ({"linear_tree": True}, "linear"),
        ({"zero_as_missing": True}, "zero"),
        ({"num_leaves": 90}, "more than 64"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "summed"),
    ],
)
def test_what_is_not_known_is_refused_by_name(parameters: dict[str, Any], reason: str) -> None:
    booster, _ = trained(2, 31, 0.1, **parameters)
    with pytest.raises(NotCompilable, match=reason):
        compile_forest(booster.model_to_string())
