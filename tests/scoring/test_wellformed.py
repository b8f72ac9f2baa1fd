"""What LightGBM writes passes the check of model texts; what it would read beyond its memory does not."""

from __future__ import annotations

import re
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from fraudstream.errors import ModelError
from fraudstream.scoring.wellformed import check_booster_text
from tests.scoring.boosters import trained


@pytest.mark.parametrize("leaves", [2, 8, 64, 300])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"categorical": [3]},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"linear_tree": True},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"boosting": "dart"},
        {"monotone_constraints": [1, 0, -1, 0, 0]},
    ],
    ids=str,
)
def test_what_lightgbm_writes_passes(parameters: dict[str, Any], leaves: int) -> None:
    booster, _ = trained(1, leaves, 0.1, **parameters)
    assert check_booster_text(booster.model_to_string(), booster.feature_name()) == booster.num_trees()


def test_trees_without_a_split_pass() -> None:
    X = np.arange(100.0)[:, None]
    booster = lgb.train({"min_data_in_leaf": 60, "verbosity": -1}, lgb.Dataset(X, X[:, 0]), 3)
    assert check_booster_text(booster.model_to_string(), booster.feature_name()) == booster.num_trees()


@pytest.fixture(scope="module")
def text() -> str:
    """Five features, one of them categorical; 12 trees."""
    return str(trained(1, 8, 0.1, categorical=[3])[0].model_to_string())


def change(text: str, line: str, to: str) -> str:
    """Replace the first line that fits, and correct the size of its tree."""
    match = re.search(rf"^{line}$", text, re.MULTILINE)
    assert match is not None
    changed = text[: match.start()] + match.expand(to) + text[match.end() :]
    if match.start() < text.index("Tree=0"):
        return changed
    sizes = [len(block) for block in re.split(r"(?=^Tree=)", changed.split("end of trees")[0], flags=re.M)][
        1:
    ]
    return re.sub(r"tree_sizes=.*", "tree_sizes=" + " ".join(map(str, sizes)), changed)


DAMAGED = {
    "a child that is no node": (r"left_child=\S+(.*)", r"left_child=99\1", "children are not each node"),
    "a leaf twice": (r"right_child=\S+ (\S+)(.*)", r"right_child=\1 \1\2", "children are not each node"),
    "a node below itself": (r"left_child=\S+ (.*)", None, "hangs below itself"),
    "a child less": (r"left_child=\S+ (.*)", r"left_child=\1", "left_child is not 7 numbers"),
    "a word for a child": (r"left_child=\S+(.*)", r"left_child=x\1", "left_child is not 7 numbers"),
    "a feature that there is not": (r"split_feature=\S+(.*)", r"split_feature=5\1", "splits by a feature"),
    "a feature below 0": (r"split_feature=\S+(.*)", r"split_feature=-1\1", "splits by a feature"),
    "more leaves than there are": (r"num_leaves=8", "num_leaves=9", "leaf_value is not 9 numbers"),
    "no leaves": (r"num_leaves=8", "num_leaves=0", "has no leaf"),
    "too many leaves": (r"num_leaves=8", "num_leaves=100000", "or more than 512"),
    "a leaf that is no number": (r"leaf_value=\S+(.*)", r"leaf_value=nan\1", "leaf_value is not 8 numbers"),
    "a huge leaf": (r"leaf_value=\S+(.*)", r"leaf_value=1e300\1", "a leaf value beyond 1e+100"),
    "a threshold that is none": (r"threshold=\S+(.*)", r"threshold=nan\1", "a threshold that is no number"),
    "a decision beyond all numbers": (r"decision_type=\S+(.*)", r"decision_type=99999999999999999999\1", "2**53"),
    "a decision that there is not": (r"decision_type=\S+(.*)", r"decision_type=12\1", "decision_type"),
    "categories that end early": (r"cat_boundaries=0 \S+(.*)", r"cat_boundaries=0 999\1", "cat_threshold is not"),
    "categories that are not there": (r"num_cat=[1-9]", "num_cat=0", "categorical split without categories"),
    "a word of categories too large": (r"cat_threshold=\S+(.*)", r"cat_threshold=4294967296\1", "32 bits"),
    "a line twice": (r"(num_leaves=8)", r"\1\n\1", "has the line 'num_leaves=8'"),
    "a line without =": (r"(num_leaves=8)", r"\1\nnothing", "has the line 'nothing'"),
    "an unknown line": (r"(num_leaves=8)", r"\1\nsurprise=1", "has the line 'surprise=1'"),
    "sizes that are not the trees'": (r"tree_sizes=(\d)(.*)", r"tree_sizes=\g<1>1\2", "is not as long as"),
    "more sizes than trees": (r"(tree_sizes=.*)", r"\1 7", "is not as long as the header says"),
    "fewer sizes than trees": (r"(tree_sizes=.*) \d+", r"\1", "has other lines behind its trees"),
    "no sizes": (r"tree_sizes=.*", "tree_sizes=", "has no tree"),
    "more features than names": (r"max_feature_idx=4", "max_feature_idx=5", "not as many features"),
    "many features": (r"max_feature_idx=4", "max_feature_idx=999999", "more than 2048 features"),
    "several classes": (r"num_class=1", "num_class=3", "has the line 'num_class=3'"),
    "a parameter without a value": (r"\[seed: .*\]", "[seed]", "has other lines behind its trees"),
    "categories of pandas that are none": (r"pandas_categorical:null", "pandas_categorical:{", "other lines behind"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_text_is_refused_in_one_line(text: str, kind: str) -> None:
    line, to, said = DAMAGED[kind]
    if to is None:  # nodes 1 and 2 hang below each other instead of below the root
        text = re.sub(r"left_child=.*", "left_child=-1 2 1 4 5 6 -7", text, count=1)
        text = re.sub(r"right_child=.*", "right_child=3 -2 -3 -4 -5 -6 -8", text, count=1)
        line, to = "(num_leaves=8)", r"\1"
    with pytest.raises(ModelError, match=re.escape(said)) as refused:
        check_booster_text(change(text, line, to), [f"Column_{i}" for i in range(5)])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("changed", ["", "tree", "tree\n", "{}", "tree\n\nTree=0\n", "\0", "tree\n\r\n"])
def test_what_is_no_model_text_is_refused(changed: str) -> None:
    with pytest.raises(ModelError):
        check_booster_text(changed, ["amount"])


def test_a_text_that_ends_anywhere_is_refused(text: str) -> None:
    names = [f"Column_{i}" for i in range(5)]
    end = text.index("end of trees") + len("end of trees\n")
    for length in [*range(0, end, 97), end - 1]:
        with pytest.raises(ModelError):
            check_booster_text(text[:length], names)


def test_other_features_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"has other features than bundle\.json"):
        check_booster_text(text, ["a", "b", "c", "d", "e"])
