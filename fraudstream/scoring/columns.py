"""Every kind of split as one comparison: a row goes left where a *column* is not above the node's threshold.

A column is a feature whose missing values were put where they shall go (NaN, which is not below anything, or below
everything), or 0 and 1 for what a categorical split sends left and right. It is made once a row for all trees.

Source: LightGBM's `Tree::NumericalDecision`, `Tree::CategoricalDecision` (include/LightGBM/tree.h).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64
from fraudstream.compiled import compiled
from fraudstream.scoring.trees import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    WORD_BITS,
    ZERO_THRESHOLD,
    Tree,
)

FEATURE, _RULE, _FIRST_WORD, _END_WORD = range(4)
# Rules: NaN is 0; NaN goes left or right; NaN and 0 go left or right; a category goes as the bits say.
_NAN_IS_ZERO, _NAN_LEFT, _NAN_RIGHT, _ZERO_LEFT, _ZERO_RIGHT, _IN_WORDS = range(6)
_RULES = {
    (MISSING_NONE, False): _NAN_IS_ZERO, (MISSING_NONE, True): _NAN_IS_ZERO, (MISSING_NAN, False): _NAN_RIGHT,
    (MISSING_NAN, True): _NAN_LEFT, (MISSING_ZERO, False): _ZERO_RIGHT, (MISSING_ZERO, True): _ZERO_LEFT,
}  # fmt: skip


class Columns:
    """Collects the columns that a model's nodes look at."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int, int, int], int] = {}
        self._words: list[int] = []

    def of(self, tree: Tree, node: int) -> tuple[int, float]:
        """Return the column that a node looks at, and up to which value a row goes left."""
        feature, kind, threshold = int(tree.feature[node]), int(tree.kind[node]), float(tree.threshold[node])
        if kind & CATEGORICAL:
            first, end = tree.first_word[int(threshold) : int(threshold) + 2].tolist()
            begin = len(self._words)
            self._words += tree.words[first:end].tolist()
            wanted = (feature, _IN_WORDS, begin, len(self._words))
            threshold = 0.5
        else:
            wanted = (feature, _RULES[(kind >> 2) & 3, bool(kind & DEFAULT_LEFT)], 0, 0)
        return self._numbers.setdefault(wanted, len(self._numbers)), threshold

    def tables(self) -> tuple[Int64, npt.NDArray[np.uint32]]:
        """Return the columns, [columns, 4]: feature, rule, first and end word; and the words, 32 categories each."""
        columns = np.array(list(self._numbers), np.int64).reshape(-1, 4)
        return columns, np.array([*self._words, 0], np.uint32)


@compiled
def _has_bit(words, first, end, value):  # type: ignore[no-untyped-def]
    """Tell whether a category's bit is set among words[first:end]; what is no category's number is in none."""
    if not 0.0 <= value < WORD_BITS * (end - first):  # NaN is not, nor is anything below 0
        return False
    bit = np.int64(value)
    return (words[first + bit // WORD_BITS] >> np.uint32(bit % WORD_BITS)) & np.uint32(1) != 0


@compiled
def value_of(value, column, columns, words):  # type: ignore[no-untyped-def]
    """Return what a column has for a value of its feature."""
    rule = columns[column, _RULE]
    if abs(value) <= ZERO_THRESHOLD:
        value = 0.0
    if rule == _IN_WORDS:
        return (
            0.0 if _has_bit(words, columns[column, _FIRST_WORD], columns[column, _END_WORD], value) else 1.0
        )
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
