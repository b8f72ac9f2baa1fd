"""A dataset -> a model: LightGBM, calibrated and tied to the false-positive rate on later transactions.

The windows, in order: training (`days`), a gap (`gap_days`), validation (`validation_days`), which ends
where labels are mature. A first model learns from the training window alone: what it says of the validation window
gives the number of trees, the calibration, the risk points and the figures. The model that is kept then learns from
all of it, so that it knows the newest frauds too; it scores what comes after it as the first one did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np

from fraudstream.batch import Float64
from fraudstream.clock import iso
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.ledger import newest_mature_ms
from fraudstream.registry.bundle import REFERENCE, Golden
from fraudstream.scoring.drift import SCORE, reference_of
from fraudstream.scoring.model import POINTS_FPR, Knots, ModelParts, highest_of, points_knots
from fraudstream.scoring.promises import wilson
from fraudstream.scoring.quality import quality
from fraudstream.sections import DAY_MS, TrainingSettings
from fraudstream.training.calibrate import calibrated
from fraudstream.training.dataset import Dataset
from fraudstream.training.leaks import check_leaks
from fraudstream.training.replay import Advance
from fraudstream.training.select import columns, stable
from fraudstream.training.tune import tune

WEEK_MS = 7 * DAY_MS
FRAUDS_MIN = 10
GOLDEN_ROWS = 256
STOP_AFTER_ROUNDS = 30
_DIRECTIONS = {"": 0, "rising": 1, "falling": -1}


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
        end = newest_mature_ms(as_of_ms, maturity_ms)
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
        ModelError: a window has too few frauds, or nothing legitimate; a feature knows the outcome.
    """
    training = data.between(windows.train, windows.gap)
    validation = data.between(windows.validate, windows.end)
    for name, part in (("training", training), ("validation", validation)):
        _check(name, part, windows)
    check_leaks(training.X, training.fraud, catalog, settings.leak_auc_max)
    if settings.features == "stable":
        whole, catalog = catalog, stable(training, catalog, _parameters(settings, catalog), advance)
        data, training, validation = (columns(part, whole, catalog) for part in (data, training, validation))
    everything = data.between(windows.train, windows.end)
    earlier = data.between(windows.train, windows.validate)
    parameters, tuned = _parameters(settings, catalog), None
    if settings.tune_trials:
        tuned = tune(earlier, parameters, settings, advance)
        parameters |= tuned.parameters
    first = _fit((training, validation), parameters, catalog, settings, advance)
    raw: Float64 = first.predict(validation.X, raw_score=True)
    sampled = _joined(earlier, _sampled(validation, data.share, settings))
    booster = _refit(sampled, parameters, catalog, settings, first.best_iteration, advance)
    parts = ModelParts(
        version=version,
        booster_text=booster.model_to_string(),
        feature_names=tuple(catalog.names),
        feature_ids=tuple(feature.id for feature in catalog.features),
        calibration=calibrated(raw, validation.fraud),
        points=points_knots(raw[~validation.fraud]),
    )
    metrics = quality(validation.fraud, raw)
    rows = np.linspace(0, len(raw) - 1, min(GOLDEN_ROWS, len(raw))).astype(np.int64)
    golden = _golden(parts, validation.X[rows])
    about = {
        "windows": {name: iso(getattr(windows, name)) for name in ("train", "gap", "validate", "end")},
        "rows": {
            "training": len(training.fraud),
            "validation": len(raw),
            "all": len(everything.fraud),
            "sampled": len(sampled.fraud),
        },
        "frauds": {
            "training": int(training.fraud.sum()),
            "validation": int(validation.fraud.sum()),
            "all": int(everything.fraud.sum()),
        },
        "negatives_share": data.share,
        "silences": [{"from": iso(start), "to": iso(end)} for start, end in data.silent],
        "rejected_rows": data.rejected,
        "trees": booster.num_trees(),
        "thresholds": _thresholds(parts.points, raw[~validation.fraud]),
        "parameters": parameters,
        "features": len(catalog),
    } | ({} if tuned is None else {"tuning": tuned.about})
    report = _report(booster, parts, metrics, about)
    served = reference_of(_as_served(_warm(training, catalog), settings.seed), catalog.names)
    kept: Float64 = booster.predict(validation.X, raw_score=True)  # of the model that will score
    served |= reference_of(kept[:, None], [SCORE])
    report[REFERENCE] = msgspec.json.encode(served).decode()
    return Trained(parts, about, metrics, golden, report)


