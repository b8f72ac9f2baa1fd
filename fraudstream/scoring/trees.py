"""LightGBM's trees as arrays, read from its model text.

The text comes from a bundle whose hashes were checked. What the compiled forest and the compiled explanation do not
know raises `NotCompilable`; LightGBM itself takes over, which knows everything.

Source: LightGBM's own reader (include/LightGBM/tree.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64

ZERO_THRESHOLD = float(np.float32(1e-35))  # LightGBM takes what is no larger for 0

CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of `Tree.kind`
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2  # its next two bits
WORD_BITS = 32


class NotCompilable(Exception):  # noqa: N818  # not an error: LightGBM takes over
    """The forest has something that is not compiled."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree; inner nodes are numbered from 0, the root first, and a child below 0 is the leaf ~child.

    Attributes:
        feature, threshold, kind, left, right: [inner]; of a categorical split the threshold is its number.
        inner_rows: [inner] training rows that came to each node; leaf_rows: [leaves].
        value: [leaves].
        first_word: [categorical splits + 1] where each one's bits begin in `words`.
        words: 32 categories each; a category whose bit is set goes left.
    """

    feature: Int64
    threshold: Float64
    kind: Int64
    left: Int64
    right: Int64
    inner_rows: Int64
    leaf_rows: Int64
    value: Float64
    first_word: Int64
    words: npt.NDArray[np.uint32]

    def rows_of(self, node: int) -> int:
        """Return how many training rows came to a node or leaf."""
        return int(self.leaf_rows[~node] if node < 0 else self.inner_rows[node])


@dataclass(frozen=True, slots=True)
class Trees:
    """A model's trees in their order, and how many features it has."""

    trees: list[Tree]
    features: int

    def probes(self, rows: int, seed: int = 0) -> Float64:
        """Return rows on, just below and just above thresholds, in and out of categories, or missing."""
        rng = np.random.default_rng(seed)
        X = np.zeros((rows, self.features))
        nothing = np.zeros(0, np.int64)
        looked_at = np.concatenate([nothing, *(tree.feature for tree in self.trees)])
        thresholds = np.concatenate([np.zeros(0), *(tree.threshold for tree in self.trees)])
        categorical = np.concatenate([nothing, *(tree.kind & CATEGORICAL for tree in self.trees)]) != 0
        words = np.concatenate([nothing, *(np.full(len(tree.kind), len(tree.words)) for tree in self.trees)])
        for feature in range(self.features):
            here = looked_at == feature
            known = thresholds[here & ~categorical]
            values = [np.array([0.0, np.nan, np.inf, -np.inf, ZERO_THRESHOLD, -ZERO_THRESHOLD])]
            values += [known, np.nextafter(known, -np.inf), np.nextafter(known, np.inf)]
            if (here & categorical).any():
                values.append(np.arange(-1.0, WORD_BITS * words[here & categorical].max() + 2.0))
            X[:, feature] = rng.choice(np.concatenate(values), rows)
        return X


def read_trees(booster_text: str) -> Trees:
    """Read a LightGBM model text.

    Raises:
        NotCompilable: it is not one sum of trees with constant leaves.
    """
    header, *blocks = booster_text.split("\nTree=")
    settings = _pairs(header)
    if settings.get("num_tree_per_iteration", "1") != "1" or "average_output" in header.split("\n"):
        raise NotCompilable("not one tree an iteration, summed")
    trees = [_read_tree(_pairs(block.split("\n\n")[0])) for block in blocks]
    return Trees(trees, int(settings["max_feature_idx"]) + 1)


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.split("\n") if "=" in line)


def _read_tree(tree: dict[str, str]) -> Tree:
    if tree.get("is_linear", "0") != "0":
        raise NotCompilable("a tree has linear leaves")

    def ints(name: str) -> Int64:
        return np.array(tree.get(name, "").split(), np.int64)

    return Tree(
        feature=ints("split_feature"),
        threshold=np.array(tree.get("threshold", "").split(), np.float64),
        kind=ints("decision_type"),
        left=ints("left_child"),
        right=ints("right_child"),
        inner_rows=ints("internal_count"),
        leaf_rows=ints("leaf_count"),
        value=np.array(tree["leaf_value"].split(), np.float64),
        first_word=ints("cat_boundaries"),
        words=np.array(tree.get("cat_threshold", "").split(), np.uint32),
    )
