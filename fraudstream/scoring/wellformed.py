"""A model text is checked line by line before LightGBM reads it.

LightGBM's reader believes what it reads: a child that is no node, a size that is not the tree's, a line without its
`=` make it read beyond its memory, and the process dies or scores by chance. Here every number that is used as a
position is shown to be one, so that behind this check come only texts that LightGBM could have written.

Source: LightGBM's `GBDT::LoadModelFromString` and `Tree::Tree(const char*, size_t*)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fraudstream.batch import Float64, Int64
from fraudstream.errors import ModelError

FEATURES_MAX = 2048
TREES_MAX = 5000
TREE_LEAVES_MAX = 512  # so that no walk down a tree is deeper than Python's stack
LEAVES_MAX = 256_000  # of all trees
EXACT = 2**53
LEAF_VALUE_MAX = 1e100  # so that no sum of them overflows

_HEADER = {
    "version": r"v[34]", "num_class": "1", "num_tree_per_iteration": "1", "label_index": r"\d{1,6}",
    "max_feature_idx": r"\d{1,6}", "objective": r"[^=]*", "average_output": "", "feature_names": ".+",
    "monotone_constraints": r"[-01 ]*", "feature_infos": r"[-+.:\[\]0-9a-z ]+", "tree_sizes": r"[0-9 ]*",
}  # fmt: skip
_OPTIONAL = {"objective", "average_output", "monotone_constraints"}
_TAIL = re.compile(
    r"end of trees\n"
    r"(\nfeature_importances:\n([^\n]+=\d{1,12}\n)*)?"
    r"(\nparameters:\n(\[[a-z0-9_]+: [^\n]*\]\n)*\nend of parameters\n)?"
    r"(\npandas_categorical:(null|\[[^\n]*\])\n)?"
)
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_INTEGERS = re.compile(r"[-0-9 ]*")
_NUMBERS = re.compile(r"[-+.e0-9 ]*")
_ANY_NUMBERS = re.compile(r"[-+.0-9aefin ]*")  # with inf and nan, where nothing depends on it

_NODE_LINES = {
    "split_feature": _INTEGERS, "split_gain": _ANY_NUMBERS, "threshold": _ANY_NUMBERS, "decision_type": _INTEGERS,
    "left_child": _INTEGERS, "right_child": _INTEGERS, "internal_value": _ANY_NUMBERS,
    "internal_weight": _ANY_NUMBERS, "internal_count": _INTEGERS,
}  # fmt: skip
_LEAF_LINES = {"leaf_weight": _ANY_NUMBERS, "leaf_count": _INTEGERS}
_LINEAR_LINES = {
    "leaf_const": _NUMBERS, "num_features": _INTEGERS, "leaf_features": _INTEGERS, "leaf_coeff": _NUMBERS,
}  # fmt: skip
_OTHER_LINES = (
    "leaf_value",
    "num_leaves",
    "num_cat",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "shrinkage",
)


def check_booster_text(text: str, feature_names: Sequence[str]) -> int:
    """Check that a text is a forest of LightGBM's over these features; return its trees.

    Raises:
        ModelError: it is not, or larger than the limits; says where.
    """
    head, separator, rest = text.partition("\n\nTree=0\n")
    _require(head.startswith("tree\n") and not _CONTROLS.search(head), "is not a model text of LightGBM")
    header = _header(head.split("\n")[1:])
    names, features = header["feature_names"].split(" "), int(header["max_feature_idx"]) + 1
    _require(features <= FEATURES_MAX, f"has more than {FEATURES_MAX} features")
    _require(
        len(names) == len(header["feature_infos"].split(" ")) == features,
        "has not as many features as it says",
    )
    _require(names == list(feature_names), "has other features than bundle.json")
    sizes = [int(size) for size in header["tree_sizes"].split()]
    _require(0 < len(sizes) <= TREES_MAX, f"has no tree, or more than {TREES_MAX}")
    _require(bool(separator), "has no tree 0")
    leaves, at, encoded = 0, 0, f"Tree=0\n{rest}".encode()
    for number, size in enumerate(sizes):
        block = encoded[at : at + size].decode(errors="replace")
        first = f"Tree={number}\n"
        _require(
            block.startswith(first) and block.endswith("\n\n\n"),
            f"tree {number} is not as long as the header says",
        )
        try:
            leaves += _Tree(block[len(first) : -3], features).check()
        except ModelError as error:
            raise ModelError(f"tree {number}: {error}") from None
        _require(leaves <= LEAVES_MAX, f"has more than {LEAVES_MAX} leaves")
        at += size
    tail = encoded[at:].decode(errors="replace")
    known = _TAIL.fullmatch(tail) is not None and not _CONTROLS.search(tail)
    _require(known, "has other lines behind its trees")
    return len(sizes)


def _require(fulfilled: bool, otherwise: str) -> None:
    if not fulfilled:
        raise ModelError(otherwise)


def _header(lines: list[str]) -> dict[str, str]:
    header = {}
    for line in lines:
        key, _, value = line.partition("=")
        known = key in _HEADER and key not in header and re.fullmatch(_HEADER[key], value) is not None
        _require(known, f"its header has the line {_shortened(line)}")
        header[key] = value
    missing = sorted(set(_HEADER) - _OPTIONAL - set(header))
    _require(not missing, f"its header lacks {', '.join(missing)}")
    return header


def _shortened(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:60] + "...")


class _Tree:
    """One tree's lines."""

    def __init__(self, block: str, features: int) -> None:
        self._features = features
        self._lines: dict[str, str] = {}
        for line in block.split("\n"):
            key, equals, value = line.partition("=")
            known = key in _NODE_LINES or key in _LEAF_LINES or key in _LINEAR_LINES or key in _OTHER_LINES
            _require(bool(equals) and known and key not in self._lines, f"has the line {_shortened(line)}")
            self._lines[key] = value

    def check(self) -> int:
        """Check all lines; return the leaves."""
        leaves, categorical = self._number("num_leaves"), self._number("num_cat")
        _require(0 < leaves <= TREE_LEAVES_MAX, f"has no leaf, or more than {TREE_LEAVES_MAX}")
        self._numbers("shrinkage", _NUMBERS, 1)
        values = self._numbers("leaf_value", _NUMBERS, leaves)
        _require(
            bool((np.abs(values) <= LEAF_VALUE_MAX).all()), f"has a leaf value beyond {LEAF_VALUE_MAX:g}"
        )
        linear = self._lines.get("is_linear", "0")
        _require(linear in ("0", "1"), "is_linear is neither 0 nor 1")
        if linear == "1":
            self._check_linear(leaves)
        if leaves == 1:
            return 1
        for key, form in _LEAF_LINES.items():
            self._numbers(key, form, leaves)
        nodes = {key: self._numbers(key, form, leaves - 1) for key, form in _NODE_LINES.items()}
        self._check_shape(nodes["left_child"].astype(np.int64), nodes["right_child"].astype(np.int64))
        _require(_within(nodes["split_feature"], 0, self._features), "splits by a feature that there is not")
        kind = nodes["decision_type"].astype(np.int64)
        _require(bool(((kind >= 0) & (kind < 12)).all()), "has a decision_type that there is not")
        _require(not np.isnan(nodes["threshold"]).any(), "has a threshold that is no number")
        self._check_categories(nodes["threshold"][kind & 1 != 0], categorical)
        return leaves

    def _check_shape(self, left: Int64, right: Int64) -> None:
        """Check that each node and leaf hangs below exactly one node, and a node below one that comes before it."""
        inner = len(left)
        children = np.sort(np.concatenate([left, right]))
        expected = np.concatenate([np.arange(-inner - 1, 0), np.arange(1, inner)])
        _require(np.array_equal(children, expected), "its children are not each node and each leaf once")
        numbers = np.arange(inner)
        behind = ((left < 0) | (left > numbers)) & ((right < 0) | (right > numbers))
        _require(bool(behind.all()), "a node hangs below itself")

    def _check_categories(self, chosen: Float64, categorical: int) -> None:
        """Check that a categorical split's number has bits."""
        if not categorical:
            _require(not len(chosen), "has a categorical split without categories")
            return
        _require(0 < categorical <= TREE_LEAVES_MAX, "has more categorical splits than nodes")
        first = self._numbers("cat_boundaries", _INTEGERS, categorical + 1)
        words = self._numbers("cat_threshold", _INTEGERS, int(min(max(first[-1], 0), 2**24)))
        _require(first[0] == 0 and bool((np.diff(first) > 0).all()), "its cat_boundaries do not ascend")
        _require(_within(words, 0, 2**32), "has a word of cat_threshold beyond 32 bits")
        fine = _within(chosen, 0, categorical) and bool((chosen == np.floor(chosen)).all())
        _require(fine, "has a categorical split whose categories are not there")

    def _check_linear(self, leaves: int) -> None:
        """Check that a leaf's line is over features that there are."""
        self._numbers("leaf_const", _NUMBERS, leaves)
        counts = self._numbers("num_features", _INTEGERS, leaves)
        _require(_within(counts, 0, self._features + 1), "has a leaf over more features than there are")
        total = int(counts.sum())
        _require(
            _within(self._numbers("leaf_features", _INTEGERS, total), 0, self._features),
            "has a leaf over a feature that there is not",
        )
        self._numbers("leaf_coeff", _NUMBERS, total)

    def _number(self, key: str) -> int:
        return int(self._numbers(key, _INTEGERS, 1)[0])

    def _numbers(self, key: str, form: re.Pattern[str], count: int) -> Float64:
        """Return a line's numbers, of which there must be so many; integers are exact."""
        text = self._lines.get(key)
        _require(text is not None, f"lacks {key}")
        assert text is not None
        words = text.split()
        _require(form.fullmatch(text) is not None and len(words) == count, f"{key} is not {count} numbers")
        try:
            values = np.array(words, np.float64)
        except ValueError:
            raise ModelError(f"{key} is not {count} numbers") from None
        _require(form is not _INTEGERS or _within(values, -EXACT, EXACT), f"{key} has a number beyond 2**53")
        return values


def _within(values: Float64, low: int, end: int) -> bool:
    return bool(((values >= low) & (values < end)).all())
