"""Evidence -> how good each model is: figures with intervals, by week and by segment, and one against the other.

Intervals are of a bootstrap over whole clusters (the cards, where the key is a card), since a card's transactions
come together. All models are drawn alike, so that a difference of two of them has its own, much narrower interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraudstream.batch import Float64
from fraudstream.clock import iso
from fraudstream.scoring.promises import calibration, reliability, wilson
from fraudstream.scoring.quality import card_precision_at_k
from fraudstream.scoring.ranking import Ranking, figure_names, interval, resamples
from fraudstream.sections import DAY_MS
from fraudstream.training.evidence import Evidence, Said
from fraudstream.training.promised import WEEK_MS
from fraudstream.training.replay import Advance

RATES = (0.001, 0.005, 0.01)
CURVE_POINTS = 120


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a bootstrap draws.

    Attributes:
        key: the entity whose transactions stay together.
        count: sets that are drawn.
        seed: of the draws.
    """

    key: str
    count: int
    seed: int


def evaluation_of(evidence: Evidence, drawing: Drawing, cards_a_day: int, advance: Advance) -> dict[str, Any]:
    """Return everything that a report tells of the models, as plain data.

    Args:
        cards_a_day: k of card precision@k.
    """
    models = list(evidence.said)
    drawn = draw(evidence, RATES, drawing, advance)
    first, *others = models
    weeks = []
    first_ms = int(evidence.time_ms.min()) // DAY_MS * DAY_MS
    week = (evidence.time_ms - first_ms) // WEEK_MS
    for number in np.unique(week).tolist():
        part = evidence.take(week == number)
        begins = first_ms + number * WEEK_MS
        weeks.append({"from": iso(begins), "to": iso(begins + WEEK_MS)} | _part(part))
    return {
        "counts": evidence.counts,
        "models": {
            name: {"figures": drawn.figures(name)}
            | _acted(evidence, evidence.said[name])
            | _cards(evidence, evidence.said[name], drawing, cards_a_day)
            | _probabilities(evidence, evidence.said[name], drawing.key)
            for name in models
        },
        "differences": {name: drawn.differences(name, first) for name in others},
        "compared_with": first,
        "weeks": weeks,
        "segments": {
            name: _part(evidence.take(rows)) for name, rows in evidence.segments.items() if rows.any()
        },
        "curves": {name: curve_of(evidence, said) for name, said in evidence.said.items()},
        "thresholds": {
            name: thresholds_of(evidence, said)
            for name, said in evidence.said.items()
            if said.alerting is not None
        },
        "drift": {
            model: {name: shift._asdict() for name, shift in shifts.items()}
            for model, shifts in evidence.drift.items()
        },
    }


@dataclass(frozen=True, slots=True)
class Drawn:
    """Figures of each model, as they are and in each drawn set; see `Ranking.figures`.

    Attributes:
        whole: by model, [names].
        sets: by model, [count, names]; row i of every model is of the same draw.
    """

    names: list[str]
    whole: dict[str, Float64]
    sets: dict[str, Float64]

    def figures(self, model: str) -> dict[str, Any]:
        """Return each figure with its 95 % interval."""
        return {
            name: _with_interval(self.whole[model][i], self.sets[model][:, i])
            for i, name in enumerate(self.names)
        }

    def differences(self, model: str, other: str) -> dict[str, Any]:
        """Return what the one has more than the other of each figure, with its 95 % interval."""
        apart = self.sets[model] - self.sets[other]
        whole = self.whole[model] - self.whole[other]
        return {name: _with_interval(whole[i], apart[:, i]) for i, name in enumerate(self.names)}


def draw(evidence: Evidence, rates: Sequence[float], drawing: Drawing, advance: Advance) -> Drawn:
    """Return the figures of each model, and those of sets drawn with whole clusters; the same sets for all."""
    ranked = {
        name: Ranking(evidence.fraud, said.score, evidence.amount, rates)
        for name, said in evidence.said.items()
    }
    ones = np.ones(len(evidence))
    sets: dict[str, list[Float64]] = {name: [] for name in ranked}
    for weight in resamples(evidence.clusters[drawing.key], drawing.count, drawing.seed):
        advance("drawing", 1, drawing.count)
        for name, ranking in ranked.items():
            sets[name].append(ranking.figures(weight))
    empty = np.empty((0, len(figure_names(rates))))
    return Drawn(
        figure_names(rates),
        {name: ranking.figures(ones) for name, ranking in ranked.items()},
        {name: np.array(rows) if rows else empty for name, rows in sets.items()},
    )


