"""Path attribution: each split of a row's path gets the change in the expected score that it brings.

Much cheaper than Shapley values, since each tree is walked once: what explains alerts when there is no time for more.
It adds up to the raw score as well, but a feature near a root gets less than its due, and two that say the same
thing do not share.

Source: Saabas, "Interpreting random forests" (2014). A node's expected score is the mean of the leaves below it by
their training rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64
from fraudstream.compiled import compiled
from fraudstream.scoring.columns import FEATURE, Columns, value_of
from fraudstream.scoring.trees import Tree, Trees

# Columns of `links`; a child below 0 of `LEFT` means that the node is a leaf.
COLUMN, LEFT, RIGHT = range(3)
_LEAF = -1


@dataclass(frozen=True, slots=True)
class PathTables:
    """A forest's nodes, one tree behind the other.

    Attributes:
        features: of the model; base: sum of the roots' expected scores.
        columns, words: what nodes look at, see `Columns.tables`.
        roots: [trees] where each tree begins.
        links: [nodes, 3]; threshold, expected: [nodes].
    """

    features: int
    base: float
    columns: Int64
    words: npt.NDArray[np.uint32]
    roots: Int64
    links: Int64
    threshold: Float64
    expected: Float64

    def contributions(self, X: Float64) -> Float64:
        """Return each feature's part of the raw score and, last, the base, for the model's columns.

        Args:
            X: [n, features].

        Returns:
            [n, features + 1]; a row's sum is its raw score.
        """
        parts = np.zeros((len(X), self.features + 1))
        parts[:, -1] = self.base
        _walk(
            np.ascontiguousarray(X), self.columns, self.words, self.roots, self.links, self.threshold, self.expected,
            parts,
        )  # fmt: skip
        return parts


def compile_paths(trees: Trees) -> PathTables:
    """Return the tables of a forest; every kind of tree that is read has them."""
    links: list[list[int]] = []
    threshold: list[float] = []
    expected: list[float] = []
    roots, collected = [], Columns()
    for tree in trees.trees:
        roots.append(len(links))
        _append(tree, collected, links, threshold, expected)
    at = np.array(expected, np.float64)
    starts = np.array(roots, np.int64)
    return PathTables(
        trees.features,
        float(at[starts].sum()) if len(starts) else 0.0,
        *collected.tables(),
        starts,
        np.array(links, np.int64).reshape(-1, RIGHT + 1),
        np.array(threshold, np.float64),
        at,
    )


def _append(
    tree: Tree, columns: Columns, links: list[list[int]], threshold: list[float], expected: list[float]
) -> None:
    """Append a tree's inner nodes, then its leaves."""
    first, inner = len(links), len(tree.feature) if len(tree.value) > 1 else 0
    means = _expected(tree, inner)

    def place(node: int) -> int:
        return first + (node if node >= 0 else inner + ~node)

    for node in range(inner):
        column, limit = columns.of(tree, node)
        links.append([column, *(place(int(child)) for child in (tree.left[node], tree.right[node]))])
        threshold.append(limit)
        expected.append(means[node])
    for value in tree.value:
        links.append([0, _LEAF, _LEAF])
        threshold.append(0.0)
        expected.append(float(value))


def _expected(tree: Tree, inner: int) -> list[float]:
    """Return the expected score at each inner node; where no training rows came, its children count alike."""
    means = [0.0] * inner
    for node in _children_first(tree, inner):
        children = int(tree.left[node]), int(tree.right[node])
        rows = [tree.rows_of(child) for child in children]
        weights = rows if min(rows) >= 0 and sum(rows) > 0 else [1, 1]
        values = [means[child] if child >= 0 else float(tree.value[~child]) for child in children]
        means[node] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    return means


def _children_first(tree: Tree, inner: int) -> list[int]:
    """Return the inner nodes, each behind those below it."""
    order, waiting = [], [0] * (inner > 0)
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += [int(child) for child in (tree.left[node], tree.right[node]) if child >= 0]
    return order[::-1]


@compiled
def _walk(X, columns, words, roots, links, threshold, expected, parts):  # type: ignore[no-untyped-def]
    """Add each row's changes of the expected score to its features' parts; a tree for all rows."""
    values = np.empty((len(X), len(columns)))
    for row in range(len(X)):
        for c in range(len(columns)):
            values[row, c] = value_of(X[row, columns[c, FEATURE]], c, columns, words)
    for root in roots:
        for row in range(len(X)):
            node = root
            while links[node, LEFT] >= 0:
                column = links[node, COLUMN]
                below = links[node, LEFT if values[row, column] <= threshold[node] else RIGHT]
                parts[row, columns[column, FEATURE]] += expected[below] - expected[node]
                node = below
