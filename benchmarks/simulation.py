"""How separable the simulated fraud is: from raw fields alone, and with simple behaviour of the card.

    python -m benchmarks.simulation --json

A simulator whose fraud shows in the raw fields teaches nothing, and one whose fraud shows nowhere cannot be
learnt. Two LightGBM models with the same parameters are trained on the truth of the first 70 % of the days
and tested on the rest: one on the fields of the transaction, one that also knows the card's past.

What is unfair: the labels are the truth, complete and without delay, which no bank has; the behaviour is
written here in numpy, on purpose apart from the project's own features. The new pattern begins on the first
day of the test unless `--new-pattern-day` says otherwise, so neither model has seen it: the headline counts
the known scenarios, `*_with_new_pattern` everything.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudstream.simulate import DAY_MS, SCENARIOS, World, WorldConfig, simulate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOUR_MS = DAY_MS // 24
TRAIN_SHARE = 0.7
FPR = 0.005
RAW = ("amount", "hour", "weekday", "category", "channel", "merchant_country", "card_country", "is_foreign")
RAW_CATEGORICAL = ["category", "channel", "merchant_country", "card_country"]
BEHAVIOUR = (
    "count_1h",
    "sum_1h",
    "count_24h",
    "sum_24h",
    "amount_z_score",
    "new_device",
    "new_country",
    "new_merchant",
)
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 20,
    "cat_smooth": 20.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 1,
    "deterministic": True,
    "num_threads": 1,
    "verbose": -1,
}
TREES = 200


def codes(column: pa.ChunkedArray) -> Ints:
    """Return the index of each value in the sorted distinct values, shape (n,); -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    rank = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist())))
    index = encoded.indices.fill_null(-1).to_numpy()
    return np.where(index < 0, -1, rank[index]).astype(np.int64)


def raw_columns(transactions: pa.Table) -> Floats:
    """Return the fields of each transaction as numbers, shape (n, len(RAW)); no identifier is among them."""
    event_time = transactions["event_time"].to_numpy()
    countries = sorted(set(transactions["merchant_country"].unique().to_pylist()))
    place, home = (
        np.searchsorted(countries, np.array(transactions[name].to_pylist()))
        for name in ("merchant_country", "card_country")
    )
    columns = (
        transactions["amount"].to_numpy(),
        event_time // HOUR_MS % 24,
        event_time // DAY_MS % 7,
        codes(transactions["merchant_category"]),
        codes(transactions["channel"]),
        place,
        home,
        place != home,
    )
    return np.column_stack(columns).astype(np.float64)


def behaviour_columns(transactions: pa.Table) -> Floats:
    """Return what each transaction is to its card's past, shape (n, len(BEHAVIOUR))."""
    card = codes(transactions["card_id"])
    order = np.argsort(card, kind="stable")  # by card, then time
    card = card[order]
    event_time = transactions["event_time"].to_numpy()[order]
    amount = transactions["amount"].to_numpy()[order]
    first = np.searchsorted(card, card)
    row = np.arange(len(card))
    total = np.r_[0.0, np.cumsum(amount)]
    squares = np.r_[0.0, np.cumsum(np.log(amount) ** 2)]
    logs = np.r_[0.0, np.cumsum(np.log(amount))]
    columns = []
    clock = card * (1 << 41) + (event_time - event_time.min())  # 2**41 ms are 69 years
    for window_ms in (HOUR_MS, 24 * HOUR_MS):
        begin = np.maximum(np.searchsorted(clock, clock - window_ms, side="right"), first)
        columns += [row - begin, total[row] - total[begin]]
    seen = np.maximum(row - first, 1)
    mean = (logs[row] - logs[first]) / seen
    spread = np.sqrt(np.maximum((squares[row] - squares[first]) / seen - mean**2, 0.25))
    columns.append(np.where(row > first, (np.log(amount) - mean) / spread, np.nan))
    for name in ("device_id", "merchant_country", "merchant_id"):
        columns.append(is_new(card, codes(transactions[name])[order], event_time))
    matrix = np.empty((len(card), len(BEHAVIOUR)))
    matrix[order] = np.column_stack(columns)
    return matrix


