"""Whether the estimated false-positive rate can be believed, on streams whose truth is known.

`python -m benchmarks.fpr --json`. Each stream has 60 days of decisions and a delay law of its own: alerts are looked
at within days, other frauds are reported within weeks, some never (they count as legitimate in truth, as they do in
any count of labels). On the last day the rate of all days that are not mature yet, and of the last week, is estimated
and compared with what the count says once every report is in. Beside it the naive rate, which takes silence for
legitimate.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.machine import about_machine
from fraudstream.scoring.tracking import DAY_MS, NEVER_MS, Tracked, Tracker, naive_interval

DAYS, MATURITY_MS = 60, 45 * DAY_MS
START_MS = 1_735_689_600_000  # 2025-01-01
NOW_MS = START_MS + DAYS * DAY_MS


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--streams", type=int, default=200)
    chosen = options.parse_args()
    result = run(chosen.streams)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(streams: int) -> dict[str, Any]:
    """Judge streams and return how often the truth lies in each interval."""
    found = [judge(seed) for seed in range(streams)]
    total = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {"streams": streams, **{name: round(value, 5) for name, value in total.items()}, **about_machine()}


def judge(seed: int) -> dict[str, float]:
    """Return of one stream whether intervals hold the truth, and the rates."""
    everything = stream(seed)
    known = as_of_now(everything)
    tracker = Tracker(known, NOW_MS, MATURITY_MS, seed)
    young = everything.time_ms > NOW_MS - MATURITY_MS
    week = everything.time_ms >= NOW_MS - 7 * DAY_MS
    figures, last = tracker.figures(known.take(young)), tracker.figures(known.take(week))
    truth, truth_week = rate_of(everything, young), rate_of(everything, week)
    naive, naive_week = (
        naive_interval(each.alerts, each.frauds_alerted, each.transactions, each.frauds)
        for each in (figures, last)
    )
    mature = tracker.figures(known.take(~young))
    assert mature.mature
    assert figures.fpr.value is not None
    assert figures.fpr_now is not None
    return {
        "covered": _within(truth, (figures.fpr.low, figures.fpr.high)),
        "covered_last_week": _within(truth_week, (last.fpr.low, last.fpr.high)),
        "covered_naive": _within(truth, naive),
        "covered_naive_last_week": _within(truth_week, naive_week),
        "mature_exact": float(mature.fpr.value == rate_of(everything, ~young)),
        "fpr": truth,
        "fpr_estimated": figures.fpr.value,
        "fpr_naive": figures.fpr_now,
        "interval_width": (figures.fpr.high or 0.0) - (figures.fpr.low or 0.0),
    }


def _within(truth: float, interval: tuple[float | None, float | None]) -> float:
    low, high = interval
    return float(low is not None and high is not None and low <= truth <= high)


def rate_of(everything: Tracked, rows: Any) -> float:
    """Return the false-positive rate once every report is in."""
    legitimate = (everything.reported_ms - everything.time_ms > MATURITY_MS) & rows
    return float((everything.alerted & legitimate).sum() / legitimate.sum())


def stream(seed: int) -> Tracked:
    """Return decisions and all reports that ever come."""
    random = np.random.default_rng(seed)
    n = int(random.integers(40_000, 120_000))
    time_ms = np.sort(START_MS + random.integers(0, DAYS * DAY_MS, n))
    fraud = random.random(n) < random.uniform(0.003, 0.015)
    recall, fpr = random.uniform(0.4, 0.9), random.uniform(0.001, 0.01)
    alerted = np.where(fraud, random.random(n) < recall, random.random(n) < fpr)
    median_days = np.where(alerted, random.uniform(1, 8), random.uniform(5, 20))
    delay_ms = (median_days * DAY_MS * np.exp(random.normal(0, random.uniform(0.5, 1.0), n))).astype(np.int64)
    reported = fraud & (random.random(n) < random.uniform(0.7, 1.0)) & (delay_ms <= MATURITY_MS)
    reported_ms = np.where(reported, time_ms + delay_ms, NEVER_MS)
    return Tracked(time_ms, alerted, reported_ms, reported)


def as_of_now(everything: Tracked) -> Tracked:
    """Return what is known on the last day."""
    known = everything.reported_ms <= NOW_MS
    return Tracked(
        everything.time_ms, everything.alerted, np.where(known, everything.reported_ms, NEVER_MS), known
    )


if __name__ == "__main__":
    main()
