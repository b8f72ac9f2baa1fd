"""The compiled TreeSHAP against the definition of Shapley values, and against LightGBM's own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.scoring.trees import NotCompilable, Trees, read_trees
from fraudstream.scoring.treeshap import compile_treeshap
from tests.oracles.shapley import shapley
from tests.scoring.boosters import trained
from tests.scoring.test_forest import KINDS


@given(
    seed=st.integers(0, 10_000), leaves=st.sampled_from([2, 5, 16]), kind=st.sampled_from(KINDS),
    rows=st.integers(1, 9),
)  # fmt: skip
@settings(max_examples=15)
def test_contributions_are_the_shapley_values_of_the_trees(
    seed: int, leaves: int, kind: dict[str, Any], rows: int
) -> None:
    booster, _ = trained(seed, leaves, 0.2, rounds=2, **kind)
    trees = read_trees(booster.model_to_string())
    X = trees.probes(rows, seed)
    expected = [np.sum([shapley(tree, x) for tree in trees.trees], axis=0) for x in X.tolist()]
    assert compile_treeshap(trees).contributions(X) == pytest.approx(np.array(expected), abs=1e-9)


@given(
    seed=st.integers(0, 10_000), leaves=st.sampled_from([2, 31, 63]), kind=st.sampled_from(KINDS),
    missing=st.sampled_from([0.0, 0.2]),
)  # fmt: skip
@settings(max_examples=15)
def test_contributions_are_lightgbms_and_add_up_to_the_raw_score(
    seed: int, leaves: int, kind: dict[str, Any], missing: float
) -> None:
    booster, X = trained(seed, leaves, missing, **kind)
    trees = read_trees(booster.model_to_string())
    X = np.concatenate([X[:20], trees.probes(20, seed)])
    given_parts = compile_treeshap(trees).contributions(X)
    assert np.abs(given_parts - booster.predict(X, pred_contrib=True)).max() < 1e-9
    assert np.abs(given_parts.sum(axis=1) - booster.predict(X, raw_score=True)).max() < 1e-9


@given(
    seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS), cuts=st.lists(st.integers(1, 12), max_size=6)
)
@settings(max_examples=25)
def test_a_row_gets_the_same_bits_whoever_is_explained_with_it(
    seed: int, kind: dict[str, Any], cuts: list[int]
) -> None:
    booster, _ = trained(seed % 20, 31, 0.2, **kind)
    trees = read_trees(booster.model_to_string())
    treeshap, X = compile_treeshap(trees), trees.probes(40, seed)
    stops = [0, *np.minimum(np.cumsum(cuts), 40).tolist(), 40] if cuts else [0, 40]
    parts = [treeshap.contributions(X[low:high]) for low, high in pairwise(stops)]
    assert np.concatenate(parts).tobytes() == treeshap.contributions(X).tobytes()


def chain(features: int) -> str:
    """Return the text of a model with one tree that looks at each feature once, one below the other."""
    inner = range(features)
    lines = {
        "num_leaves": [features + 1], "num_cat": [0], "split_feature": inner, "threshold": [0.5] * features,
        "decision_type": [2] * features, "left_child": [~i for i in inner],
        "right_child": [*range(1, features), ~features], "leaf_value": [float(i) for i in range(features + 1)],
        "leaf_count": [10] * (features + 1), "internal_count": [10 * (features + 1 - i) for i in inner],
        "is_linear": [0], "shrinkage": [1],
    }  # fmt: skip
    tree = "\n".join(f"{name}={' '.join(map(str, values))}" for name, values in lines.items())
    head = f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx={features - 1}"
    return f"{head}\n\nTree=0\n{tree}\n\n\nend of trees\n"


@pytest.mark.parametrize("features", [1, 2, 15, 16, 17, 32, 33, 63, 64])
def test_long_paths_of_different_features_add_up(features: int) -> None:
    trees = read_trees(chain(features))
    X = np.random.default_rng(features).integers(0, 2, (20, features)).astype(float)
    parts = compile_treeshap(trees).contributions(X)
    leaves = [next((i for i, value in enumerate(x) if value <= 0.5), features) for x in X.tolist()]
    assert parts.sum(axis=1) == pytest.approx(np.array(leaves, float), abs=1e-9)
    assert parts[0].tobytes() == compile_treeshap(trees).contributions(X[:1])[0].tobytes()


def test_longer_paths_and_nodes_without_rows_are_refused_by_name() -> None:
    with pytest.raises(NotCompilable, match="more than 64"):
        compile_treeshap(read_trees(chain(65)))
    with pytest.raises(NotCompilable, match="without training rows"):
        compile_treeshap(read_trees(chain(3).replace("leaf_count=10", "leaf_count=0")))


def test_no_rows_and_no_trees_have_contributions_too() -> None:
    assert compile_treeshap(read_trees(chain(3))).contributions(np.empty((0, 3))).shape == (0, 4)
    assert compile_treeshap(Trees([], 3)).contributions(np.ones((2, 3))).tolist() == [[0.0] * 4] * 2
