"""The path attribution against its definition, and that it adds up to the raw score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.scoring.path import compile_paths
from fraudstream.scoring.trees import Trees, read_trees
from tests.oracles.shapley import along_the_path
from tests.scoring.boosters import trained
from tests.scoring.test_forest import KINDS
from tests.scoring.test_treeshap import chain


@given(
    seed=st.integers(0, 10_000), leaves=st.sampled_from([2, 5, 31]), kind=st.sampled_from(KINDS),
    missing=st.sampled_from([0.0, 0.2]),
)  # fmt: skip
@settings(max_examples=25)
def test_parts_are_the_changes_along_each_trees_path_and_add_up(
    seed: int, leaves: int, kind: dict[str, Any], missing: float
) -> None:
    booster, X = trained(seed, leaves, missing, rounds=4, **kind)
    trees = read_trees(booster.model_to_string())
    X = np.concatenate([X[:10], trees.probes(10, seed)])
    parts = compile_paths(trees).contributions(X)
    expected = [np.sum([along_the_path(tree, x) for tree in trees.trees], axis=0) for x in X.tolist()]
    assert parts == pytest.approx(np.array(expected), abs=1e-9)
    assert np.abs(parts.sum(axis=1) - booster.predict(X, raw_score=True)).max() < 1e-9
    assert parts[3:4].tobytes() == compile_paths(trees).contributions(X[3:4]).tobytes()


def test_no_rows_no_trees_and_nodes_without_training_rows_have_parts_too() -> None:
    assert compile_paths(read_trees(chain(3))).contributions(np.empty((0, 3))).shape == (0, 4)
    assert compile_paths(Trees([], 3)).contributions(np.ones((2, 3))).tolist() == [[0.0] * 4] * 2
    empty = compile_paths(read_trees(chain(3).replace("leaf_count=10 10", "leaf_count=0 0")))
    assert empty.contributions(np.ones((1, 3))).sum() == pytest.approx(3.0)
