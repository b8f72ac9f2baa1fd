"""Shapley values by their definition: every order in which the features of a tree can become known."""

from __future__ import annotations

import math
from itertools import combinations

from fraudstream.scoring.trees import CATEGORICAL, DEFAULT_LEFT, MISSING_NAN, MISSING_ZERO, WORD_BITS, Tree

NOTHING = 1.0000000180025095e-35  # LightGBM's 1e-35, which is a float


def passes_left(tree: Tree, node: int, value: float) -> bool:
    """Tell whether a row with this value goes left, from LightGBM's own rules."""
    kind, threshold = int(tree.kind[node]), float(tree.threshold[node])
    if abs(value) <= NOTHING:
        value = 0.0
    if kind & CATEGORICAL:
        first, end = (int(tree.first_word[int(threshold) + i]) for i in (0, 1))
        if math.isnan(value) or not 0 <= value < WORD_BITS * (end - first):
            return False
        word, bit = divmod(int(value), WORD_BITS)
        return bool(int(tree.words[first + word]) >> bit & 1)
    missing = kind >> 2 & 3
    if math.isnan(value) and missing != MISSING_NAN:
        value = 0.0
    if (missing == MISSING_NAN and math.isnan(value)) or (missing == MISSING_ZERO and value == 0.0):
        return bool(kind & DEFAULT_LEFT)
    return value <= threshold


def expected(tree: Tree, x: list[float], known: set[int], node: int = 0) -> float:
    """Return the mean of the leaves that a row can come to, if only some features are known.

    Where the feature of a node is not, its children count by how many training rows came to each.
    """
    if node < 0 or len(tree.value) == 1:
        return float(tree.value[~node if node < 0 else 0])
    children = int(tree.left[node]), int(tree.right[node])
    feature = int(tree.feature[node])
    if feature in known:
        return expected(tree, x, known, children[0 if passes_left(tree, node, x[feature]) else 1])
    shares = [tree.rows_of(child) / tree.rows_of(node) for child in children]
    return sum(share * expected(tree, x, known, child) for share, child in zip(shares, children, strict=True))


def shapley(tree: Tree, x: list[float]) -> list[float]:
    """Return each feature's Shapley value and, last, the value with none known."""
    used = sorted(set(tree.feature.tolist()))
    values = [0.0] * len(x)
    for feature in used:
        others = [other for other in used if other != feature]
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(used) - size - 1) / math.factorial(len(used))
            for known in combinations(others, size):
                with_it = expected(tree, x, {*known, feature})
                values[feature] += weight * (with_it - expected(tree, x, set(known)))
    return [*values, expected(tree, x, set())]


def along_the_path(tree: Tree, x: list[float]) -> list[float]:
    """Return what the splits of each feature on a row's path change and, last, the value with none known."""
    values = [0.0] * len(x)
    node, now = 0, expected(tree, x, set())
    values.append(now)
    while node >= 0 and len(tree.value) > 1:
        feature = int(tree.feature[node])
        node = int((tree.left if passes_left(tree, node, x[feature]) else tree.right)[node])
        then = expected(tree, x, set(), node)
        values[feature] += then - now
        now = then
    return values
