"""The promotion gate against known truth: poisoned, equal and better challengers, each in a world of its own.

    python -m benchmarks.gate --json

In each world (one a seed) 2,000 cards pay at 40 merchants; what is fraud follows from eight features by a known law.
All models are small LightGBM forests. The champion sees seven of the features, and so do its challengers:

- `equal`: of the same rows by another LightGBM seed.
- `better`: it sees the eighth feature, too.
- `poisoned`: of the same rows, but at the merchant with the most frauds all labels are flipped.

The gate is the product's own with its default settings, on later rows that none of the models has seen. It should let
through `better`, and nothing else. `truth` is the mean gain in average precision over the champion on 100,000 further
rows of every tenth world: what the challengers really are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from benchmarks.machine import record, with_machine
from fraudstream.batch import Float64, Int64
from fraudstream.settings import load_settings
from fraudstream.training.evaluate import Drawing
from fraudstream.training.evidence import Evidence, Said
from fraudstream.training.gate import Moment, Verdict, judge

CARDS, MERCHANTS = 2000, 40
SHOWN = 7  # of the features, to all but the better ones
LEARNED, LATER, TRUTH = 20_000, 15_000, 100_000
ALERTING = 0.005
DAY_MS = 86_400_000
START_MS = 1_735_689_600_000
KINDS = ("equal", "better", "poisoned")
PARAMETERS = {
    "objective": "binary", "num_leaves": 12, "learning_rate": 0.12, "min_data_in_leaf": 40, "bagging_fraction": 0.8,
    "bagging_freq": 1, "feature_fraction": 0.8, "num_threads": 1, "deterministic": True, "force_row_wise": True,
    "verbosity": -1,
}  # fmt: skip
TREES = 50


@dataclass(frozen=True, slots=True)
class Rows:
    """Transactions of one world: features, which are fraud, of which card and merchant; [n]."""

    X: Float64
    fraud: npt.NDArray[np.bool_]
    card: Int64
    merchant: Int64


class World:
    """A law of fraud: features that cards and merchants share in, and one that the champion does not see."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._cards = self._random.normal(0, 0.5, CARDS)
        self._merchants = self._random.normal(0, 0.7, MERCHANTS)
        self._weights = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.9])
        self._popular = self._random.dirichlet(np.full(MERCHANTS, 2.0))

    def rows(self, n: int) -> Rows:
        """Draw transactions."""
        random = self._random
        card, merchant = random.integers(0, CARDS, n), random.choice(MERCHANTS, n, p=self._popular)
        X = random.normal(size=(n, len(self._weights)))
        X[:, 0] += self._cards[card]
        X[:, 1] += self._merchants[merchant]
        odds = X @ self._weights + 0.4 * X[:, 2] * X[:, 3] - 5.4
        return Rows(X, random.random(n) < 1 / (1 + np.exp(-odds)), card, merchant)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=100, help="worlds of each kind")
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/gate.jsonl")
    chosen = options.parse_args()
    began = time.perf_counter()
    result = with_machine(judged(range(chosen.seeds)) | {"seconds": round(time.perf_counter() - began)})
    if chosen.record:
        record("gate", result)
    if chosen.json:
        print(json.dumps(result))
    else:
        for kind in KINDS:
            print(f"{kind}: {result[kind]}")


def judged(seeds: range) -> dict[str, Any]:
    """Return for each kind of challenger how often it was promoted, and the reasons of refusals."""
    promoted: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    truth: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in seeds:
        for kind, (verdict, gain) in one_world(seed, truthful=seed % 10 == 0).items():
            promoted[kind] += not verdict.reasons
            reasons[kind].update(_sort(reason) for reason in verdict.reasons)
            truth[kind] += [gain] if gain is not None else []
    return {
        kind: {
            "worlds": len(seeds),
            "promoted": promoted[kind],
            "refused": len(seeds) - promoted[kind],
            "reasons": dict(reasons[kind].most_common()),
            "truth": round(float(np.mean(truth[kind])), 4) if truth[kind] else None,
        }
        for kind in KINDS
    }


def one_world(seed: int, truthful: bool) -> dict[str, tuple[Verdict, float | None]]:
    """Return the gate's verdict on each challenger, and its true gain where that is asked for."""
    world = World(seed)
    rows, later = world.rows(LEARNED), world.rows(LATER)
    further = world.rows(TRUTH) if truthful else None
    champion = learned(rows, rows.fraud, SHOWN, seed)
    merchant = int(np.bincount(rows.merchant[rows.fraud], minlength=MERCHANTS).argmax())
    challengers = {
        "equal": learned(rows, rows.fraud, SHOWN, seed + 1),
        "better": learned(rows, rows.fraud, rows.X.shape[1], seed + 1),
        "poisoned": learned(rows, rows.fraud ^ (rows.merchant == merchant), SHOWN, seed + 1),
    }
    found = {}
    for kind, challenger in challengers.items():
        gain = None
        if further is not None:
            gain = precision_of(challenger, further) - precision_of(champion, further)
        found[kind] = (verdict_on(later, champion, challenger), gain)
    return found


def learned(rows: Rows, fraud: npt.NDArray[np.bool_], features: int, seed: int) -> Any:
    """Return a model of the first features; it also knows the merchant, as a model with its history would."""
    X = np.column_stack([rows.X[:, :features], rows.merchant])
    return lgb.train(PARAMETERS | {"seed": seed}, lgb.Dataset(X, fraud.astype(float)), TREES)


def scored(model: Any, rows: Rows) -> Float64:
    X = np.column_stack([rows.X[:, : model.num_feature() - 1], rows.merchant])
    scores: Float64 = model.predict(X, raw_score=True)
    return scores


def precision_of(model: Any, rows: Rows) -> float:
    return float(average_precision_score(rows.fraud, scored(model, rows)))


def verdict_on(later: Rows, champion: Any, challenger: Any) -> Verdict:
    """Let the gate judge; each model alerts on its highest scores, as risk points would have it."""
    said = {}
    for name, model in (("champion", champion), ("challenger", challenger)):
        score = scored(model, later)
        said[name] = Said(score, None, score > np.quantile(score[~later.fraud], 1 - ALERTING))
    settings = load_settings(environment={})
    time_ms = START_MS + np.sort(np.arange(LATER) * 28 * DAY_MS // LATER)
    evidence = Evidence(
        time_ms=time_ms,
        fraud=later.fraud,
        labelled=later.fraud,
        amount=np.ones(LATER),
        clusters={"card": later.card, "merchant": later.merchant},
        entity_names={"card": [], "merchant": [str(m) for m in range(MERCHANTS)]},
        said=said,
        segments={},
        counts={},
    )
    moment = Moment(int(time_ms[-1]) + settings.labels.maturity_ms, settings.labels.maturity_ms)
    drawing = Drawing("card", settings.promotion.resamples, 7)
    return judge(evidence, settings.promotion, moment, drawing, lambda *_: None)


def _sort(reason: str) -> str:
    return (
        reason.partition(":")[0].split(" ")[0] if reason.startswith("merchant") else reason.split(",")[0][:24]
    )


if __name__ == "__main__":
    main()
