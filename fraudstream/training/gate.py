"""The promotion gate: a challenger takes the champion's place where later, mature outcomes say that it is better.

Both score the same transactions, all of them after the windows that either was made with. The challenger must be
better by the declared objective for sure: the lower end of the paired interval of the difference is above 0. It must
keep the limits, too, and be surely worse nowhere: in no declared segment, and at no merchant or device. The last is
what finds labels that somebody poisoned for one of them, which a better model elsewhere would cover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64
from fraudstream.clock import iso
from fraudstream.scoring.drift import Shift
from fraudstream.scoring.promises import wilson
from fraudstream.scoring.ranking import MONEY, RECALL, figure_names, interval
from fraudstream.sections import PromotionSettings
from fraudstream.training.evaluate import Drawing, days_of, draw
from fraudstream.training.evidence import Evidence, Said
from fraudstream.training.replay import Advance

Flags = npt.NDArray[np.bool_]

ENTITY_ALPHA = 0.01  # how often an equal challenger may be refused for any merchant or device
DISCORDANT_MIN = 6
GAIN_MIN = 0.01  # a feature below this share of the trees' gain may move as it likes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Attributes:
        reasons: why it is refused; none: it is let through.
        figures: what was measured, as plain data.
    """

    reasons: list[str]
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """When the gate judges.

    Attributes:
        now_ms: the instant.
        maturity_ms: age at which silence means legitimate.
    """

    now_ms: int
    maturity_ms: int


def judge(
    evidence: Evidence, limits: PromotionSettings, moment: Moment, drawing: Drawing, advance: Advance
) -> Verdict:
    """Compare the two models of the evidence, the champion first.

    Args:
        evidence: `said` and `drift` hold exactly two models that have outcomes.
    """
    names = list(evidence.said)
    champion, challenger = (evidence.said[name] for name in names)
    frauds = int(evidence.fraud.sum())
    figures: dict[str, Any] = {
        "transactions": len(evidence),
        "frauds": frauds,
        "from": iso(int(evidence.time_ms.min())),
        "to": iso(int(evidence.time_ms.max())),
    }
    reasons = _too_little(evidence, limits, moment)
    if reasons:
        return Verdict(reasons, figures)
    rate = max(_fpr(evidence, champion), 1 / len(evidence))
    figure = figure_names((rate,)).index(
        {
            "average_precision": "average_precision",
            "recall": f"{RECALL}_{rate:g}",
            "money": f"{MONEY}_{rate:g}",
        }[limits.objective]
    )
    drawn = draw(evidence, (rate,), drawing, advance)
    level = 2 * limits.confidence - 1
    apart = drawn.sets[names[1]][:, figure] - drawn.sets[names[0]][:, figure]
    low, high = interval(apart, level)
    gain = float(drawn.whole[names[1]][figure] - drawn.whole[names[0]][figure])
    figures |= {
        "objective": limits.objective,
        "at_fpr": rate,
        "champion": float(drawn.whole[names[0]][figure]),
        "challenger": float(drawn.whole[names[1]][figure]),
        "gain": gain,
        "gain_low": low,
        "gain_high": high,
    }
    if not low > 0:
        reasons.append(
            f"not surely better: {limits.objective} is {gain:+.4f}, its interval {low:+.4f} to {high:+.4f}"
        )
    told, exceeded = _limits(evidence, champion, challenger, limits)
    figures |= told
    reasons += exceeded
    reasons += _segments(evidence, limits, drawing, (figure, rate))
    reasons += _entities(evidence, (champion, challenger), drawing.key, rate)
    return Verdict(reasons, figures)


def drifted(shifts: Mapping[str, Shift], gains: dict[str, float], drift_max: float) -> list[str]:
    """Return which features that matter have left the challenger's training window behind.

    Args:
        shifts: of each feature, see `Drift.shifts`; empty where the bundle does not hold what it was trained on.
        gains: share of the trees' gain by feature.
    """
    if not shifts:
        return ["its bundle does not say what its features were in training; train it anew"]
    return [
        f"{name} has shifted since its training: PSI {shift.psi:.2f}, limit {drift_max:g}; it has "
        f"{gains[name]:.0%} of the model's gain"
        for name, shift in shifts.items()
        if gains.get(name, 0.0) >= GAIN_MIN and (shift.psi or 0.0) > drift_max
    ]


def _too_little(evidence: Evidence, limits: PromotionSettings, moment: Moment) -> list[str]:
    reasons = []
    frauds = int(evidence.fraud.sum())
    if frauds < limits.frauds_min:
        reasons.append(
            f"too little is known: {frauds} mature frauds after the training of both, {limits.frauds_min} are needed"
        )
    if frauds == len(evidence):
        reasons.append("too little is known: none of the mature transactions is legitimate")
    newest_ms = int(evidence.time_ms.max())
    oldest_ms = moment.now_ms - moment.maturity_ms - limits.age_max_ms
    if newest_ms < oldest_ms:
        reasons.append(
            f"the data are stale: the newest mature transaction is of {iso(newest_ms)}, {limits.age_max} before "
            f"{iso(moment.now_ms - moment.maturity_ms)} at most is accepted"
        )
    return reasons


def _fpr(evidence: Evidence, said: Said) -> float:
    assert said.alerting is not None
    return float(said.alerting[~evidence.fraud].mean())


