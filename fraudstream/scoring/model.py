"""A model in memory: LightGBM's booster, its calibration, and its risk points.

Score points up: high is fraud. `raw` is the booster's log odds; the probability is raw through the isotonic
calibrator's knots (`numpy.interp` equals scikit-learn's prediction); risk points are raw through knots that
are tied to the false-positive rate of the validation window (`POINTS_FPR`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm as lgb
import numpy as np

from fraudstream.batch import Float64, Int64
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.records import LIGHTGBM, NOT_EXPLAINED, PATH, TREESHAP
from fraudstream.scoring.drift import Reference
from fraudstream.scoring.forest import Forest, compile_forest
from fraudstream.scoring.path import PathTables, compile_paths
from fraudstream.scoring.trees import NotCompilable, Trees, read_trees
from fraudstream.scoring.treeshap import TreeShap, compile_treeshap

# Risk points -> share of legitimate transactions that reach them: Fraud Detector's table, continued.
POINTS_FPR: tuple[tuple[int, float], ...] = (
    (600, 0.10), (700, 0.07), (775, 0.05), (860, 0.03), (900, 0.02), (950, 0.01), (975, 0.005),
    (990, 0.001), (999, 0.0001),
)  # fmt: skip


PROBE_ROWS = 2048
EXPLAINED_PROBES = 64
CONTRIBUTIONS_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Knots:
    """A piecewise-linear function: y at ascending x."""

    x: Sequence[float]
    y: Sequence[float]

    def at(self, values: Float64) -> Float64:
        """Return the function at each value, [n]; flat beyond the ends."""
        result: Float64 = np.interp(values, self.x, self.y)
        return result


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a bundle holds of a model.

    Attributes:
        version: `name/version`, as decisions carry it.
        booster_text: LightGBM's own text format; its hash was checked before it comes here.
        feature_names, feature_ids: in the booster's order.
        calibration: raw score -> probability.
        points: raw score -> risk points.
        reference: what the features and the score were in training; empty where nobody wrote it down.
    """

    version: str
    booster_text: str
    feature_names: tuple[str, ...]
    feature_ids: tuple[str, ...]
    calibration: Knots
    points: Knots
    reference: Reference = field(default_factory=dict)


@dataclass(slots=True)
class Model:
    """A loaded model, bound to the catalogue whose X it is given.

    Attributes:
        columns: of the catalogue's X, in the model's order.
        fallback: why LightGBM scores every batch; empty where the compiled forest gives the same bits.
        explains_by_fallback: why LightGBM explains, or nothing; empty where the compiled TreeSHAP gives the same.

    Raises:
        ModelError: the booster does not give one score a row.
    """

    parts: ModelParts
    catalog: Catalog
    columns: Int64 = field(init=False)
    fallback: str = field(init=False)
    explains_by_fallback: str = field(init=False)
    _booster: Any = field(init=False, repr=False)
    _forest: Forest | None = field(init=False, repr=False)
    _treeshap: TreeShap | None = field(init=False, repr=False)
    _paths: PathTables | None = field(init=False, repr=False)
    _explains: bool = field(init=False)
    _whole: bool = field(init=False)

    def __post_init__(self) -> None:
        self.columns = bind(self.parts, self.catalog)
        self._booster = lgb.Booster(model_str=self.parts.booster_text)
        if self._booster.num_model_per_iteration() != 1:
            raise ModelError(f"model {self.parts.version} has several classes; one score a row is accepted")
        self._forest, self.fallback = None, ""
        self._treeshap, self._paths, self.explains_by_fallback = None, None, ""
        try:
            trees = read_trees(self.parts.booster_text)
        except NotCompilable as reason:
            self.fallback = self.explains_by_fallback = str(reason)
        else:
            self._forest, self.fallback = _compiled_forest(trees, self._booster)
            self._treeshap, self.explains_by_fallback = _compiled_treeshap(trees, self._booster)
            self._paths = _compiled_paths(trees, self._booster)
        self._explains = self._treeshap is not None or _can_explain(self._booster)
        if not self._explains:
            self.explains_by_fallback += "; nothing explains it, so that alerts have no reasons"
        self._whole = bool(np.array_equal(self.columns, np.arange(len(self.catalog))))

    def select(self, X: Float64) -> Float64:
        """Return the model's columns of the catalogue's X, [n, model features]."""
        return X if self._whole else np.ascontiguousarray(X[:, self.columns])

    def raw_scores(self, X: Float64) -> Float64:
        """Return the log odds of fraud, [n], for the catalogue's X."""
        chosen = self.select(X)
        if self._forest is not None:
            return self._forest.raw_scores(chosen)
        scores: Float64 = self._booster.predict(
            chosen, raw_score=True, num_threads=1, validate_features=False
        )
        return scores

    def gains(self) -> Mapping[str, float]:
        """Return each feature's share of the trees' gain."""
        gains = self._booster.feature_importance("gain")
        total = float(gains.sum()) or 1.0
        return dict(zip(self.parts.feature_names, (gains / total).tolist(), strict=True))

    def method(self, by_path: bool = False) -> str:
        """Return how `contributions` finds them, see `Alert.method`."""
        if by_path and self._paths is not None:
            return PATH
        if self._treeshap is not None:
            return TREESHAP
        return LIGHTGBM if self._explains else NOT_EXPLAINED

    def contributions(self, X: Float64, by_path: bool = False) -> Float64:
        """Return each feature's part of the raw score and, last, the base, [n, model features + 1].

        Of a model that nothing explains all of the score is the base.

        Args:
            by_path: the path attribution, if the model has one.
        """
        chosen = self.select(X)
        if by_path and self._paths is not None:
            return self._paths.contributions(chosen)
        if self._treeshap is not None:
            return self._treeshap.contributions(chosen)
        if not self._explains:
            return np.column_stack([np.zeros_like(chosen), self.raw_scores(X)])
        parts: Float64 = self._booster.predict(chosen, pred_contrib=True, num_threads=1)
        return parts

    def probabilities(self, raw: Float64) -> Float64:
        """Return the calibrated probability of fraud, [n]."""
        return self.parts.calibration.at(raw)

    def risk_points(self, raw: Float64) -> Int64:
        """Return the risk points 0 to 1000, [n]."""
        return risk_points(self.parts.points, raw)


