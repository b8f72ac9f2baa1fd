"""Scoring, measured: how long each contender takes a row, and whether the forest has LightGBM's bits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring_models import Made, load
from benchmarks.scoring_others import contenders_of
from benchmarks.scoring_turns import Contender, batches_of, us_a_row
from fraudstream.batch import Float64
from fraudstream.scoring.forest import compile_forest

ROWS_A_CALL = (1, 2, 4, 8, 64, 512, 4096)
CHUNK_ROWS = 250_000
NOISE = 1e-3  # of a value
PROBED = (0.0, 0.05, 0.3, 1.0)  # share of a row's values that stand at thresholds instead
MISSING = (0.0, 0.0, 0.02, 0.5)  # share of its values that are missing


def speed(folder: str, name: str, repetitions: int) -> dict[str, Any]:
    """Measure every contender on one model; they take turns."""
    made = load(folder, name)
    contenders, left_out = contenders_of(made, Path(folder))
    us: dict[str, dict[str, float]] = {contender: {} for contender in contenders}
    for rows in ROWS_A_CALL:
        for contender, taken in us_a_row(contenders, batches_of(made.rows, rows), repetitions).items():
            us[contender][str(rows)] = taken
    expected = made.booster.predict(made.rows, raw_score=True, num_threads=1)
    apart = {one: largest_difference(contenders[one], made.rows, expected) for one in contenders}
    return {"us_a_row": us, "largest_difference": apart, "left_out": left_out}


def largest_difference(contender: Contender, X: Float64, expected: Float64) -> float:
    """Return how far the contender's scores are from LightGBM's at most."""
    size = contender.rows_max or len(X)
    given = [
        np.ravel(contender.answer(contender.prepare(X[i : i + size]))).copy() for i in range(0, len(X), size)
    ]
    return float(np.abs(np.concatenate(given) - expected).max())


def differing(folder: str, name: str, rows: int, seed: int) -> dict[str, Any]:
    """Count the scores of generated rows, together and one by one, that differ from LightGBM's by a bit."""
    made = load(folder, name)
    forest, bits = compile_forest(made.trees), 0
    for begin in range(0, rows, CHUNK_ROWS):
        X = generated(made, min(CHUNK_ROWS, rows - begin), [seed, begin])
        expected = made.booster.predict(X, raw_score=True, num_threads=os.cpu_count())
        for scores in (forest.raw_scores(X), forest.descend(X)):
            bits += int((scores.view(np.int64) != expected.view(np.int64)).sum())
    return {"differing_bits": bits}


def generated(made: Made, rows: int, seed: list[int]) -> Float64:
    """Return rows to compare on: real ones, half of them with noise, with values at thresholds, and with gaps."""
    rng = np.random.default_rng(seed)
    X = made.rows[rng.integers(len(made.rows), size=rows)]
    X[::2] *= 1.0 + NOISE * rng.standard_normal(X[::2].shape)
    probed = rng.random(X.shape, np.float32) < rng.choice(PROBED, (rows, 1))
    X = np.where(probed, made.trees.probes(rows, int(rng.integers(2**32))), X)
    X[rng.random(X.shape, np.float32) < rng.choice(MISSING, (rows, 1))] = np.nan
    return X
