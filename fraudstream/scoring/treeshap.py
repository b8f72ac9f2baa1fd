"""Exact TreeSHAP, compiled: each feature's part of a raw score, many times faster than LightGBM's `pred_contrib`.

A leaf whose path looks at features with tests o (passed: 1, failed: 0) and cover ratios r is a product game: its
value times the product of o over the features that are known, and of r over the others. The Shapley value of
feature j in it is

    value * (o_j - r_j) * integral over t in [0, 1] of the product over k != j of (o_k t + r_k (1 - t)),

a polynomial in t, so that Gauss-Legendre quadrature with half as many points as the path has features is exact. A
tree is walked down once with the products at all points, and up once with the leaves' sums: what hangs below an edge
is divided by the edge's own factor. Where a feature comes again further down, its factors are merged: the deeper edge
takes the place of the one above.

Eight rows go at once, one lane each; of fewer than four each goes by itself, with a lane a point. Both give the same
bits. Memory: 88 bytes a tree node, and 24 a node and point (`TreeShap.nbytes`).

Source: Lundberg et al., "Consistent Individualized Feature Attribution for Tree Ensembles" (2018); Yu et al., "Linear
TreeShap" (2022) for the walk; the integral is Owen's multilinear extension (1972).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64
from fraudstream.scoring.lanes import LANES, aligned
from fraudstream.scoring.trees import CATEGORICAL, NotCompilable, Tree, Trees, flush_zeros
from fraudstream.scoring.treeshap_kernels import (
    END_WORD,
    FIRST_WORD,
    RATIO,
    RIGHT,
    VALUE,
    explain_by_points,
    explain_by_rows,
)

ROWS_TOGETHER_MIN = 4  # fewer are explained one after the other
PATH_FEATURES_MAX = 64  # as many as a tree of 64 leaves, all of them on one path, could have


@dataclass(frozen=True, slots=True)
class TreeShap:
    """A forest, ready to be explained.

    Attributes:
        features: of the model; base: mean raw score over the training rows.
        reals, links: [nodes, columns] of all trees, see `treeshap_kernels`; first: [trees + 1] where each one's
            begin.
        points: [trees] points t of the quadrature.
        factors: one after the other for each node [3, room]: ratio (1 - t), then 1 / (o t + ratio (1 - t)) for o = 0
            and 1, at all points and behind them 1 up to a multiple of LANES; first_factor: [trees] where each
            tree's begin.
        rules: [points, 2, room] the weights and points t of each size up to the largest, and 0 behind them.
        words: bits of the categorical splits.
    """

    features: int
    base: float
    reals: Float64
    links: Int64
    first: Int64
    points: Int64
    factors: Float64
    first_factor: Int64
    rules: Float64
    words: npt.NDArray[np.uint32]

    @property
    def nbytes(self) -> int:
        """Return the bytes of all tables."""
        return sum(table.nbytes for table in self._tables())

    def contributions(self, X: Float64) -> Float64:
        """Return each feature's part of the raw score and, last, the base, for the model's columns.

        Args:
            X: [n, features].

        Returns:
            [n, features + 1]; a row's sum is its raw score.
        """
        parts = np.zeros((len(X), self.features + 1))
        parts[:, -1] = self.base
        if len(self.links) and len(X):
            explain = self._by_points if len(X) < ROWS_TOGETHER_MIN else self._by_rows
            parts[:, :-1] = explain(np.ascontiguousarray(flush_zeros(X))).sum(axis=2)
        return parts

    def _by_points(self, X: Float64) -> Float64:
        """Return the features' parts by lane, [n, features, LANES]."""
        nodes = int(np.diff(self.first).max())
        sums = aligned(len(X), self.features, LANES)
        sums[:] = 0.0
        room = aligned(nodes, self.rules.shape[2] // LANES, LANES)
        explain_by_points(X, self._tables(), room, np.zeros(nodes, np.int64), sums)
        return sums

    def _by_rows(self, X: Float64) -> Float64:
        """Return the features' parts by lane, [n, features, LANES]."""
        blocks, nodes = -(-len(X) // LANES), int(np.diff(self.first).max())
        padded = np.zeros((blocks * LANES, self.features))
        padded[: len(X)] = X
        values, sums = aligned(blocks, self.features, LANES), aligned(blocks, self.features, LANES, LANES)
        values[:] = padded.reshape(blocks, LANES, self.features).transpose(0, 2, 1)
        sums[:] = 0.0
        room, passed = aligned(nodes, int(self.points.max()), LANES), aligned(nodes, LANES)
        explain_by_rows(values, self._tables(), room, passed, sums)
        by_row = sums.transpose(0, 3, 1, 2).reshape(-1, self.features, LANES)
        return np.ascontiguousarray(by_row[: len(X)])

    def _tables(self) -> tuple[npt.NDArray[Any], ...]:
        return (
            self.reals, self.links, self.first, self.points, self.factors, self.first_factor, self.rules, self.words,
        )  # fmt: skip


def compile_treeshap(trees: Trees) -> TreeShap:
    """Return the tables of a forest.

    Raises:
        NotCompilable: no training row came to some node, or a path has more than PATH_FEATURES_MAX features.
    """
    base, flat = 0.0, []
    for tree in trees.trees:
        if len(tree.value) == 1:
            base += float(tree.value[0])
            continue
        if min(tree.leaf_rows.min(), tree.inner_rows.min()) <= 0:
            raise NotCompilable("a node without training rows")
        base += float(tree.value @ (tree.leaf_rows / tree.inner_rows[0]))
        flat.append(_Flat(tree))
    if any(one.path_features > PATH_FEATURES_MAX for one in flat):
        raise NotCompilable(f"a path with more than {PATH_FEATURES_MAX} features")
    points = [(one.path_features + 1) // 2 for one in flat]
    rules = _rules(max(points, default=1))
    reals = np.array([real for one in flat for real in one.reals], np.float64).reshape(-1, VALUE + 1)
    links = np.array([link for one in flat for link in one.links], np.int64).reshape(-1, END_WORD + 1)
    first = np.cumsum([0, *(len(one.links) for one in flat)])
    words_before = np.cumsum([0, *(len(one.words) for one in flat)])
    factors = []
    for t, (count, begin, end) in enumerate(zip(points, first[:-1], first[1:], strict=True)):
        links[begin:end, [FIRST_WORD, END_WORD]] += words_before[t]
        shares = np.ones((end - begin, 3, _padded(count)))
        at = rules[count - 1, 1, :count]
        shares[:, 0, :count] = reals[begin:end, RATIO, None] * (1.0 - at)
        shares[:, 1, :count] = 1.0 / shares[:, 0, :count]
        shares[:, 2, :count] = 1.0 / (at + shares[:, 0, :count])
        factors.append(shares)
    sizes = np.cumsum([0, *(part.size for part in factors)])
    table = aligned(int(sizes[-1]))
    table[:] = np.concatenate([np.zeros(0), *(part.ravel() for part in factors)])
    return TreeShap(
        trees.features, base, reals, links, first,
        points=np.array(points, np.int64),
        factors=table,
        first_factor=sizes[:-1],
        rules=rules,
        words=np.concatenate([np.zeros(0, np.uint32), *(one.words for one in flat), np.zeros(1, np.uint32)]),
    )  # fmt: skip


def _padded(points: int) -> int:
    return -(-points // LANES) * LANES


def _rules(largest: int) -> Float64:
    """Return Gauss-Legendre's rules on [0, 1] with 1 to `largest` points: weights and points."""
    rules = np.zeros((largest, 2, _padded(largest)))
    for count in range(1, largest + 1):
        at, weight = np.polynomial.legendre.leggauss(count)
        rules[count - 1, :, :count] = weight / 2, (1 + at) / 2
    return rules


class _Flat:
    """One tree's nodes in preorder, and how many features its longest path looks at."""

    def __init__(self, tree: Tree) -> None:
        self.reals: list[list[float]] = []
        self.links: list[list[int]] = []
        self.words = tree.words
        self.path_features = 0
        self._add(tree, 0, (0, -1, 1.0), {})

    def _add(self, tree: Tree, node: int, edge: tuple[int, int, float], seen: dict[int, int]) -> int:
        """Append a node and what hangs below it; return its number.

        Args:
            edge: the parent, the feature that it looked at, the share of its rows that came here.
            seen: of each feature, the last edge above.
        """
        parent, feature, ratio = edge
        place, above = len(self.links), seen.get(feature, 0)
        if above:
            ratio *= self.reals[above][RATIO]
        seen = seen if feature < 0 else {**seen, feature: place}
        if node < 0:
            self.reals.append([ratio, 0.0, float(tree.value[~node])])
            self.links.append([parent, 0, above, 0, feature, 0, 0, 0])
            self.path_features = max(self.path_features, len(seen))
            return place
        split, kind, bits = int(tree.feature[node]), int(tree.kind[node]), [0, 0]
        if kind & CATEGORICAL:
            at = int(tree.threshold[node])
            bits = tree.first_word[at : at + 2].tolist()
        self.reals.append([ratio, float(tree.threshold[node]), 1.0])
        self.links.append([parent, 0, above, split, feature, kind, *bits])
        left, right = (
            (child, (place, split, float(tree.rows_of(child) / tree.rows_of(node))))
            for child in (int(tree.left[node]), int(tree.right[node]))
        )
        self._add(tree, *left, seen)
        self.links[place][RIGHT] = self._add(tree, *right, seen)
        return place
