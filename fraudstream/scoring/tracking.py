"""The false-positive rate of what was decided: exact where labels are in, estimated where they are still to come.

A transaction is judged by what is reported of it within the time to maturity; one of which nothing is reported by
then is legitimate. So FPR = FP / (FP + TN) of mature transactions is a count. Of younger ones some frauds are not
reported yet: alerts on them look like false positives. How many there are follows from how long reports take
(`delays`), apart for alerts, which are looked at soon, and for the others, of which mostly the cardholder tells.

The estimate is what the count will be once all is mature, with a 95 % interval for it: the curve is drawn again from
its reports (bootstrap), the share of fraud from what is known of it, the frauds to come from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64
from fraudstream.scoring.delays import DelayCurve, delay_curve
from fraudstream.scoring.promises import rate, wilson

DAY_MS = 86_400_000
DRAWS = 400
NEVER_MS = np.iinfo(np.int64).max
PRIOR_FRAUDS = 1.0  # how many frauds the share of mature ones counts as, for younger ones
_SHARES = 1.0 / (1.0 + np.exp(-np.linspace(-14.0, 6.0, 241)))  # of fraud that are considered

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tracked:
    """Transactions with what was decided and what is known of them; each column has one entry a row.

    Attributes:
        alerted: whether the outcome alerts.
        reported_ms: when the report came that makes it a fraud; NEVER_MS: none that stands.
        labelled: whether anything is known, be it fraud or not.
        clusters: for each entity the one of each row, for intervals.
        weight: how many transactions each row is; None: one. Rows that are several belong to no cluster.
    """

    time_ms: Int64
    alerted: Rows
    reported_ms: Int64
    labelled: Rows
    clusters: tuple[Int64, ...] = ()
    weight: Int64 | None = None

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, rows: Rows) -> Tracked:
        """Return the rows that are True."""
        return Tracked(
            self.time_ms[rows],
            self.alerted[rows],
            self.reported_ms[rows],
            self.labelled[rows],
            tuple(kind[rows] for kind in self.clusters),
            self.weight[rows] if self.weight is not None else None,
        )

    def number(self, rows: Rows | slice = slice(None)) -> int:
        """Return how many transactions the rows are that are True."""
        if self.weight is not None:
            return int(self.weight[rows].sum())
        return len(self) if isinstance(rows, slice) else int(rows.sum())


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval; None where there is nothing to count."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of some transactions.

    Attributes:
        mature: whether all of them are: then everything is a count.
        frauds, frauds_alerted: reported so far.
        frauds_expected, frauds_alerted_expected: reported so far and still to come.
        labelled: of how many anything is known; coverage: the share of them.
        completeness: share of the frauds' reports that has come; 1 when mature.
        fpr_now: as if nothing more were reported; the naive one where they are not mature.
    """

    transactions: int
    alerts: int
    frauds: int
    frauds_alerted: int
    mature: bool
    labelled: int
    coverage: float
    completeness: float
    frauds_expected: float
    frauds_alerted_expected: float
    fpr: Share
    fpr_now: float | None
    precision: Share
    recall: Share
    alert_rate: Share


@dataclass(frozen=True, slots=True)
class Day:
    """The figures of one UTC day (Unix ms of its begin)."""

    begins_ms: int
    figures: Figures


