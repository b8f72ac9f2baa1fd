"""A model's numbers: risk points keep the rates they promise, the calibration is scikit-learn's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from fraudstream.batch import Float64
from fraudstream.errors import ModelError
from fraudstream.features import Catalog, build_catalog
from fraudstream.scoring import Model, ModelParts
from fraudstream.scoring.model import POINTS_FPR, Knots, bind, points_knots
from fraudstream.sections import FeatureGroup
from tests.worlds import TinyWorld

ANY_CALIBRATION = Knots([0.0], [0.5])


@dataclass(frozen=True)
class Loaded:
    """The world's model and rows of X in its catalogue's order."""

    parts: ModelParts
    catalog: Catalog
    X: Float64

    def __repr__(self) -> str:  # short, for Hypothesis' reports
        return "Loaded(...)"

    def without(self, *names: str) -> Catalog:
        """Return the catalogue without some features."""
        kept = tuple(f for f in self.catalog.features if f.name not in names)
        return dataclasses.replace(self.catalog, features=kept)


@pytest.fixture(scope="module")
def loaded(tiny_world: TinyWorld) -> Loaded:
    bundle = tiny_world.read()
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    return Loaded(bundle.parts, catalog, bundle.golden().X)


def points_of(knots: Knots, raw: Float64, loaded: Loaded) -> npt.NDArray[np.int64]:
    model = Model(dataclasses.replace(loaded.parts, points=knots), loaded.catalog)
    return model.risk_points(raw)


@dataclass(frozen=True)
class Scores:
    """Raw scores that tie as those of trees do: with few digits almost all."""

    seed: int
    n: int
    spread: float
    middle: float
    digits: int

    def raw(self) -> Float64:
        drawn = np.random.default_rng(self.seed).normal(self.middle, self.spread, self.n)
        return np.round(drawn, self.digits)


scores = st.builds(
    Scores,
    st.integers(0, 2**32 - 1),
    st.integers(1, 40) | st.integers(1, 20_000),
    st.sampled_from([0.0, 1e-12, 0.3, 3.0, 1e6]),
    st.sampled_from([0.0, -6.0, 1e3]),
    st.integers(0, 6),
)


@given(scores)
def test_no_more_legitimate_transactions_reach_risk_points_than_promised(
    loaded: Loaded, drawn: Scores
) -> None:
    legitimate = drawn.raw()
    points = points_of(points_knots(legitimate), legitimate, loaded)
    for promised, rate in POINTS_FPR:
        reached = int((points >= promised).sum())
        assert reached <= rate * len(legitimate), f"{promised} points: {reached} of {len(legitimate)}"


@given(scores, scores)
def test_risk_points_rise_with_the_raw_score_and_stay_within_0_and_1000(
    loaded: Loaded, drawn: Scores, others: Scores
) -> None:
    legitimate = drawn.raw()
    knots = points_knots(legitimate)
    around = np.concatenate([np.nextafter(knots.x, -np.inf), knots.x, np.nextafter(knots.x, np.inf)])
    raw = np.sort(np.concatenate([legitimate, others.raw(), around, [-np.inf, -1e300, 1e300, np.inf]]))
    points = points_of(knots, raw, loaded)
    assert (np.diff(points) >= 0).all()
    assert points[0] == 0
    assert points[-1] == 1000


@given(scores)
def test_a_score_at_a_threshold_has_the_thresholds_points(loaded: Loaded, drawn: Scores) -> None:
    knots = points_knots(drawn.raw())
    assert list(knots.y) == [0.0, *(float(points) for points, _ in POINTS_FPR), 1000.0]
    assert (np.diff(knots.x) > 0).all()
    assert points_of(knots, np.array(knots.x), loaded).tolist() == [int(y) for y in knots.y]


def test_with_untied_scores_one_less_reaches_the_points_than_promised(loaded: Loaded) -> None:
    legitimate = np.random.default_rng(3).permutation(np.linspace(-8.0, 3.0, 50_000))
    points = points_of(points_knots(legitimate), legitimate, loaded)
    assert [int((points >= promised).sum()) for promised, _ in POINTS_FPR] == [
        4999, 3499, 2499, 1499, 999, 499, 249, 49, 4
    ]  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(10, 60), st.integers(0, 4))
def test_a_further_transaction_reaches_a_threshold_no_oftener_than_promised(
    seed: int, n: int, digits: int
) -> None:
    drawn = np.round(np.random.default_rng(seed).normal(0, 2, n + 1), digits)
    reached = dict.fromkeys(POINTS_FPR, 0)
    for one in range(n + 1):  # each as likely as any to be the further one
        knots = points_knots(np.delete(drawn, one))
        threshold = dict(zip(knots.y, knots.x, strict=True))
        for promised in POINTS_FPR:
            reached[promised] += drawn[one] >= threshold[float(promised[0])]
    for (points, rate), times in reached.items():
        assert times <= max(1.0, rate * (n + 1) + 1e-9), f"{points} points: {times} of {n + 1}"


@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(0, 4))
def test_the_calibration_is_bit_for_bit_what_scikit_learn_predicts(
    loaded: Loaded, seed: int, n: int, places: int
) -> None:
    chance = np.random.default_rng(seed)
    raw = np.round(chance.normal(-3, 2, n), places)
    fraud = chance.random(n) < 1 / (1 + np.exp(-raw))
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, fraud)
    knots = Knots(isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist())
    model = Model(dataclasses.replace(loaded.parts, calibration=knots), loaded.catalog)

    asked = np.concatenate([raw, chance.normal(-3, 4, 100), [-50.0, 50.0]])
    assert model.probabilities(asked).tolist() == isotonic.predict(asked).tolist()


def test_raw_scores_are_the_boosters_own(tiny_world: TinyWorld, loaded: Loaded) -> None:
    golden = tiny_world.read().golden()
    assert Model(loaded.parts, loaded.catalog).raw_scores(golden.X).tolist() == golden.raw.tolist()


def test_a_catalogue_in_another_order_gives_the_same_scores(loaded: Loaded) -> None:
    order = np.random.default_rng(2).permutation(len(loaded.catalog))
    other = dataclasses.replace(loaded.catalog, features=tuple(loaded.catalog.features[i] for i in order))
    here, there = Model(loaded.parts, loaded.catalog), Model(loaded.parts, other)
    assert there.raw_scores(loaded.X[:, order]).tolist() == here.raw_scores(loaded.X).tolist()
    assert there.contributions(loaded.X[:, order]).tolist() == here.contributions(loaded.X).tolist()


def test_a_catalogue_with_features_that_the_model_does_not_know_gives_the_same_scores(
    tiny_world: TinyWorld, loaded: Loaded
) -> None:
    more = FeatureGroup(entity="merchant", of="amount", windows=["7d", "90d"], aggregates=["max", "min"])
    wider = build_catalog([more, *tiny_world.settings.features], tiny_world.settings.event)
    X = np.concatenate([np.ones((len(loaded.X), 4)), loaded.X], axis=1)
    here, there = Model(loaded.parts, loaded.catalog), Model(loaded.parts, wider)
    assert len(wider) == len(loaded.catalog) + 4
    assert there.raw_scores(X).tolist() == here.raw_scores(loaded.X).tolist()


def test_a_model_that_needs_a_feature_the_catalogue_does_not_have_is_refused_by_name(loaded: Loaded) -> None:
    missing = loaded.parts.feature_names[7]
    with pytest.raises(ModelError, match=rf"needs the feature {missing},.*fraudstream train") as refused:
        Model(loaded.parts, loaded.without(missing))
    assert "\n" not in str(refused.value)


def test_a_model_trained_with_another_definition_of_a_feature_is_refused_by_name(loaded: Loaded) -> None:
    ids = list(loaded.parts.feature_ids)
    name, ids[4] = loaded.parts.feature_names[4], "0123456789abcdef"
    with pytest.raises(ModelError, match=f"another definition of {name} .*fraudstream train"):
        bind(dataclasses.replace(loaded.parts, feature_ids=tuple(ids)), loaded.catalog)


def test_the_contributions_and_the_base_add_up_to_the_raw_score(loaded: Loaded) -> None:
    model = Model(loaded.parts, loaded.catalog)
    assert model.contributions(loaded.X).sum(axis=1) == pytest.approx(model.raw_scores(loaded.X), abs=1e-9)


@pytest.mark.parametrize(
    ("parameters", "scores", "explains"),
    [
        ({"num_leaves": 31}, "", ""),
        ({"num_leaves": 200}, "more than 64 leaves", ""),
        ({"num_leaves": 8, "linear_tree": True}, "linear", "linear leaves; nothing explains"),
    ],
)
def test_what_is_not_compiled_is_left_to_lightgbm_and_named(
    loaded: Loaded, parameters: dict[str, object], scores: str, explains: str
) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(4000, len(loaded.parts.feature_names)))
    y = (X[:, 0] * X[:, 1] + X[:, 2] + rng.normal(size=4000) > 1).astype(float)
    chosen = {"objective": "binary", "min_data_in_leaf": 2, "verbosity": -1, **parameters}
    booster = lgb.train(chosen, lgb.Dataset(X, y), 5)
    parts = dataclasses.replace(loaded.parts, booster_text=booster.model_to_string())
    model = Model(parts, loaded.catalog)
    assert bool(model.fallback) == bool(scores)
    assert scores in model.fallback
    assert bool(model.explains_by_fallback) == bool(explains)
    assert explains in model.explains_by_fallback
    rows = np.zeros((20, len(loaded.catalog)))
    rows[:, model.columns] = X[:20]
    assert model.raw_scores(rows).tolist() == booster.predict(X[:20], raw_score=True).tolist()
    parts_of_score = model.contributions(rows)
    assert parts_of_score.sum(axis=1) == pytest.approx(model.raw_scores(rows), abs=1e-9)
    if explains:  # LightGBM itself cannot explain linear leaves
        assert "no reasons" in model.explains_by_fallback
        assert not parts_of_score[:, :-1].any()
    else:
        assert parts_of_score == pytest.approx(booster.predict(X[:20], pred_contrib=True), abs=1e-9)


def test_a_booster_of_several_classes_is_refused(loaded: Loaded) -> None:
    X = np.random.default_rng(1).normal(size=(300, len(loaded.parts.feature_names)))
    chosen = {"objective": "multiclass", "num_class": 3, "verbosity": -1}
    booster = lgb.train(chosen, lgb.Dataset(X, np.arange(300) % 3), 2)
    with pytest.raises(ModelError, match="several classes"):
        Model(dataclasses.replace(loaded.parts, booster_text=booster.model_to_string()), loaded.catalog)
