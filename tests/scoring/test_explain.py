"""An explanation adds up, by features and by groups, names what raised the score, and hides nothing in its rest."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.batch import Float64, Int64
from fraudstream.features import build_catalog
from fraudstream.scoring import Model
from fraudstream.scoring.explain import Explainer, Explanation, Rows
from fraudstream.scoring.groups import group_of
from fraudstream.words import read_words
from tests.worlds import TinyWorld

Scored = tuple[Model, Float64]


def explain(
    model: Model, X: Float64, rows: Int64, reasons_max: int, by_path: bool = False, language: str = "en"
) -> list[Explanation]:
    explainer = Explainer(model.catalog, read_words(language), reasons_max)
    given = Rows(X[rows], np.zeros(len(rows), np.uint8), ["EUR"] * len(rows))
    return explainer.explain(model, given, by_path)


@pytest.fixture(scope="module")
def scored(tiny_world: TinyWorld) -> Scored:
    """The world's model and rows of X with the missing values that they have."""
    bundle = tiny_world.read()
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    X = bundle.golden().X
    assert np.isnan(X).any()
    return Model(bundle.parts, catalog), X


@pytest.mark.parametrize("reasons_max", [1, 3, 50])
def test_base_reasons_and_rest_add_up_to_the_raw_score(scored: Scored, reasons_max: int) -> None:
    model, X = scored
    told = explain(model, X, np.arange(len(X)), reasons_max)
    added = [why.base + why.rest + sum(reason.contribution for reason in why.reasons) for why in told]
    assert added == pytest.approx(model.raw_scores(X), abs=1e-9)
    assert max(len(why.reasons) for why in told) <= reasons_max


@pytest.mark.parametrize("by_path", [False, True])
def test_base_and_groups_add_up_to_the_raw_score_and_say_how_they_were_found(
    scored: Scored, by_path: bool
) -> None:
    model, X = scored
    told = explain(model, X, np.arange(len(X)), 5, by_path)
    added = [why.base + sum(group.contribution for group in why.groups) for why in told]
    assert added == pytest.approx(model.raw_scores(X), abs=1e-9)
    assert {why.method for why in told} == {"path" if by_path else "treeshap"}
    for why in told:
        sums = [group.contribution for group in why.groups]
        assert sums == sorted(sums, reverse=True)
        assert {reason.group for reason in why.reasons} <= {group.name for group in why.groups}


def test_a_groups_sum_is_that_of_all_its_features_listed_or_not(scored: Scored) -> None:
    model, X = scored
    event, named = model.catalog.event, {feature.name: feature for feature in model.catalog.features}
    groups = [group_of(named[name], event) for name in model.parts.feature_names]
    for row, why in enumerate(explain(model, X, np.arange(len(X)), 1)):
        parts = model.contributions(X[row : row + 1])[0][:-1].tolist()
        for group in why.groups:
            own = [part for part, its in zip(parts, groups, strict=True) if its == group.name]
            assert group.contribution == pytest.approx(sum(own), abs=1e-12)
        assert {group.name for group in why.groups} == set(groups)


def test_the_reasons_are_the_strongest_of_those_that_raise_the_score(scored: Scored) -> None:
    model, X = scored
    names = model.parts.feature_names
    for row, why in enumerate(explain(model, X, np.arange(len(X)), 4)):
        parts = dict(zip(names, model.contributions(X[row : row + 1])[0][:-1].tolist(), strict=True))
        strongest = sorted((part for part in parts.values() if part > 0), reverse=True)[:4]
        assert [reason.contribution for reason in why.reasons] == strongest
        assert [parts[reason.feature] for reason in why.reasons] == strongest


def test_a_reason_carries_the_features_value_and_none_where_it_is_missing(scored: Scored) -> None:
    model, X = scored
    column = {name: i for i, name in enumerate(model.catalog.names)}
    missing = 0
    for row, why in enumerate(explain(model, X, np.arange(len(X)), 50)):
        for reason in why.reasons:
            value = X[row, column[reason.feature]]
            missing += int(np.isnan(value))
            assert reason.value == (None if np.isnan(value) else value)
            assert reason.text
    assert missing > 0


def test_only_the_rows_asked_for_are_explained_in_their_order(scored: Scored) -> None:
    model, X = scored
    every = explain(model, X, np.arange(len(X)), 5)
    assert explain(model, X, np.array([9, 2, 5]), 5) == [every[9], every[2], every[5]]
    assert explain(model, X, np.array([], np.int64), 5) == []
