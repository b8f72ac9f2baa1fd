"""How long frauds take to be reported, told from those that have been reported so far.

Whoever looks today has seen only the quick reports of last week's frauds. Averaging the delays that are there says
that reports come sooner than they do. So each delay is weighed against those that could have been seen beside it: the
product-limit estimator for right truncation, in reverse time.

Sources: Lynden-Bell, "A method of allowing for known observational selection in small samples applied to 3CR quasars"
(1971); Kalbfleisch and Lawless, "Inference based on retrospective ascertainment" (1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraudstream.batch import Float64, Int64


@dataclass(frozen=True, slots=True)
class DelayCurve:
    """The share of reports that have come within a delay, among those that come within the longest one seen.

    Attributes:
        delay_ms: where it rises, ascending; share: from there on, ascending to 1. Both [k].
    """

    delay_ms: Int64
    share: Float64

    def at(self, delay_ms: Int64) -> Float64:
        """Return the share of reports within these delays, [n]; 0 before the first, and where nothing was seen."""
        place = np.searchsorted(self.delay_ms, delay_ms, side="right")
        steps = np.concatenate([[0.0], self.share])
        found: Float64 = steps[place]
        return found


def delay_curve(delay_ms: Int64, age_ms: Int64, weights: Float64 | None = None) -> DelayCurve:
    """Return the curve of reports that have been seen.

    Args:
        delay_ms: from a fraud to its report, [n].
        age_ms: how long ago each of these frauds was, so that its report would be seen; at least its delay, [n].
        weights: how often each counts, [n]; None: once.

    Cost: a sort.
    """
    weight = np.ones(len(delay_ms)) if weights is None else weights
    rising, number = np.unique(delay_ms, return_inverse=True)
    reports = np.bincount(number, weights=weight, minlength=len(rising))
    by_age = np.argsort(age_ms, kind="stable")
    gone = np.concatenate([[0.0], np.cumsum(weight[by_age])])[np.searchsorted(age_ms[by_age], rising)]
    seen = np.cumsum(reports) - gone  # reported within this delay, and old enough to be seen with it
    kept = np.divide(reports, seen, out=np.zeros(len(rising)), where=reports > 0)
    shares = np.cumprod((1.0 - kept)[::-1])[::-1]  # share below each delay, times what is above
    return DelayCurve(rising, np.concatenate([shares[1:], [1.0]]) if len(rising) else np.empty(0))
