"""The compiled forest against LightGBM itself, its slow twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.batch import Float64
from fraudstream.scoring.columns import Columns, value_of
from fraudstream.scoring.forest import compile_forest
from fraudstream.scoring.trees import CATEGORICAL, NotCompilable, read_trees
from tests.oracles.shapley import passes_left
from tests.scoring.boosters import trained

KINDS: list[dict[str, Any]] = [
    {}, {"zero_as_missing": True}, {"use_missing": False}, {"categorical": [3]},
    {"categorical": [3], "zero_as_missing": True},
]  # fmt: skip


def bits(values: Float64) -> list[int]:
    listed: list[int] = values.view(np.int64).tolist()
    return listed


@given(
    seed=st.integers(0, 10_000),
    leaves=st.sampled_from([2, 3, 16, 31, 63, 64]),
    missing=st.sampled_from([0.0, 0.2]),
    rows=st.sampled_from([0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 200]),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=40)
def test_scores_have_the_same_bits_as_lightgbms(
    seed: int, leaves: int, missing: float, rows: int, kind: dict[str, Any]
) -> None:
    booster, X = trained(seed, leaves, missing, **kind)
    trees = read_trees(booster.model_to_string())
    forest = compile_forest(trees)
    for chosen in (X[:rows], trees.probes(max(rows, 1), seed)):
        expected = booster.predict(chosen, raw_score=True) if len(chosen) else np.empty(0)
        assert bits(forest.raw_scores(chosen)) == bits(np.asarray(expected, np.float64))
        assert bits(forest.descend(chosen)) == bits(np.asarray(expected, np.float64))


def test_the_kinds_of_splits_are_all_there() -> None:
    kinds = [trained(5, 31, 0.2, **kind)[0].model_to_string() for kind in KINDS]
    found = [{int(k) for tree in read_trees(text).trees for k in tree.kind} for text in kinds]
    missing = [{kind >> 2 & 3 for kind in of if not kind & CATEGORICAL} for of in found]
    assert missing == [{2}, {1}, {0}, {2}, {1}]
    assert [any(kind & CATEGORICAL for kind in of) for of in found] == [False, False, False, True, True]


@given(seed=st.integers(0, 100), kind=st.sampled_from(KINDS), value=st.floats() | st.integers(-2, 80))
def test_a_node_sends_a_value_where_the_rules_say(seed: int, kind: dict[str, Any], value: float) -> None:
    booster, _ = trained(seed % 5, 16, 0.2, rounds=2, **kind)
    nodes = [(t, n) for t in read_trees(booster.model_to_string()).trees for n in range(len(t.feature))]
    columns = Columns()
    looks_at = [columns.of(tree, node) for tree, node in nodes]
    tables = columns.tables()
    for (tree, node), (column, threshold) in zip(nodes, looks_at, strict=True):
        went = value_of(float(value), column, *tables) <= threshold
        assert bool(went) == passes_left(tree, node, float(value))


def test_infinite_values_go_where_lightgbm_sends_them() -> None:
    booster, X = trained(3, 31, 0.2)
    X = X[:128].copy()
    X[::3] = np.inf
    X[1::3] = -np.inf
    forest = compile_forest(read_trees(booster.model_to_string()))
    assert bits(forest.raw_scores(X)) == bits(booster.predict(X, raw_score=True)) == bits(forest.descend(X))


def test_a_constant_tree_is_one_leaf() -> None:
    booster, X = trained(1, 31, 0.0, min_gain_to_split=1e9)
    forest = compile_forest(read_trees(booster.model_to_string()))
    assert bits(forest.raw_scores(X)) == bits(booster.predict(X, raw_score=True))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"linear_tree": True}, "linear"),
        ({"num_leaves": 90}, "more than 64"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "summed"),
        ({"objective": "multiclass", "num_class": 2}, "summed"),
    ],
)
def test_what_is_not_known_is_refused_by_name(parameters: dict[str, Any], reason: str) -> None:
    booster, _ = trained(2, 31, 0.1, **parameters)
    with pytest.raises(NotCompilable, match=reason):
        compile_forest(read_trees(booster.model_to_string()))
