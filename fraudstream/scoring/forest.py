"""LightGBM's trees, compiled: the same bits as `Booster.predict(raw_score=True)`, several times faster.

Every kind of split is one comparison (`columns`). Rows are scored eight at a time, or each by itself:

- Eight rows are a vector and up to four vectors go side by side. Every inner node of a tree has a bit mask that
  clears the leaves it cuts off when a row goes right; the lowest bit left after all nodes is the row's leaf. A node
  is a compare and an AND without a branch.
- A row by itself goes down eight trees at once, without a branch either: children stand side by side, the right one
  first, and a leaf leads to itself. A step waits for three loads, one after the other, and those of eight trees wait
  together.

It knows trees of at most 64 leaves with constant leaves. Anything else raises `NotCompilable`, and LightGBM itself
scores.

Source: Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees" (2015), without its ordering of nodes by threshold; Asadi et al., "Runtime optimizations for
tree-based machine learning models" (2014) for the interleaved descent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, UInt64
from fraudstream.compiled import compiled
from fraudstream.scoring.columns import FEATURE, Columns, value_of
from fraudstream.scoring.lanes import (
    LANES,
    VECTOR_BYTES,
    aligned,
    all_bits,
    cut_above,
    load,
    pick,
    spread,
    store,
)
from fraudstream.scoring.trees import NotCompilable, Tree, Trees

LEAVES_MAX = 64
BLOCKS = 8  # of LANES rows each: a tree's nodes are used for all of them while they are in the cache

ABREAST = 8  # trees that a row goes down at once; 16 and 32 are slower
NODES_A_DESCENT = 10  # of a tree, looked at for eight rows, take as long as the descent of one row

_STEP = np.dtype([("limit", np.float64), ("column", np.uint32), ("right", np.uint32)])
_AT_A_LEAF = -1  # column of leaves, until it is known how many columns there are

_ONES = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees as arrays.

    Attributes:
        features: of the model.
        columns, words: what nodes look at, see `Columns.tables`.
        first_node: [trees + 1] where a tree's nodes begin.
        column, threshold, keep: of each inner node; `keep` has the bits of the leaves that stay when a row goes
            right.
        leaf: [trees, LEAVES_MAX] leaf values from left to right.
        steps: all nodes for the descent: `limit`, up to which a row goes left, `column`, and the `right` child,
            behind which the left one stands. A leaf's limit is its value; its column, behind all others, is NaN.
        roots: [trees, up to a multiple of ABREAST] first steps; what stands behind the last tree adds -0.0, which
            changes nothing.
        alone_max: so many rows are faster one after the other than together.
    """

    features: int
    columns: Int64
    words: npt.NDArray[np.uint32]
    first_node: Int64
    column: Int64
    threshold: Float64
    keep: UInt64
    leaf: Float64
    steps: npt.NDArray[np.void]
    roots: Int64
    alone_max: int

    def raw_scores(self, X: Float64) -> Float64:
        """Return the raw scores of the model's own columns, [n]."""
        if len(X) <= self.alone_max:
            return self.descend(X)
        scores: Float64 = _score(
            X, self.columns, self.words, self.first_node, self.column, self.threshold, self.keep, self.leaf
        )
        return scores

    def descend(self, X: Float64) -> Float64:
        """Return the same scores, each row by itself, however many there are."""
        scores: Float64 = _descend(X, self.columns, self.words, self.steps, self.roots)
        return scores


