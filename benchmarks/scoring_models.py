"""The two models that scoring and explaining are measured on, trained on features of the project's own engine.

The features are of a simulated world (`fraudstream.simulate`) with the built-in catalogue, or of the Fraud Detection
Handbook's table with the catalogue in `examples/handbook/`. Training takes some of the rows; contenders are measured
on others. Labels are learnt until nearly every leaf is used, so that the trees have their full size: they are models
to measure speed on, not models to find fraud with.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from benchmarks.features_process import run_function
from benchmarks.handbook_data import add_data_option, data_of
from benchmarks.product import EXAMPLES, command
from fraudstream.batch import Float64
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import read_labels
from fraudstream.scoring.trees import Trees, read_trees
from fraudstream.settings import load_settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import write_world
from fraudstream.training.dataset import Dataset, dataset_as_of

MODELS = {"200x31": (200, 31), "300x63": (300, 63)}  # trees, leaves
TRAINING_ROWS, OTHER_ROWS = 100_000, 50_000
ALL_MS = (0, 2**62)
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "min_data_in_leaf": 20,
    "min_sum_hessian_in_leaf": 1e-6,  # the default leaves the later trees small: all rows are known by then
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class Made:
    """A trained model, and rows that it was not trained on, [n, features]."""

    text: str
    booster: Any
    trees: Trees
    rows: Float64


def measured(function: str, **options: Any) -> dict[str, Any]:
    """Run "module:function" of the benchmarks in a process of its own; it must end well."""
    result = run_function(f"benchmarks.{function}", **options)
    if "failed" in result:
        raise SystemExit(f"benchmarks.{function}: {result['failed']}")
    return result


def add_handbook_options(options: argparse.ArgumentParser) -> None:
    """Let a benchmark be told to take the Handbook's table."""
    options.add_argument("--handbook", action="store_true", help="features of the Handbook's table")
    add_data_option(options)


def handbook_of(chosen: argparse.Namespace, program: str) -> str | None:
    """Return the path of the Handbook's table where it is wanted."""
    return str(data_of(chosen, program)) if chosen.handbook else None


def make(folder: str, handbook: str | None, seed: int) -> dict[str, Any]:
    """Write both models and the other rows to a folder; return what they are.

    Args:
        handbook: the Handbook's table; None: a simulated world.
    """
    data = of_handbook(handbook, Path(folder)) if handbook else of_world(Path(folder), seed)
    order = np.random.default_rng(seed).permutation(len(data.X))
    learnt, others = order[:TRAINING_ROWS], order[TRAINING_ROWS:][:OTHER_ROWS]
    np.save(Path(folder) / "rows.npy", data.X[others])
    about: dict[str, Any] = {}
    for name, (rounds, leaves) in MODELS.items():
        rows = lightgbm.Dataset(data.X[learnt], data.fraud[learnt].astype(np.float64))
        booster = lightgbm.train(PARAMETERS | {"num_leaves": leaves, "seed": seed}, rows, rounds)
        booster.save_model(str(Path(folder) / f"{name}.txt"))
        about[name] = size_of(read_trees(booster.model_to_string()))
    frauds = int(data.fraud[learnt].sum())
    return {
        "data": "handbook" if handbook else "simulated",
        "training_rows": len(learnt),
        "frauds": frauds,
        "models": about,
    }


def of_world(folder: Path, seed: int) -> Dataset:
    """Return every transaction of a simulated world with its features."""
    write_world(simulate(WorldConfig(seed=seed)), folder, "parquet")
    return observed(folder, None, {"state.complete_from": "start"})


def of_handbook(table: str, folder: Path) -> Dataset:
    """Return every transaction of the Handbook's table with its features."""
    command([str(EXAMPLES / "handbook" / "prepare.py"), table, str(folder)])
    return observed(folder, EXAMPLES / "handbook" / "fraudstream.toml", {})


def observed(folder: Path, config: Path | None, overrides: dict[str, Any]) -> Dataset:
    """Return the features and labels of a folder's transactions."""
    settings = load_settings(config, environment={}, overrides=overrides)
    engine = new_engine(settings, build_catalog(settings.features, settings.event))
    labels = read_labels(folder / "labels", {})
    return dataset_as_of(folder / "transactions", labels, engine, ALL_MS, lambda *done: None)


def size_of(trees: Trees) -> dict[str, float]:
    """Return how large a model is; the path is of a training row through a tree, in the mean."""
    leaves = [len(tree.value) for tree in trees.trees]
    paths = [tree.inner_rows.sum() / tree.inner_rows[0] for tree in trees.trees if len(tree.inner_rows)]
    return {
        "features": trees.features,
        "trees": len(leaves),
        "leaves": sum(leaves),
        "leaves_least": min(leaves),
        "path_nodes_mean": round(float(np.mean(paths)), 2),
    }


def load(folder: str, name: str) -> Made:
    """Return one of the models that `make` wrote."""
    text = (Path(folder) / f"{name}.txt").read_text("utf-8")
    rows: Float64 = np.load(Path(folder) / "rows.npy")
    return Made(text, lightgbm.Booster(model_str=text), read_trees(text), rows)