def _check(name: str, part: Dataset, windows: Windows) -> None:
    frauds = int(part.fraud.sum())
    if frauds < FRAUDS_MIN or frauds == len(part.fraud):
        start, end = (windows.train, windows.gap) if name == "training" else (windows.validate, windows.end)
        silent = ", ".join(f"{iso(begin)} to {iso(until)}" for begin, until in part.silent)
        raise ModelError(
            f"the {name} window {iso(start)} to {iso(end)} has {len(part.fraud)} mature transactions and {frauds} "
            f"known frauds; at least {FRAUDS_MIN} frauds and some legitimate ones are needed. Give more "
            "history or labels, a later --as-of, or other [training] and labels.maturity settings"
            + (f"; without labels, and left out by labels.silence: {silent}" if silent else "")
        )


def _sampled(data: Dataset, share: float, settings: TrainingSettings) -> Dataset:
    """Keep every fraud and this share of the others."""
    if share == 1.0:
        return data
    legitimate = np.flatnonzero(~data.fraud)
    kept = round(share * len(legitimate))
    chosen = np.random.default_rng(settings.seed).choice(legitimate, kept, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(data.fraud), chosen]))
    return Dataset(data.X[rows], data.fraud[rows], data.time_ms[rows], data.rejected, share)


def _warm(data: Dataset, catalog: Catalog) -> Dataset:
    """Leave out, as far as a week remains, what may have come before every feature had its history behind it."""
    first_ms, last_ms = int(data.time_ms.min()), int(data.time_ms.max())
    reach_ms = max(feature.reach_ms for feature in catalog.features)
    return data.between(min(first_ms + reach_ms, max(first_ms, last_ms - WEEK_MS)), last_ms + 1)


def _as_served(data: Dataset, seed: int) -> Float64:
    """Return the features with frauds as rare as a worker sees them: as large a share kept as of the others."""
    if data.share == 1.0:
        return data.X
    return data.X[~data.fraud | (np.random.default_rng(seed).random(len(data.fraud)) < data.share)]


def _joined(first: Dataset, second: Dataset) -> Dataset:
    X, fraud, time_ms = (
        np.concatenate([getattr(part, name) for part in (first, second)])
        for name in ("X", "fraud", "time_ms")
    )
    return Dataset(X, fraud, time_ms, 0, first.share)


def _parameters(settings: TrainingSettings, catalog: Catalog) -> dict[str, Any]:
    monotone = [_DIRECTIONS[feature.monotone] for feature in catalog.features]
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
    } | ({"monotone_constraints": monotone} if any(monotone) else {})


def _fit(
    windows: tuple[Dataset, Dataset],
    parameters: dict[str, Any],
    catalog: Catalog,
    settings: TrainingSettings,
    advance: Advance,
) -> Any:
    training, validation = windows
    learn, trees_max = _rows(training, catalog, settings), settings.trees_max
    judge = lgb.Dataset(validation.X, validation.fraud.astype(np.float64), reference=learn)
    stop = lgb.early_stopping(STOP_AFTER_ROUNDS, verbose=False)

    return lgb.train(
        parameters,
        learn,
        trees_max,
        valid_sets=[judge],
        callbacks=[_counted("training trees", trees_max, advance), stop],
    )


def _refit(
    data: Dataset,
    parameters: dict[str, Any],
    catalog: Catalog,
    settings: TrainingSettings,
    trees: int,
    advance: Advance,
) -> Any:
    counted = _counted("training on all of it", trees, advance)
    return lgb.train(parameters, _rows(data, catalog, settings), trees, callbacks=[counted])


def _rows(data: Dataset, catalog: Catalog, settings: TrainingSettings) -> lgb.Dataset:
    weights = data.weights(settings.half_life_days)
    return lgb.Dataset(data.X, data.fraud.astype(np.float64), weight=weights, feature_name=catalog.names)


def _counted(what: str, trees: int, advance: Advance) -> Callable[[object], None]:
    """Return a callback that tells of each tree."""
    return lambda _: advance(what, 1, trees)


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