def compile_forest(trees: Trees) -> Forest:
    """Return a forest's arrays.

    Raises:
        NotCompilable: a tree has more than LEAVES_MAX leaves.
    """
    builder = _Builder()
    first, leaves, roots = [0], [], []
    for tree in trees.trees:
        if len(tree.value) > LEAVES_MAX:
            raise NotCompilable(f"a tree has more than {LEAVES_MAX} leaves")
        roots.append(len(builder.steps))
        leaves.append(builder.add(tree))
        first.append(len(builder.nodes))
    column, threshold, keep = zip(*builder.nodes, strict=True) if builder.nodes else ((), (), ())
    columns, words = builder.columns.tables()
    return Forest(
        features=trees.features,
        columns=columns,
        words=words,
        first_node=np.array(first, np.int64),
        column=np.array(column, np.int64),
        threshold=np.array(threshold, np.float64),
        keep=np.array(keep, np.uint64),
        leaf=np.array(leaves, np.float64).reshape(len(leaves), LEAVES_MAX),
        steps=np.array(
            [(limit, len(columns) if at == _AT_A_LEAF else at, right) for limit, at, right in builder.steps],
            _STEP,
        ),
        roots=np.array([*roots, *[0] * (-len(roots) % ABREAST)], np.int64),
        alone_max=max(1, len(builder.nodes) // (NODES_A_DESCENT * max(len(roots), 1))),
    )


class _Builder:
    """Collects the nodes of all trees, and the columns that they look at."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.nodes: list[tuple[int, float, int]] = []
        self.steps: list[tuple[float, int, int]] = [(-0.0, _AT_A_LEAF, 0)]

    def add(self, tree: Tree) -> list[float]:
        """Append a tree's nodes; return its leaf values in the order from left to right, padded."""
        ordered: list[float] = []
        self._walk(tree, 0 if len(tree.value) > 1 else ~0, self._room(1), ordered)
        return ordered + [0.0] * (LEAVES_MAX - len(ordered))

    def _room(self, steps: int) -> int:
        """Append steps to be set; return the place of the first."""
        self.steps += [(0.0, 0, 0)] * steps
        return len(self.steps) - steps

    def _walk(self, tree: Tree, node: int, place: int, ordered: list[float]) -> int:
        """Append what hangs below a node, whose own step has its place; return the bits of its leaves."""
        if node < 0:
            ordered.append(float(tree.value[~node]))
            self.steps[place] = ordered[-1], _AT_A_LEAF, place
            return 1 << (len(ordered) - 1)
        column, threshold = self.columns.of(tree, node)
        right = self._room(2)
        self.steps[place] = threshold, column, right
        bits = self._walk(tree, int(tree.left[node]), right + 1, ordered)
        self.nodes.append((column, threshold, _ONES & ~bits))
        return bits | self._walk(tree, int(tree.right[node]), right, ordered)


@compiled
def _descend(X, columns, words, steps, roots):  # type: ignore[no-untyped-def]
    """Return the scores of rows, one after the other, trees added in their order, as LightGBM does."""
    values, at, scores = np.empty(len(columns) + 1), np.empty(ABREAST, np.int64), np.zeros(len(X))
    values[-1] = np.nan  # not below any limit
    for row in range(len(X)):
        for c in range(len(columns)):
            values[c] = value_of(X[row, columns[c, FEATURE]], c, columns, words)
        for begin in range(0, len(roots), ABREAST):
            at[:] = roots[begin : begin + ABREAST]
            moved = 1
            while moved != 0:
                moved = 0
                for k in range(ABREAST):
                    step = steps[at[k]]
                    to = np.int64(step.right) + (values[step.column] <= step.limit)
                    moved |= to ^ at[k]
                    at[k] = to
            for k in range(ABREAST):
                scores[row] += steps[at[k]].limit
    return scores


@compiled
def _score(X, columns, words, first_node, column, threshold, keep, leaf):  # type: ignore[no-untyped-def]
    """Return the scores of rows, eight at a time, trees added in their order, as LightGBM does."""
    scores = aligned((len(X) + LANES - 1) // LANES * LANES)
    lanes = aligned(len(columns) * BLOCKS * LANES).reshape(len(columns), BLOCKS, LANES)
    lanes_at, column_bytes = lanes.ctypes.data, BLOCKS * VECTOR_BYTES
    for start in range(0, len(scores), BLOCKS * LANES):
        rows = min(BLOCKS * LANES, len(X) - start)
        for c in range(len(columns)):
            for r in range(rows):
                lanes[c, r // LANES, r % LANES] = value_of(
                    X[start + r, columns[c, FEATURE]], c, columns, words
                )
        blocks, scores_at = (rows + LANES - 1) // LANES, scores.ctypes.data + 8 * start
        for block in range(blocks):
            store(scores_at + block * VECTOR_BYTES, spread(0.0))
        for t in range(len(first_node) - 1):
            leaves = leaf.ctypes.data + 8 * LEAVES_MAX * t
            for block in range(0, blocks - 3, 4):
                here, to = lanes_at + block * VECTOR_BYTES, scores_at + block * VECTOR_BYTES
                first, second, third, fourth = all_bits(), all_bits(), all_bits(), all_bits()
                for node in range(first_node[t], first_node[t + 1]):
                    value, limit, kept = here + column[node] * column_bytes, threshold[node], keep[node]
                    first = cut_above(first, load(value), limit, kept)
                    second = cut_above(second, load(value + VECTOR_BYTES), limit, kept)
                    third = cut_above(third, load(value + 2 * VECTOR_BYTES), limit, kept)
                    fourth = cut_above(fourth, load(value + 3 * VECTOR_BYTES), limit, kept)
                store(to, load(to) + pick(leaves, first))
                store(to + VECTOR_BYTES, load(to + VECTOR_BYTES) + pick(leaves, second))
                store(to + 2 * VECTOR_BYTES, load(to + 2 * VECTOR_BYTES) + pick(leaves, third))
                store(to + 3 * VECTOR_BYTES, load(to + 3 * VECTOR_BYTES) + pick(leaves, fourth))
            for block in range(blocks // 4 * 4, blocks):
                here, left = lanes_at + block * VECTOR_BYTES, all_bits()
                for node in range(first_node[t], first_node[t + 1]):
                    value = load(here + column[node] * column_bytes)
                    left = cut_above(left, value, threshold[node], keep[node])
                to = scores_at + block * VECTOR_BYTES
                store(to, load(to) + pick(leaves, left))
    return scores[: len(X)]
