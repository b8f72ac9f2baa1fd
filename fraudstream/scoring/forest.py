"""LightGBM's trees, compiled: the same bits as `Booster.predict(raw_score=True)`, several times faster.

Every inner node of a tree has a bit mask that clears the leaves it cuts off when a row goes right; the
lowest bit left after all nodes is the row's leaf. Rows go 64 at a time, one lane each, so that a node is a
compare and an AND over contiguous numbers, without a branch.

It knows numerical splits with missing values as NaN, in trees of at most 64 leaves. Anything else raises
`NotCompilable`, and LightGBM itself scores.

Source: Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees" (2015), without its ordering of nodes by threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, UInt64

LEAVES_MAX = 64
LANES = 64
ZERO_THRESHOLD = float(np.float32(1e-35))  # LightGBM takes what is no larger for 0 before it looks at a tree

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_NAN = 0, 2
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)


def _positions() -> Int64:
    """Return the table that turns a lone bit times the de Bruijn number into its position."""
    table = np.zeros(64, np.int64)
    for bit in range(64):
        table[((int(_DE_BRUIJN) << bit) & int(_ONES)) >> 58] = bit
    return table


_POSITION = _positions()


class NotCompilable(Exception):  # noqa: N818  # not an error: LightGBM takes over
    """The forest has a kind of split that is not compiled."""


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees as arrays.

    Attributes:
        first_node: [trees + 1] where a tree's nodes begin.
        feature, threshold, keep, nan_right: a node's feature, threshold, leaves kept when a row goes right,
            and whether a missing value goes right.
        leaf: [trees, 64] leaf values.
        zero_missing: [features] whether NaN counts as 0 in this feature.
    """

    first_node: Int64
    feature: Int64
    threshold: Float64
    keep: UInt64
    nan_right: npt.NDArray[np.bool_]
    leaf: Float64
    zero_missing: npt.NDArray[np.bool_]

    def raw_scores(self, X: Float64) -> Float64:
        """Return the raw scores of the model's own columns, [n]."""
        scores = np.empty(len(X), np.float64)
        _score(
            X, self.first_node, self.feature, self.threshold, self.keep, self.nan_right, self.leaf,
            self.zero_missing, scores,
        )  # fmt: skip
        return scores

    def probes(self, rows: int, seed: int = 0) -> Float64:
        """Return rows on, just below and just above thresholds, some values missing, [rows, features]."""
        rng = np.random.default_rng(seed)
        features = len(self.zero_missing)
        X = np.zeros((rows, features))
        for column in range(features):
            known = self.threshold[self.feature == column]
            values = np.concatenate(
                [known, np.nextafter(known, -np.inf), np.nextafter(known, np.inf), [0.0, np.nan]]
            )
            X[:, column] = rng.choice(values, rows)
        return X


def compile_forest(booster_text: str) -> Forest:
    """Read a LightGBM model text into arrays.

    Raises:
        NotCompilable: naming what is not known.
    """
    header, *blocks = booster_text.split("\nTree=")
    settings = _pairs(header)
    if settings.get("num_tree_per_iteration", "1") != "1" or "average_output" in header.split("\n"):
        raise NotCompilable("not one tree an iteration, summed")
    features = int(settings["max_feature_idx"]) + 1
    nodes: list[tuple[int, float, int, bool]] = []
    missing: dict[int, int] = {}
    first, leaves = [0], []
    for block in blocks:
        tree = _pairs(block.split("\n\n")[0])
        leaves.append(_add_tree(tree, nodes, missing))
        first.append(len(nodes))
    feature, threshold, keep, nan_right = zip(*nodes, strict=True) if nodes else ((), (), (), ())
    return Forest(
        first_node=np.array(first, np.int64),
        feature=np.array(feature, np.int64),
        threshold=np.array(threshold, np.float64),
        keep=np.array(keep, np.uint64),
        nan_right=np.array(nan_right, np.bool_),
        leaf=np.array(leaves, np.float64).reshape(len(blocks), LEAVES_MAX),
        zero_missing=np.array([missing.get(f, _MISSING_NONE) == _MISSING_NONE for f in range(features)]),
    )


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.split("\n") if "=" in line)


def _add_tree(
    tree: dict[str, str], nodes: list[tuple[int, float, int, bool]], missing: dict[int, int]
) -> list[float]:
    """Append a tree's nodes; return its leaf values in the order from left to right, padded."""
    count = int(tree["num_leaves"])
    if count > LEAVES_MAX or tree.get("is_linear", "0") != "0" or tree.get("num_cat", "0") != "0":
        raise NotCompilable("a tree has more than 64 leaves, linear leaves or categorical splits")
    values = [float(value) for value in tree["leaf_value"].split()]
    if count == 1:
        return values + [0.0] * (LEAVES_MAX - 1)
    left, right = ([int(child) for child in tree[side].split()] for side in ("left_child", "right_child"))
    splits = [int(value) for value in tree["split_feature"].split()]
    thresholds = [float(value) for value in tree["threshold"].split()]
    kinds = [int(value) for value in tree["decision_type"].split()]
    ordered: list[float] = []

    def walk(node: int) -> int:
        """Append the leaves below a node from left to right; return their bits."""
        if node < 0:
            ordered.append(values[~node])
            return 1 << (len(ordered) - 1)
        below_left = walk(left[node])
        kind = kinds[node]
        missing_type = (kind >> 2) & 3
        if kind & _CATEGORICAL or missing_type not in (_MISSING_NONE, _MISSING_NAN):
            raise NotCompilable("a split is categorical or takes zero for missing")
        if missing.setdefault(splits[node], missing_type) != missing_type:
            raise NotCompilable("a feature's missing values are taken in two ways")
        nan_right = missing_type == _MISSING_NAN and not kind & _DEFAULT_LEFT
        nodes.append((splits[node], thresholds[node], int(_ONES) & ~below_left, nan_right))
        return below_left | walk(right[node])

    walk(0)
    return ordered + [0.0] * (LEAVES_MAX - count)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _score(  # type: ignore[no-untyped-def]
    X, first_node, feature, threshold, keep, nan_right, leaf, zero_missing, scores
):
    """Fill `scores`, a block of LANES rows at a time; trees are added in their order, as LightGBM does."""
    features = X.shape[1]
    lanes = np.zeros((features, LANES))
    left = np.empty(LANES, np.uint64)
    total = np.empty(LANES)
    for start in range(0, len(X), LANES):
        rows = min(LANES, len(X) - start)
        for f in range(features):
            for r in range(rows):
                value = X[start + r, f]
                nothing = zero_missing[f] and np.isnan(value)
                lanes[f, r] = 0.0 if nothing or abs(value) <= ZERO_THRESHOLD else value
        total[:] = 0.0
        for t in range(len(first_node) - 1):
            left[:] = _ONES
            for node in range(first_node[t], first_node[t + 1]):
                f, limit, kept = feature[node], threshold[node], keep[node]
                if nan_right[node]:
                    for r in range(LANES):
                        left[r] &= _ONES if lanes[f, r] <= limit else kept
                else:
                    for r in range(LANES):
                        left[r] &= kept if lanes[f, r] > limit else _ONES
            for r in range(LANES):
                lowest = left[r] & (~left[r] + np.uint64(1))
                total[r] += leaf[t, _POSITION[(lowest * _DE_BRUIJN) >> np.uint64(58)]]
        for r in range(rows):
            scores[start + r] = total[r]