def is_new(card: Ints, value: Ints, event_time: Ints) -> Floats:
    """Return 1.0 where the card first showed the value under a day ago, else 0.0; NaN without a value."""
    _, firsts, pair = np.unique(card * (value.max() + 2) + value + 1, return_index=True, return_inverse=True)
    new = event_time - event_time[firsts][pair] < DAY_MS
    return np.where(value < 0, np.nan, new)


def train_and_score(matrix: Floats, names: tuple[str, ...], is_fraud: Flags, train: Flags) -> Floats:
    """Return the scores of the rows that are not in `train`, by a model of those that are."""
    data = lightgbm.Dataset(
        matrix[train],
        is_fraud[train].astype(np.float64),
        feature_name=list(names),
        categorical_feature=RAW_CATEGORICAL,
    )
    booster = lightgbm.train(PARAMETERS, data, num_boost_round=TREES)
    return np.asarray(booster.predict(matrix[~train], num_threads=1), dtype=np.float64)


def measure(score: Floats, scenario: NDArray[np.str_]) -> dict[str, Any]:
    """Return AUC, average precision and recall at `FPR` of the known scenarios, and recall by scenario."""
    is_fraud = scenario != "legit"
    threshold = np.quantile(score[~is_fraud], 1.0 - FPR)
    caught = score > threshold
    known = scenario != "new_pattern"
    return {
        "auc": float(roc_auc_score(is_fraud[known], score[known])),
        "average_precision": float(average_precision_score(is_fraud[known], score[known])),
        "recall_at_fpr_0_005": float(caught[is_fraud & known].mean()),
        "recall_at_fpr_0_005_with_new_pattern": float(caught[is_fraud].mean()),
        "recall_by_scenario": {
            name: round(float(caught[scenario == name].mean()), 4)
            for name in SCENARIOS
            if (scenario == name).any()
        },
    }


def separability(world: World, config: WorldConfig) -> dict[str, Any]:
    """Return the measures of both models on the last days of the world."""
    day = (world.transactions["event_time"].to_numpy() - config.start_ms) // DAY_MS
    train = day < round(TRAIN_SHARE * config.days)
    scenario = np.array(world.truth["scenario"].to_pylist())
    is_fraud = world.truth["is_fraud"].to_numpy()
    raw = raw_columns(world.transactions)
    both = np.hstack([raw, behaviour_columns(world.transactions)])
    result: dict[str, Any] = {}
    for name, matrix, names in (("raw", raw, RAW), ("behaviour", both, RAW + BEHAVIOUR)):
        score = train_and_score(matrix, names, is_fraud, train)
        for key, value in measure(score, scenario[~train]).items():
            result[f"{key}_{name}"] = value if isinstance(value, dict) else round(value, 4)
    result["frauds_test"] = int(is_fraud[~train].sum())
    return result


def main() -> None:
    """Print the measures, as text or as one line of JSON."""
    parser = argparse.ArgumentParser(description="Separability of the simulated fraud.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=WorldConfig.seed)
    parser.add_argument("--new-pattern-day", type=int, default=WorldConfig.new_pattern_day)
    arguments = parser.parse_args()
    config = replace(
        WorldConfig(customers=arguments.customers, seed=arguments.seed),
        new_pattern_day=arguments.new_pattern_day,
    )
    began = time.perf_counter()
    world = simulate(config)
    result = {
        "transactions": world.transactions.num_rows,
        "frauds": int(world.truth["is_fraud"].to_numpy().sum()),
        "customers": config.customers,
        "days": config.days,
        "seed": config.seed,
        "new_pattern_day": config.new_pattern_day,
        "simulate_seconds": round(time.perf_counter() - began, 2),
    }
    result.update(separability(world, config))
    if arguments.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key:45} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
