"""LightGBM's trees, compiled: the same bits as `Booster.predict(raw_score=True)`, several times faster.

Every inner node of a tree has a bit mask that clears the leaves it cuts off when a row goes right; the lowest bit
left after all nodes is the row's leaf. Every kind of split is made one: the row goes left where a *column* is not
above the node's threshold. A column is a feature whose missing values were put where they shall go (NaN, which is not
below anything, or below everything), or 0 and 1 for what a categorical split sends left and right. Eight rows are a
vector and up to four vectors go side by side, so that a node is a compare and an AND without a branch. A single row
costs as much as eight.

It knows trees of at most 64 leaves with constant leaves. Anything else raises `NotCompilable`, and LightGBM itself
scores.

Source: Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees" (2015), without its ordering of nodes by threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, UInt64
from fraudstream.compiled import compiled
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
from fraudstream.scoring.trees import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    ZERO_THRESHOLD,
    NotCompilable,
    Tree,
    Trees,
    has_bit,
)

LEAVES_MAX = 64
BLOCKS = 8  # of LANES rows each: a tree's nodes are used for all of them while they are in the cache

# Columns of `columns`: the feature, what becomes of its missing values, a categorical split's bits in `words`.
_FEATURE, _RULE, _FIRST_WORD, _END_WORD = range(4)
# Rules: NaN is 0; NaN goes left or right; NaN and 0 go left or right; a category goes as the bits say.
_NAN_IS_ZERO, _NAN_LEFT, _NAN_RIGHT, _ZERO_LEFT, _ZERO_RIGHT, _IN_WORDS = range(6)
_RULES = {
    (MISSING_NONE, False): _NAN_IS_ZERO, (MISSING_NONE, True): _NAN_IS_ZERO, (MISSING_NAN, False): _NAN_RIGHT,
    (MISSING_NAN, True): _NAN_LEFT, (MISSING_ZERO, False): _ZERO_RIGHT, (MISSING_ZERO, True): _ZERO_LEFT,
}  # fmt: skip

_ONES = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees as arrays.

    Attributes:
        features: of the model.
        first_node: [trees + 1] where a tree's nodes begin.
        column, threshold, keep: of each node; `keep` has the bits of the leaves that stay when a row goes right.
        leaf: [trees, LEAVES_MAX] leaf values from left to right.
        columns: [columns, 4] feature, rule, first and end word of a categorical split's bits.
        words: those bits, 32 categories each.
    """

    features: int
    first_node: Int64
    column: Int64
    threshold: Float64
    keep: UInt64
    leaf: Float64
    columns: Int64
    words: npt.NDArray[np.uint32]

    def raw_scores(self, X: Float64) -> Float64:
        """Return the raw scores of the model's own columns, [n]."""
        scores = aligned(-(-len(X) // LANES) * LANES)
        lanes = aligned(len(self.columns), BLOCKS, LANES)
        _score(
            X, self.columns, self.words, lanes, self.first_node, self.column, self.threshold, self.keep, self.leaf,
            scores,
        )  # fmt: skip
        return scores[: len(X)]


def compile_forest(trees: Trees) -> Forest:
    """Return a forest's arrays.

    Raises:
        NotCompilable: a tree has more than LEAVES_MAX leaves.
    """
    builder = _Builder()
    first, leaves = [0], []
    for tree in trees.trees:
        if len(tree.value) > LEAVES_MAX:
            raise NotCompilable(f"a tree has more than {LEAVES_MAX} leaves")
        leaves.append(builder.add(tree))
        first.append(len(builder.nodes))
    column, threshold, keep = zip(*builder.nodes, strict=True) if builder.nodes else ((), (), ())
    return Forest(
        features=trees.features,
        first_node=np.array(first, np.int64),
        column=np.array(column, np.int64),
        threshold=np.array(threshold, np.float64),
        keep=np.array(keep, np.uint64),
        leaf=np.array(leaves, np.float64).reshape(len(leaves), LEAVES_MAX),
        columns=np.array(list(builder.columns), np.int64).reshape(-1, 4),
        words=np.array([*builder.words, 0], np.uint32),
    )


class _Builder:
    """Collects the nodes of all trees, and the columns that they look at."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, float, int]] = []
        self.columns: dict[tuple[int, int, int, int], int] = {}
        self.words: list[int] = []

    def add(self, tree: Tree) -> list[float]:
        """Append a tree's nodes; return its leaf values in the order from left to right, padded."""
        ordered: list[float] = []
        self._walk(tree, 0 if len(tree.value) > 1 else ~0, ordered)
        return ordered + [0.0] * (LEAVES_MAX - len(ordered))

    def _walk(self, tree: Tree, node: int, ordered: list[float]) -> int:
        """Append what hangs below a node; return the bits of its leaves."""
        if node < 0:
            ordered.append(float(tree.value[~node]))
            return 1 << (len(ordered) - 1)
        left = self._walk(tree, int(tree.left[node]), ordered)
        column, threshold = self._column(tree, node)
        self.nodes.append((column, threshold, _ONES & ~left))
        return left | self._walk(tree, int(tree.right[node]), ordered)

    def _column(self, tree: Tree, node: int) -> tuple[int, float]:
        """Return the column that a node looks at, and up to which value a row goes left."""
        feature, kind, threshold = int(tree.feature[node]), int(tree.kind[node]), float(tree.threshold[node])
        if kind & CATEGORICAL:
            first, end = tree.first_word[int(threshold) : int(threshold) + 2].tolist()
            begin = len(self.words)
            self.words += tree.words[first:end].tolist()
            wanted = (feature, _IN_WORDS, begin, len(self.words))
            threshold = 0.5
        else:
            wanted = (feature, _RULES[(kind >> 2) & 3, bool(kind & DEFAULT_LEFT)], 0, 0)
        return self.columns.setdefault(wanted, len(self.columns)), threshold


@compiled
def _value_of(value, column, columns, words):  # type: ignore[no-untyped-def]
    """Return what a column has for a value of its feature."""
    rule = columns[column, _RULE]
    if abs(value) <= ZERO_THRESHOLD:
        value = 0.0
    if rule == _IN_WORDS:
        goes_left = has_bit(words, columns[column, _FIRST_WORD], columns[column, _END_WORD], value)
        return 0.0 if goes_left else 1.0
    if np.isnan(value):
        if rule == _NAN_LEFT:
            return -np.inf
        if rule == _NAN_RIGHT:
            return value
        value = 0.0
    if value == 0.0 and rule == _ZERO_LEFT:
        return -np.inf
    if value == 0.0 and rule == _ZERO_RIGHT:
        return np.nan
    return value


@compiled
def _score(X, columns, words, lanes, first_node, column, threshold, keep, leaf, scores):  # type: ignore[no-untyped-def]
    """Fill `scores`, trees added in their order, as LightGBM does.

    Args:
        lanes: [columns, BLOCKS, LANES] room for the columns of that many rows.
        scores: [n], n a multiple of LANES.
    """
    lanes_at, column_bytes = lanes.ctypes.data, BLOCKS * VECTOR_BYTES
    for start in range(0, len(scores), BLOCKS * LANES):
        rows = min(BLOCKS * LANES, len(X) - start)
        for c in range(len(columns)):
            for r in range(rows):
                lanes[c, r // LANES, r % LANES] = _value_of(
                    X[start + r, columns[c, _FEATURE]], c, columns, words
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