def _with_interval(value: float, drawn: Float64) -> dict[str, float | None]:
    low, high = interval(drawn)
    return {"value": _plain(value), "low": _plain(low), "high": _plain(high)}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _part(part: Evidence) -> dict[str, Any]:
    """Return the figures of some of the rows, without intervals."""
    ones, found = np.ones(len(part)), {}
    for name, said in part.said.items():
        figures = Ranking(part.fraud, said.score, part.amount, RATES).figures(ones)
        found[name] = dict(zip(figure_names(RATES), map(_plain, figures.tolist()), strict=True)) | _acted(
            part, said
        )
    return {"transactions": len(part), "frauds": int(part.fraud.sum()), "models": found}


def _acted(evidence: Evidence, said: Said) -> dict[str, Any]:
    """Return what came of the outcomes: alerts, right and wrong, and the money; nothing of a baseline."""
    if said.alerting is None:
        return {}
    legitimate = int((~evidence.fraud).sum())
    wrong = int((said.alerting & ~evidence.fraud).sum())
    right = int((said.alerting & evidence.fraud).sum())
    lost = evidence.amount[evidence.fraud & ~said.alerting]
    low, high = wilson(wrong, legitimate) if legitimate else (0.0, 1.0)
    return {
        "outcomes": {
            "alerts": right + wrong,
            "alerts_a_day": (right + wrong) / days_of(evidence),
            "false_positives": wrong,
            "fpr": wrong / legitimate if legitimate else None,
            "fpr_low": low,
            "fpr_high": high,
            "recall": right / max(right + len(lost), 1),
            "precision": right / max(right + wrong, 1),
            "money_caught": float(np.nansum(evidence.amount[evidence.fraud & said.alerting])),
            "money_lost": float(np.nansum(lost)),
        }
    }


def days_of(evidence: Evidence) -> float:
    """Return how many days the rows cover, one at least."""
    return max(float(np.ptp(evidence.time_ms)) / DAY_MS, 1.0)


def _cards(evidence: Evidence, said: Said, drawing: Drawing, k: int) -> dict[str, Any]:
    """Return card precision@k, its ceiling (what a perfect ranking has) and an interval over days."""
    day, card = evidence.time_ms // DAY_MS, evidence.clusters[drawing.key]
    found = card_precision_at_k(day, card, evidence.fraud, said.score, k)
    ceiling = card_precision_at_k(day, card, evidence.fraud, evidence.fraud.astype(np.float64), k)
    random = np.random.default_rng(drawing.seed)
    days = random.integers(0, len(found), (drawing.count, len(found)))
    precision = _with_interval(found.mean(), found[days].mean(axis=1))
    return {"card_precision": {"k": k, "ceiling": float(ceiling.mean()), **precision}}


def _probabilities(evidence: Evidence, said: Said, key: str) -> dict[str, Any]:
    if said.probability is None:
        return {}
    fit: dict[str, Any] = calibration(said.probability, evidence.fraud)
    fit["bins"] = reliability(said.probability, evidence.fraud, [evidence.clusters[key]])
    return {"calibration": fit}


def curve_of(evidence: Evidence, said: Said) -> list[dict[str, float]]:
    """Return points of the precision-recall curve and of recall at false-positive rates, from the top down."""
    order = np.argsort(-said.score, kind="stable")
    score, fraud = said.score[order], evidence.fraud[order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    right = np.cumsum(fraud)[ends]
    wrong = ends + 1 - right
    frauds, legitimate = max(int(right[-1]), 1), max(int(wrong[-1]), 1)
    # As many points from the first alarms, where decisions are taken, as from all of them.
    at = np.concatenate([np.geomspace(1, legitimate, CURVE_POINTS), np.linspace(0, legitimate, CURVE_POINTS)])
    chosen = np.unique(np.minimum(np.searchsorted(wrong, np.sort(at)), len(ends) - 1))
    return [
        {
            "recall": float(right[i] / frauds),
            "precision": float(right[i] / (right[i] + wrong[i])),
            "fpr": float(wrong[i] / legitimate),
        }
        for i in chosen.tolist()
    ]


def thresholds_of(evidence: Evidence, said: Said) -> list[dict[str, float]]:
    """Return what each threshold on the raw score would do, one for each of several false-positive rates."""
    legitimate = np.sort(said.score[~evidence.fraud])[::-1]
    found = []
    for rate in (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1):
        if not len(legitimate) or not evidence.fraud.any():
            break
        threshold = legitimate[min(int(rate * len(legitimate)), len(legitimate) - 1)]
        alerting = said.score > threshold
        right = alerting & evidence.fraud
        found.append(
            {
                "fpr": rate,
                "raw_score_above": float(threshold),
                "alerts_a_day": float(alerting.sum() / days_of(evidence)),
                "recall": float(right.sum() / evidence.fraud.sum()),
                "precision": float(right.sum() / max(int(alerting.sum()), 1)),
                "money_caught": float(np.nansum(evidence.amount[right])),
            }
        )
    return found
