"""Exact TreeSHAP, compiled: each feature's part of a raw score, many times faster than LightGBM's `pred_contrib`.

A leaf whose path looks at features with tests o (passed: 1, failed: 0) and cover ratios r is a product game: its
value times the product of o over the features that are known, and of r over the others. The Shapley value of
feature j in it is

    value * (o_j - r_j) * integral over t in [0, 1] of the product over k != j of (o_k t + r_k (1 - t)),

a polynomial in t, so that Gauss-Legendre quadrature with half as many points as the path has features is exact. A
tree is walked down once with the products at all points, and up once with the leaves' sums: an edge's own factor is
left out of both. Where a feature comes again further down, its factors are merged: the deeper edge takes the place
of the one above, whose factor is divided out.

A lane is a row at a point: from four rows on eight rows go at once, fewer one after the other with eight points. The
tables are small (`TreeShap.nbytes`: 56 bytes a split, 8 a leaf) and read in order; what a walk knows of a tree stays
in the cache.

Source: Lundberg et al., "Consistent Individualized Feature Attribution for Tree Ensembles" (2018); Yu et al., "Linear
TreeShap" (2022) for the walk; the integral is Owen's multilinear extension (1972).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64
from fraudstream.scoring.columns import Columns
from fraudstream.scoring.lanes import LANES
from fraudstream.scoring.trees import NotCompilable, Tree, Trees
from fraudstream.scoring.treeshap_kernels import NODE, explain

ROWS_TOGETHER_MIN = 4  # fewer are explained one after the other
PATH_FEATURES_MAX = 64  # as many as a tree of 64 leaves, all of them on one path, could have


@dataclass(frozen=True, slots=True)
class TreeShap:
    """A forest, ready to be explained.

    Attributes:
        features: of the model; base: mean raw score over the training rows.
        columns, words: what nodes look at, see `Columns.tables`.
        nodes: the inner ones of all trees, see `treeshap_kernels.NODE`; first: [trees + 1] where each tree's begin.
        leaf: leaf values of all trees, of each one more than inner nodes.
        points: [trees] points t of the quadrature.
        rules: by rows abreast, the rules of each size, see `treeshap_kernels.explain`.
    """

    features: int
    base: float
    columns: Int64
    words: npt.NDArray[np.uint32]
    nodes: npt.NDArray[np.void]
    first: Int64
    leaf: Float64
    points: Int64
    rules: dict[int, Float64]

    @property
    def nbytes(self) -> int:
        """Return the bytes of all tables."""
        return sum(table.nbytes for table in (*self._tables(), *self.rules.values()))

    def contributions(self, X: Float64) -> Float64:
        """Return each feature's part of the raw score and, last, the base, for the model's columns.

        Args:
            X: [n, features].

        Returns:
            [n, features + 1]; a row's sum is its raw score.
        """
        parts = np.zeros((len(X), self.features + 1))
        parts[:, -1] = self.base
        if len(self.nodes) and len(X):
            abreast = 1 if len(X) < ROWS_TOGETHER_MIN else LANES
            explain(np.ascontiguousarray(X), self._tables(), self.rules[abreast], abreast, parts[:, :-1])
        return parts

    def _tables(self) -> tuple[npt.NDArray[Any], ...]:
        return self.columns, self.words, self.nodes, self.first, self.leaf, self.points


def compile_treeshap(trees: Trees) -> TreeShap:
    """Return the tables of a forest.

    Raises:
        NotCompilable: no training row came to some node, or a path has more than PATH_FEATURES_MAX features.
    """
    base, flat, collected = 0.0, [], Columns()
    for tree in trees.trees:
        if len(tree.value) == 1:
            base += float(tree.value[0])
            continue
        if min(tree.leaf_rows.min(), tree.inner_rows.min()) <= 0:
            raise NotCompilable("a node without training rows")
        base += float(tree.value @ (tree.leaf_rows / tree.inner_rows[0]))
        flat.append(_Flat(tree, collected))
    if any(one.path_features > PATH_FEATURES_MAX for one in flat):
        raise NotCompilable(f"a path with more than {PATH_FEATURES_MAX} features")
    points = [(one.path_features + 1) // 2 for one in flat]
    columns, words = collected.tables()
    return TreeShap(
        trees.features, base, columns, words,
        nodes=np.array([node for one in flat for node in one.nodes], NODE),
        first=np.cumsum([0, *(len(one.nodes) for one in flat)]),
        leaf=np.array([value for one in flat for value in one.leaf], np.float64),
        points=np.array(points, np.int64),
        rules={abreast: _rules(max(points, default=1), abreast) for abreast in (1, LANES)},
    )  # fmt: skip


def _rules(largest: int, rows_abreast: int) -> Float64:
    """Return Gauss-Legendre's rules on [0, 1] with 1 to `largest` points: weights, points t, and 1 - t.

    Each number stands side by side for all rows; behind the last point the weight is 0.
    """
    steps = -(-largest * rows_abreast // LANES)
    rules = np.zeros((largest, 3, steps * LANES))
    for count in range(1, largest + 1):
        at, weight = np.polynomial.legendre.leggauss(count)
        rules[count - 1, :2, : count * rows_abreast] = np.repeat(
            [weight / 2, (1 + at) / 2], rows_abreast, axis=1
        )
    rules[:, 2] = 1.0 - rules[:, 1]
    return rules.reshape(largest, 3, steps, LANES)


class _Flat:
    """One tree's inner nodes and leaves in preorder, and how many features its longest path looks at."""

    def __init__(self, tree: Tree, columns: Columns) -> None:
        self.nodes: list[tuple[float, ...]] = []
        self.leaf: list[float] = []
        self.path_features = 0
        self._columns = columns
        self._add(tree, 0, {})

    def _add(self, tree: Tree, node: int, seen: dict[int, tuple[int, float]]) -> int:
        """Append a node and what hangs below it; return its number.

        Args:
            seen: of each feature, the number and the ratio of the last edge above.
        """
        if node < 0:
            self.leaf.append(float(tree.value[~node]))
            self.path_features = max(self.path_features, len(seen))
            return len(tree.feature) + len(self.leaf) - 1
        place, feature = len(self.nodes), int(tree.feature[node])
        above, above_ratio = seen.get(feature, (0, 1.0))
        column, threshold = self._columns.of(tree, node)
        self.nodes.append(())
        ratios, numbers = [], []
        for child in (int(tree.left[node]), int(tree.right[node])):
            ratios.append(above_ratio * (tree.rows_of(child) / tree.rows_of(node)))
            numbers.append(self._add(tree, child, {**seen, feature: (len(self.nodes), ratios[-1])}))
        self.nodes[place] = (threshold, *ratios, above_ratio, column, feature, *numbers, above)
        return place
