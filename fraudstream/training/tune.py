"""Parameters by search: each candidate is judged on transactions that came after those that it learned from.

The objective is prequential: the last third of what comes before the validation window is cut into folds; for each, a
model learns from what came before it, `gap_days` apart, and its average precision on the fold is taken. The search
is a tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011), seeded,
and begins with the parameters that are used without it. The validation window is not looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import lightgbm as lgb
import numpy as np

from fraudstream.clock import monotonic_s
from fraudstream.errors import ConfigError, ModelError
from fraudstream.sections import DAY_MS, TrainingSettings
from fraudstream.training.dataset import Dataset
from fraudstream.training.replay import Advance

FOLDS = 3
JUDGED_SHARE = 1 / 3
FRAUDS_MIN = 10  # of each side of a fold
STOP_AFTER_ROUNDS = 30

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found.

    Attributes:
        parameters: those that differ from the usual ones.
        about: trials, seconds, and what the usual and the best parameters reach.
    """

    parameters: Parameters
    about: dict[str, Any]


def tune(data: Dataset, usual: Parameters, settings: TrainingSettings, advance: Advance) -> Tuned:
    """Search parameters on what came before the validation window.

    The same data, seed and number of trials give the same parameters, unless `tune_minutes` cut the search short.

    Args:
        usual: LightGBM's parameters, as they are without a search.
        settings: `tune_trials` candidates are tried, for `tune_minutes` at most; their trees and leaves are bounded.

    Raises:
        ConfigError: optuna is not installed.
        ModelError: there are too few frauds for one fold.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "training.tune_trials: the search needs optuna; run pip install 'fraudstream[train]'"
        ) from None
    optuna.logging.set_verbosity(logging.ERROR)
    folds = [
        _Fold.of(earlier, later, settings.half_life_days)
        for earlier, later in folds_of(data, settings.gap_days)
    ]
    if not folds:
        raise ModelError(
            f"training.tune_trials = {settings.tune_trials}: there are too few frauds to judge candidates on "
            f"later transactions; a fold needs {FRAUDS_MIN} on either side. Give more history, or 0"
        )
    began_s = monotonic_s()
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=settings.seed, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=8),
    )
    study.enqueue_trial(
        {
            name: min(max(usual.get(name, 1.0), low), high)
            for name, (low, high, _) in space(settings.leaves_max).items()
        }
    )

    def objective(trial: Any) -> float:
        chosen = usual | suggested(trial, settings.leaves_max)
        reached: list[float] = []
        for number, fold in enumerate(folds):
            reached.append(fold.average_precision(chosen, settings.trees_max))
            trial.report(float(np.mean(reached)), number)
            if trial.should_prune():
                break
        advance("searching parameters", 1, settings.tune_trials)
        if len(reached) < len(folds):
            raise optuna.TrialPruned
        return float(np.mean(reached))

    study.optimize(objective, settings.tune_trials, timeout=settings.tune_minutes * 60)
    about = {
        "trials": len(study.trials),
        "seconds": round(monotonic_s() - began_s, 1),
        "folds": len(folds),
        "average_precision_usual": study.trials[0].value,
        "average_precision_best": study.best_value,
        "parameters": study.best_params,
    }
    return Tuned(study.best_params, about)


def folds_of(data: Dataset, gap_days: int) -> list[tuple[Dataset, Dataset]]:
    """Return what is learned from and what is judged on, of each fold with frauds enough."""
    first_ms, end_ms = int(data.time_ms.min()), int(data.time_ms.max()) + 1
    cuts = (
        np.linspace(end_ms - JUDGED_SHARE * (end_ms - first_ms), end_ms, FOLDS + 1).astype(np.int64).tolist()
    )
    pairs = [
        (data.between(first_ms, begin - gap_days * DAY_MS), data.between(begin, end))
        for begin, end in pairwise(cuts)
    ]
    return [pair for pair in pairs if all(part.fraud.sum() >= FRAUDS_MIN for part in pair)]


def space(leaves_max: int) -> Mapping[str, tuple[float, float, str]]:
    """Return the bounds of each parameter, and whether it is an int, a float, or taken by its logarithm."""
    return {
        "num_leaves": (min(4, leaves_max), leaves_max, "int"),
        "learning_rate": (0.02, 0.3, "log"),
        "min_data_in_leaf": (5, 300, "int"),
        "feature_fraction": (0.3, 1.0, "float"),
        "bagging_fraction": (0.5, 1.0, "float"),
        "lambda_l2": (0.01, 100.0, "log"),
        "scale_pos_weight": (1.0, 30.0, "log"),
    }


def suggested(trial: Any, leaves_max: int) -> Parameters:
    """Return a candidate."""
    found: Parameters = {}
    for name, (low, high, kind) in space(leaves_max).items():
        if kind == "int":
            found[name] = trial.suggest_int(name, int(low), int(high), log=True)
        else:
            found[name] = trial.suggest_float(name, low, high, log=kind == "log")
    return found


@dataclass(frozen=True, slots=True)
class _Fold:
    """Binned once for all candidates."""

    learn: lgb.Dataset
    judge: lgb.Dataset

    @classmethod
    def of(cls, earlier: Dataset, later: Dataset, half_life_days: float) -> _Fold:
        binning = {"feature_pre_filter": False, "verbosity": -1}
        weights = earlier.weights(half_life_days)
        learn = lgb.Dataset(earlier.X, earlier.fraud.astype(np.float64), weight=weights, params=binning)
        judge = lgb.Dataset(later.X, later.fraud.astype(np.float64), learn, params=binning)
        return cls(learn.construct(), judge.construct())

    def average_precision(self, parameters: Parameters, trees_max: int) -> float:
        """Return what a model with these parameters reaches at its best number of trees."""
        booster = lgb.train(
            parameters | {"feature_pre_filter": False},
            self.learn,
            trees_max,
            valid_sets=[self.judge],
            callbacks=[lgb.early_stopping(STOP_AFTER_ROUNDS, verbose=False)],
        )
        return float(booster.best_score["valid_0"]["average_precision"])