def risk_points(knots: Knots, raw: Float64) -> Int64:
    """Return the risk points 0 to 1000, [n]; a threshold's own from the threshold on, never below it."""
    points = np.floor(knots.at(raw)).astype(np.int64)
    # Just below a threshold the interpolation rounds up to it, and whole groups of tied scores may stand
    # there: what a score has not reached it does not get.
    ahead = np.append(knots.y, knots.y[-1] + 1)[np.searchsorted(knots.x, raw, side="right")]
    return np.minimum(points, np.maximum(ahead.astype(np.int64) - 1, 0))


def _compiled_forest(trees: Trees, booster: Any) -> tuple[Forest | None, str]:
    """Return the compiled forest if it gives LightGBM's bits on rows around every threshold, or why not."""
    try:
        forest = compile_forest(trees)
    except NotCompilable as reason:
        return None, str(reason)
    X = trees.probes(PROBE_ROWS)
    expected = booster.predict(X, raw_score=True, num_threads=1)
    differing = int(((forest.raw_scores(X) != expected) | (forest.descend(X) != expected)).sum())
    return (None, f"{differing} of {PROBE_ROWS} probe rows score otherwise") if differing else (forest, "")


def _can_explain(booster: Any) -> bool:
    """Tell whether LightGBM knows the contributions of this kind of trees."""
    try:
        booster.predict(np.zeros((1, booster.num_feature())), pred_contrib=True, num_threads=1)
    except lgb.basic.LightGBMError:
        return False
    return True


def _compiled_treeshap(trees: Trees, booster: Any) -> tuple[TreeShap | None, str]:
    """Return the compiled TreeSHAP if it gives LightGBM's contributions on rows around thresholds, or why not."""
    try:
        treeshap = compile_treeshap(trees)
    except NotCompilable as reason:
        return None, str(reason)
    X = trees.probes(EXPLAINED_PROBES)
    expected = booster.predict(X, pred_contrib=True, num_threads=1)
    parts = np.concatenate([treeshap.contributions(X[:1]), treeshap.contributions(X[1:])])  # by either kernel
    apart = float(np.abs(parts - expected).max())
    if apart > CONTRIBUTIONS_CLOSE:
        return None, f"contributions differ by {apart:.3g} on probe rows"
    return treeshap, ""


def _compiled_paths(trees: Trees, booster: Any) -> PathTables | None:
    """Return the tables of the path attribution if it adds up to LightGBM's scores on rows around thresholds."""
    paths, X = compile_paths(trees), trees.probes(EXPLAINED_PROBES)
    sums, raw = paths.contributions(X).sum(axis=1), booster.predict(X, raw_score=True, num_threads=1)
    return paths if np.abs(sums - raw).max() <= CONTRIBUTIONS_CLOSE else None


def bind(parts: ModelParts, catalog: Catalog) -> Int64:
    """Return the column of the catalogue for each of the model's features.

    Raises:
        ModelError: naming the first feature that the catalogue does not have, or defines otherwise.
    """
    column = {feature.name: i for i, feature in enumerate(catalog.features)}
    for name, wanted in zip(parts.feature_names, parts.feature_ids, strict=True):
        if name not in column:
            raise ModelError(
                f"model {parts.version} needs the feature {name}, which the catalogue does not declare; "
                "declare it under [[features]], or train a model with `fraudstream train`"
            )
        if catalog.features[column[name]].id != wanted:
            raise ModelError(
                f"model {parts.version} was trained with another definition of {name} "
                f"(id {wanted}, here {catalog.features[column[name]].id}); train anew with `fraudstream train`"
            )
    return np.array([column[name] for name in parts.feature_names], np.int64)


def points_knots(legitimate_raw: Float64) -> Knots:
    """Tie risk points to the false-positive rate, by these n legitimate transactions' raw scores.

    A threshold stands just above the k-th highest, k = rate * (n + 1) rounded down, so that k - 1 of them reach it. A
    further transaction like these reaches it with probability k / (n + 1) at most: on average the promised rate is
    not exceeded. A rate below 1 / (n + 1) stands above all rows, in the straight line of the last two that are not.

    Source: split conformal prediction; Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005).
    """
    descending = np.sort(legitimate_raw)[::-1]
    n = len(descending)
    x, y = [float(descending[-1])], [0.0]
    for points, rate in POINTS_FPR:
        place = highest_of(rate, n)
        if place >= 1 or len(x) < 3:
            threshold = float(np.nextafter(descending[max(place, 1) - 1], np.inf))
        else:
            slope = (x[-1] - x[-2]) / (y[-1] - y[-2])
            above_all = float(np.nextafter(descending[0], np.inf))
            threshold = max(x[-1] + slope * (points - y[-1]), above_all)
        x.append(max(threshold, float(np.nextafter(x[-1], np.inf))))
        y.append(float(points))
    x.append(x[-1] + max(x[-1] - x[-2], 1.0))
    y.append(1000.0)
    return Knots(x, y)


def highest_of(rate: float, n: int) -> int:
    """Return which of n scores, counted from the highest, a threshold for this rate stands just above; 0: none."""
    return int(rate * (n + 1) + 1e-9)
