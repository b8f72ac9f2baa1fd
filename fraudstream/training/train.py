"""A dataset -> a model: LightGBM, calibrated and tied to the false-positive rate on later transactions.

The windows, in order: training (`days`), a gap (`gap_days`), validation (`validation_days`), which ends
where labels are mature. Early stopping, calibration and risk points use the validation window.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from sklearn.isotonic import IsotonicRegression

from fraudstream.batch import Float64
from fraudstream.clock import iso
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.registry.bundle import Golden
from fraudstream.scoring.drift import reference_of
from fraudstream.scoring.model import POINTS_FPR, Knots, ModelParts, highest_of, points_knots
from fraudstream.scoring.promises import wilson
from fraudstream.scoring.quality import quality
from fraudstream.settings import TrainingSettings
from fraudstream.training.dataset import Dataset
from fraudstream.training.replay import Advance

DAY_MS = 86_400_000
FRAUDS_MIN = 10
GOLDEN_ROWS = 256
REFERENCE = "reference.json"
STOP_AFTER_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Windows:
    """Instants in Unix ms: training is [train, gap), validation [validate, end)."""

    train: int
    gap: int
    validate: int
    end: int

    @classmethod
    def before(cls, as_of_ms: int, maturity_ms: int, settings: TrainingSettings) -> Windows:
        """Return the windows that end where labels are mature at an instant."""
        end = as_of_ms - maturity_ms
        validate = end - settings.validation_days * DAY_MS
        gap = validate - settings.gap_days * DAY_MS
        return cls(gap - settings.days * DAY_MS, gap, validate, end)


@dataclass(frozen=True, slots=True)
class Trained:
    """What goes into a bundle."""

    parts: ModelParts
    training: dict[str, Any]
    metrics: dict[str, float | None]
    golden: Golden
    report: dict[str, str]


def train(
    data: Dataset,
    catalog: Catalog,
    windows: Windows,
    settings: TrainingSettings,
    version: str,
    advance: Advance,
) -> Trained:
    """Train a model that will be called `version` (`name/0001`).

    Raises:
        ModelError: a window has too few frauds, or nothing legitimate.
    """
    training = data.between(windows.train, windows.gap)
    validation = data.between(windows.validate, windows.end)
    for name, part in (("training", training), ("validation", validation)):
        _check(name, part, windows)
    sampled = _sampled(training, settings)
    booster = _fit((sampled, validation), catalog, settings, advance)
    raw: Float64 = booster.predict(validation.X, raw_score=True)
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    isotonic.fit(raw, validation.fraud.astype(np.float64))
    parts = ModelParts(
        version=version,
        booster_text=booster.model_to_string(),
        feature_names=tuple(catalog.names),
        feature_ids=tuple(feature.id for feature in catalog.features),
        calibration=Knots(isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist()),
        points=points_knots(raw[~validation.fraud]),
    )
    metrics = quality(validation.fraud, raw)
    rows = np.linspace(0, len(raw) - 1, min(GOLDEN_ROWS, len(raw))).astype(np.int64)
    golden = _golden(parts, validation.X[rows])
    about = {
        "windows": {name: iso(getattr(windows, name)) for name in ("train", "gap", "validate", "end")},
        "rows": {"training": len(training.fraud), "sampled": len(sampled.fraud), "validation": len(raw)},
        "frauds": {"training": int(training.fraud.sum()), "validation": int(validation.fraud.sum())},
        "rejected_rows": data.rejected,
        "trees": booster.num_trees(),
        "thresholds": _thresholds(parts.points, raw[~validation.fraud]),
        "parameters": _parameters(settings),
    }
    report = _report(booster, parts, metrics, about)
    report[REFERENCE] = json.dumps(reference_of(training.X, catalog.names))
    return Trained(parts, about, metrics, golden, report)


def _check(name: str, part: Dataset, windows: Windows) -> None:
    frauds = int(part.fraud.sum())
    if frauds < FRAUDS_MIN or frauds == len(part.fraud):
        start, end = (windows.train, windows.gap) if name == "training" else (windows.validate, windows.end)
        raise ModelError(
            f"the {name} window {iso(start)} to {iso(end)} has {len(part.fraud)} mature transactions and {frauds} "
            f"known frauds; at least {FRAUDS_MIN} frauds and some legitimate ones are needed. Give more "
            "history or labels, a later --as-of, or other [training] and labels.maturity settings"
        )


def _sampled(data: Dataset, settings: TrainingSettings) -> Dataset:
    """Keep every fraud and at most `negatives_max` others."""
    legitimate = np.flatnonzero(~data.fraud)
    if len(legitimate) <= settings.negatives_max:
        return data
    chosen = np.random.default_rng(settings.seed).choice(legitimate, settings.negatives_max, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(data.fraud), chosen]))
    return Dataset(data.X[rows], data.fraud[rows], data.time_ms[rows], data.rejected)


def _parameters(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves_max,
        "min_data_in_leaf": 40,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _fit(
    windows: tuple[Dataset, Dataset], catalog: Catalog, settings: TrainingSettings, advance: Advance
) -> Any:
    training, validation = windows
    names = catalog.names
    learn = lgb.Dataset(training.X, training.fraud.astype(np.float64), feature_name=names)
    judge = lgb.Dataset(validation.X, validation.fraud.astype(np.float64), reference=learn)
    stop = lgb.early_stopping(STOP_AFTER_ROUNDS, verbose=False)

    def count(_: object) -> None:
        advance("training trees", 1, settings.trees_max)

    return lgb.train(
        _parameters(settings), learn, settings.trees_max, valid_sets=[judge], callbacks=[count, stop]
    )


def _thresholds(points: Knots, legitimate_raw: Float64) -> list[dict[str, Any]]:
    """Return what stands behind each of the risk points: how many legitimate validation transactions reach it.

    `low` and `high` are the 95 % interval of the rate on transactions like these, as if each were independent.
    """
    score_of, n = dict(zip(points.y, points.x, strict=True)), len(legitimate_raw)
    found = []
    for value, rate in POINTS_FPR:
        reached = int((legitimate_raw >= score_of[float(value)]).sum())
        low, high = wilson(reached, n)
        row = {
            "points": value,
            "rate": rate,
            "raw_score": score_of[float(value)],
            "reached": reached,
            "of": n,
        }
        found.append(row | {"low": low, "high": high, "extrapolated": highest_of(rate, n) < 1})
    return found


def _golden(parts: ModelParts, X: Float64) -> Golden:
    """Score the rows with the model as it will be loaded, from its text."""
    loaded = lgb.Booster(model_str=parts.booster_text)
    return Golden.of(parts, X, loaded.predict(X, raw_score=True, num_threads=1))


def _report(
    booster: Any, parts: ModelParts, metrics: dict[str, float | None], about: dict[str, Any]
) -> dict[str, str]:
    gains = sorted(zip(booster.feature_importance("gain"), parts.feature_names, strict=True), reverse=True)
    total = sum(gain for gain, _ in gains) or 1.0
    lines = [
        f"# Model {parts.version}",
        "",
        "## On the validation window",
        "",
        "| figure | value |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | {'-' if value is None else f'{value:.4f}'} |" for name, value in metrics.items()]
    lines += [
        "",
        "## Risk points",
        "",
        "| points | false-positive rate | raw score from | legitimate that reach it | 95 % interval of the rate |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['points']} | {row['rate']:.2%} | {row['raw_score']:.4f} | "
        + ("extrapolated" if row["extrapolated"] else f"{row['reached']:,} of {row['of']:,}")
        + f" | {row['low']:.3%} to {row['high']:.3%} |"
        for row in about["thresholds"]
    ]
    lines += ["", "## Features by gain", "", "| feature | share |", "| --- | --- |"]
    lines += [f"| {name} | {gain / total:.1%} |" for gain, name in gains[:25]]
    lines += ["", "## Training", "", "```json", json.dumps(about, indent=1), "```", ""]
    return {"report.md": "\n".join(lines)}