def _limits(
    evidence: Evidence, champion: Said, challenger: Said, limits: PromotionSettings
) -> tuple[dict[str, Any], list[str]]:
    """Return the rates of both models' outcomes, and the limits that the challenger's do not keep."""
    assert champion.alerting is not None
    assert challenger.alerting is not None
    days = days_of(evidence)
    before, after = _fpr(evidence, champion), _fpr(evidence, challenger)
    alerts = [float(said.sum() / days) for said in (champion.alerting, challenger.alerting)]
    figures = {
        "fpr": {"champion": before, "challenger": after},
        "alerts_a_day": {"champion": alerts[0], "challenger": alerts[1]},
    }
    reasons = []
    if after > limits.fpr_max:
        reasons.append(f"false-positive rate {after:.4%}, promotion.fpr_max is {limits.fpr_max:.4%}")
    if after > before * limits.fpr_rise_max and after > 1 / len(evidence):
        reasons.append(
            f"false-positive rate {after:.4%}, more than {limits.fpr_rise_max:g} times the champion's {before:.4%}"
        )
    if limits.alerts_a_day_max and alerts[1] > limits.alerts_a_day_max:
        reasons.append(
            f"{alerts[1]:,.1f} alerts a day, promotion.alerts_a_day_max is {limits.alerts_a_day_max:,g}"
        )
    if alerts[1] > alerts[0] * limits.alerts_rise_max and alerts[1] * days > DISCORDANT_MIN:
        reasons.append(
            f"{alerts[1]:,.1f} alerts a day, more than {limits.alerts_rise_max:g} times the champion's "
            f"{alerts[0]:,.1f}"
        )
    return figures, reasons


def _segments(
    evidence: Evidence, limits: PromotionSettings, drawing: Drawing, asked: tuple[int, float]
) -> list[str]:
    """Return in which segments the challenger is surely worse, or its false-positive rate surely above the limit."""
    figure, rate = asked
    reasons = []
    for name, rows in evidence.segments.items():
        part = evidence.take(rows)
        legitimate = int((~part.fraud).sum())
        if not legitimate:
            continue
        first, second = part.said
        wrong = [int((s.alerting & ~part.fraud).sum()) for s in part.said.values() if s.alerting is not None]
        (_, high), (low, _) = (wilson(count, legitimate) for count in wrong)
        if low > high * limits.fpr_rise_max:
            reasons.append(
                f"{name}: false-positive rate {wrong[1] / legitimate:.4%}, more than {limits.fpr_rise_max:g} times "
                f"the champion's {wrong[0] / legitimate:.4%}"
            )
        if not part.fraud.any():
            continue
        drawn = draw(part, (rate,), drawing, lambda *_: None)
        _, best = interval(drawn.sets[second][:, figure] - drawn.sets[first][:, figure], 0.98)
        if best < 0:
            loss = drawn.whole[second][figure] - drawn.whole[first][figure]
            reasons.append(f"{name}: surely worse, {limits.objective} is {loss:+.4f}, {best:+.4f} at best")
    return reasons


def _entities(evidence: Evidence, pair: tuple[Said, Said], key: str, rate: float) -> list[str]:
    """Return at which merchants, devices ... the challenger surely misses more fraud, or alarms more falsely.

    The unit is a card (the key), since a card's transactions come together: one on which the models differ at such an
    entity counts for one of them. Were they equal, each side would be as likely (McNemar's test, exact).
    """
    before, after = (_reached(evidence, said, rate) for said in pair)
    reasons = []
    for kind, codes in evidence.clusters.items():
        if kind == key:
            continue
        for what, rows, worse in (
            ("misses more fraud", evidence.fraud, before & ~after),
            ("alarms more falsely", ~evidence.fraud, after & ~before),
        ):
            better = (before ^ after) & ~worse
            known = rows & (codes >= 0) & (before ^ after)
            tally = _tally(codes[known], evidence.clusters[key][known], worse[known], better[known])
            tested = [entry for entry in tally if entry[1] + entry[2] >= DISCORDANT_MIN]
            for code, losing, winning in tested:
                if losing > winning and _tail(losing, losing + winning) * len(tested) < ENTITY_ALPHA / 2:
                    name = evidence.entity_names[kind][code]
                    reasons.append(
                        f"{kind} {name}: surely {what}, on {losing} of {losing + winning} cards where the two differ"
                    )
    return reasons


def _reached(evidence: Evidence, said: Said, rate: float) -> Flags:
    """Return which rows are above the threshold that at most this share of the legitimate ones pass."""
    legitimate = np.sort(said.score[~evidence.fraud])[::-1]
    return said.score > legitimate[min(int(rate * len(legitimate)), len(legitimate) - 1)]


def _tally(entity: Int64, card: Int64, worse: Flags, better: Flags) -> list[tuple[int, int, int]]:
    """Return for each entity the cards with more rows worse than better, and the other way."""
    pairs, which = np.unique(np.stack([entity, card], axis=1), axis=0, return_inverse=True)
    net = np.bincount(which.ravel(), weights=worse.astype(np.float64) - better, minlength=len(pairs))
    entities, where = np.unique(pairs[:, 0], return_inverse=True)
    losing, winning = (
        np.bincount(where.ravel()[rows], minlength=len(entities)) for rows in (net > 0, net < 0)
    )
    return [(int(e), int(l), int(w)) for e, l, w in zip(entities, losing, winning, strict=True)]  # noqa: E741


def _tail(heads: int, n: int) -> float:
    """Return the probability that so many of n fair coins, or more, show heads.

    >>> _tail(9, 10)
    0.0107421875
    """
    return sum(math.comb(n, k) for k in range(heads, n + 1)) / 2**n