class Tracker:
    """Judges transactions as of an instant.

    Args:
        everything: all that there is of a model: the delays and the mature shares of fraud come from it.
        as_of_ms: nothing known later is looked at.
        maturity_ms: after which nothing more is expected.
        seed: of the draws.
    """

    def __init__(self, everything: Tracked, as_of_ms: int, maturity_ms: int, seed: int = 0) -> None:
        self._as_of_ms = as_of_ms
        self._maturity_ms = maturity_ms
        self._random = np.random.default_rng(seed)
        self._strata = tuple(self._stratum(everything, alerted) for alerted in (False, True))

    def days(self, tracked: Tracked) -> list[Day]:
        """Return the figures by UTC day of the event, oldest first."""
        day = tracked.time_ms // DAY_MS
        return [
            Day(number * DAY_MS, self.figures(tracked.take(day == number)))
            for number in np.unique(day).tolist()
        ]

    def figures(self, tracked: Tracked) -> Figures:
        """Return the figures of transactions; of at least one, not later than the instant."""
        age_ms = self._as_of_ms - tracked.time_ms
        fraud = self._fraud(tracked)
        young = age_ms < self._maturity_ms
        to_come = [
            self._to_come(tracked, fraud, young & (tracked.alerted == alerted), alerted) for alerted in (0, 1)
        ]
        n, alerts = tracked.number(), tracked.number(tracked.alerted)
        frauds, caught = tracked.number(fraud), tracked.number(fraud & tracked.alerted)
        missed_draws, caught_draws = frauds - caught + to_come[0], caught + to_come[1]
        frauds_draws = missed_draws + caught_draws
        expected = float(frauds_draws.mean())
        mature = not bool(young.any())
        everything = np.ones(len(tracked), np.bool_)
        if mature:
            fpr = _counted(tracked, tracked.alerted, ~fraud)
            precision = _counted(tracked, fraud, tracked.alerted)
            recall = _counted(tracked, tracked.alerted, fraud)
        else:
            fpr = _drawn(alerts - caught_draws, n - frauds_draws)
            precision = _drawn(caught_draws, np.full(DRAWS, alerts))
            recall = _drawn(caught_draws, frauds_draws)
        return Figures(
            transactions=n,
            alerts=alerts,
            frauds=frauds,
            frauds_alerted=caught,
            mature=mature,
            labelled=(labelled := tracked.number(tracked.labelled)),
            coverage=labelled / n,
            completeness=frauds / expected if expected else 1.0,
            frauds_expected=expected,
            frauds_alerted_expected=float(caught_draws.mean()),
            fpr=fpr,
            fpr_now=(alerts - caught) / (n - frauds) if n > frauds else None,
            precision=precision,
            recall=recall,
            alert_rate=_counted(tracked, tracked.alerted, everything),
        )

    def _fraud(self, tracked: Tracked) -> Rows:
        """Return which rows have been reported, in time to count."""
        in_time = tracked.reported_ms - tracked.time_ms <= self._maturity_ms
        return in_time & (tracked.reported_ms <= self._as_of_ms)

    def _stratum(self, everything: Tracked, alerted: bool) -> _Stratum:
        part = everything.take(everything.alerted == alerted)
        age_ms = self._as_of_ms - part.time_ms
        fraud = self._fraud(part)
        delay_ms = np.clip(part.reported_ms[fraud] - part.time_ms[fraud], 0, None)
        seen_ms = np.minimum(age_ms[fraud], self._maturity_ms)
        each = np.ones(len(part), np.int64) if part.weight is None else part.weight
        reports = each[fraud]
        n = int(reports.sum())
        curves = [] if n else [delay_curve(delay_ms, seen_ms)] * DRAWS
        for _ in range(DRAWS if n else 0):
            weights = self._random.multinomial(n, reports / n)
            drawn = weights > 0
            curves.append(delay_curve(delay_ms[drawn], seen_ms[drawn], weights[drawn].astype(np.float64)))
        mature = age_ms >= self._maturity_ms
        frauds, others = part.number(fraud & mature), part.number(mature & ~fraud)
        return _Stratum(curves, (frauds + 0.5) / (frauds + others + 1.0))

    def _to_come(self, tracked: Tracked, fraud: Rows, young: Rows, alerted: int) -> Float64:
        """Return how many frauds of young transactions are still to be reported, [DRAWS]."""
        rows, known = tracked.number(young), tracked.number(fraud & young)
        if not rows:
            return np.zeros(DRAWS)
        stratum, age_ms = self._strata[alerted], self._as_of_ms - tracked.time_ms[young]
        weight = None if tracked.weight is None else tracked.weight[young]
        reported = np.array([np.average(curve.at(age_ms), weights=weight) for curve in stratum.curves])[
            :, None
        ]
        prior = PRIOR_FRAUDS * np.log(_SHARES) + (PRIOR_FRAUDS / stratum.fraud - PRIOR_FRAUDS) * np.log1p(
            -_SHARES
        )
        seen = np.clip(_SHARES * reported, 1e-12, 1 - 1e-12)
        likely = prior + known * np.log(seen) + (rows - known) * np.log1p(-seen)
        mass = np.cumsum(np.exp(likely - likely.max(axis=1, keepdims=True)), axis=1)
        point = self._random.random((DRAWS, 1)) * mass[:, -1:]
        share = _SHARES[np.minimum((mass < point).sum(axis=1), len(_SHARES) - 1)]
        unseen = share * (1 - reported[:, 0])
        return self._random.binomial(rows - known, unseen / (1 - share + unseen)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Stratum:
    """What is known of the alerts, or of the others.

    Attributes:
        curves: of the reports' delays, DRAWS of them.
        fraud: share of the mature ones that is fraud.
    """

    curves: Sequence[DelayCurve]
    fraud: float


def _counted(tracked: Tracked, hit: Rows, among: Rows) -> Share:
    """Return which share of some rows hit."""
    n = tracked.number(among)
    if not n:
        return Share(None, None, None)
    if tracked.weight is not None:
        hits = tracked.number(hit & among)
        return Share(hits / n, *wilson(hits, n))
    found = rate(hit[among], [kind[among] for kind in tracked.clusters])
    return Share(found.rate, found.low, found.high)


def _drawn(hits: Float64, of: Float64) -> Share:
    """Return the mean of a share over the draws with the interval of the middle 95 %."""
    there = of > 0
    if not there.any():
        return Share(None, None, None)
    shares = hits[there] / of[there]
    low, high = np.quantile(shares, [0.025, 0.975])
    return Share(float(shares.mean()), float(low), float(high))


def naive_interval(alerts: int, caught: int, transactions: int, frauds: int) -> tuple[float, float]:
    """Return the interval that whoever takes silence for legitimate would give; for comparison."""
    return wilson(alerts - caught, transactions - frauds)
