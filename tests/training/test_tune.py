"""The search for parameters, and the choice of features."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.errors import ModelError
from fraudstream.features import build_catalog
from fraudstream.sections import DAY_MS
from fraudstream.settings import load_settings
from fraudstream.training.dataset import Dataset
from fraudstream.training.select import columns, gain_shares, stable
from fraudstream.training.tune import FRAUDS_MIN, folds_of, space, tune
from tests.worlds import ignore

SETTINGS = load_settings(environment={})
CATALOG = build_catalog(SETTINGS.features, SETTINGS.event)
CATALOG = replace(CATALOG, features=CATALOG.features[:4])
USUAL: dict[str, Any] = {
    "objective": "binary", "metric": "average_precision", "num_leaves": 8, "learning_rate": 0.1,
    "min_data_in_leaf": 40, "feature_fraction": 0.9, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 5.0,
    "seed": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1, "num_threads": 2,
}  # fmt: skip


def dataset(rows: int = 6000, days: int = 60, fraud_rate: float = 0.1, seed: int = 3) -> Dataset:
    """Column 0 tells always, 1 in the first fifth of the time only, the others never."""
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < fraud_rate
    time_ms = np.sort(random.integers(0, days * DAY_MS, rows))
    X = random.normal(size=(rows, 4))
    X[:, 0] += 2.0 * fraud
    X[:, 1] += 4.0 * (fraud & (time_ms < days * DAY_MS / 5))
    return Dataset(X, fraud, time_ms, 0)


@given(st.integers(1, 4000), st.integers(1, 90), st.floats(0, 0.5), st.integers(0, 20))
def test_a_fold_is_judged_on_what_came_later_than_all_it_learned_from(
    rows: int, days: int, rate: float, gap_days: int
) -> None:
    data = dataset(rows, days, rate)
    judged = []
    for earlier, later in folds_of(data, gap_days):
        assert later.time_ms.min() - earlier.time_ms.max() > (gap_days - 1) * DAY_MS
        assert min(earlier.fraud.sum(), later.fraud.sum()) >= FRAUDS_MIN
        judged.append((later.time_ms.min(), later.time_ms.max()))
    assert all(first[1] < second[0] for first, second in pairwise(judged))


def test_the_same_seed_finds_the_same_parameters_no_worse_than_the_usual_ones() -> None:
    settings = replace_training(tune_trials=6, trees_max=30, leaves_max=12)
    one = tune(dataset(), USUAL, settings, ignore)
    two = tune(dataset(), USUAL, settings, ignore)
    assert one.parameters == two.parameters
    about = one.about
    assert (about["trials"], about["folds"]) == (6, 3)
    assert about["average_precision_best"] >= about["average_precision_usual"] > 0.5
    for name, (low, high, _) in space(12).items():
        assert low <= one.parameters[name] <= high


def test_a_search_ends_in_time() -> None:
    settings = replace_training(tune_trials=1000, tune_minutes=0.01, trees_max=10)
    assert 1 <= tune(dataset(2000), USUAL, settings, ignore).about["trials"] < 1000


def test_too_few_frauds_to_judge_are_said_with_the_setting() -> None:
    with pytest.raises(ModelError, match=r"training\.tune_trials = 5: there are too few frauds"):
        tune(dataset(300, fraud_rate=0.02), USUAL, replace_training(tune_trials=5), ignore)


def test_what_helped_for_a_while_only_is_not_stable() -> None:
    data = dataset()
    shares = gain_shares(data, USUAL, ignore)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0, 1] > 0.2
    parameters = USUAL | {"min_gain_to_split": 12.0}  # of noise there is always a little
    kept = stable(data, CATALOG, parameters, ignore)
    assert kept.names == CATALOG.names[:1]
    np.testing.assert_array_equal(columns(data, CATALOG, kept).X, data.X[:, :1])


def test_too_few_frauds_to_choose_features_are_said_with_the_setting() -> None:
    with pytest.raises(ModelError, match=r'training\.features = "stable": only 0 of 5'):
        stable(dataset(200, fraud_rate=0.02), CATALOG, USUAL, ignore)


def replace_training(**changes: Any) -> Any:
    return load_settings(None, {f"training.{name}": value for name, value in changes.items()}, {}).training
