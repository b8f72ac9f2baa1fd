"""The figures of a ranking under weights: sorted once, then a pass over the rows for each set of weights.

A weight says how many times a row counts, so that a bootstrap needs no copy of the rows. Weights of one give the
figures of `quality`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64

Flags = npt.NDArray[np.bool_]
MONEY = "money_at_fpr"
RECALL = "recall_at_fpr"


class Ranking:
    """Rows from the highest score down, equal scores as one step.

    Args:
        fraud, score: [n].
        amount: of each row, [n]; what is unknown counts nothing.
        rates: false-positive rates at which recall is asked for.
    """

    def __init__(self, fraud: Flags, score: Float64, amount: Float64, rates: Sequence[float]) -> None:
        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._ends = (
            np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(score) else self._order
        )
        self._fraud = fraud[self._order].astype(np.float64)
        self._money = np.nan_to_num(amount[self._order]) * self._fraud
        self._rates = tuple(rates)

    @property
    def names(self) -> list[str]:
        """Return what `figures` holds, in its order."""
        return figure_names(self._rates)

    def figures(self, weight: Float64) -> Float64:
        """Return AUC, average precision, recall and the share of fraud's money at each rate, [names].

        NaN where a class is missing, or no fraud has an amount.

        Args:
            weight: how many times each row counts, [n], in the order of `fraud`.
        """
        weights = weight[self._order]
        reached = np.cumsum(weights)[self._ends]
        caught = np.cumsum(weights * self._fraud)[self._ends]
        found = np.full(len(self.names), np.nan)
        frauds = caught[-1] if len(caught) else 0.0
        legitimate = reached[-1] - frauds if len(caught) else 0.0
        if frauds <= 0 or legitimate <= 0:
            return found
        wrong = reached - caught
        # Sums, not dot products: BLAS starts threads for these, which took 20 times as long on a busy machine.
        steps, hits = np.diff(wrong, prepend=0.0), np.diff(caught, prepend=0.0)
        found[0] = float((steps * (caught - hits / 2)).sum()) / (frauds * legitimate)
        precision = np.divide(caught, reached, out=np.zeros_like(caught), where=reached > 0)
        found[1] = float((hits * precision).sum()) / frauds
        money = np.cumsum(weights * self._money)[self._ends]
        for i, rate in enumerate(self._rates):
            # The first step whose wrong alarms exceed the rate is not taken, as in `quality.recall_at_fpr`.
            step = min(int(np.searchsorted(wrong, int(rate * legitimate), side="right")), len(wrong) - 1)
            found[2 + i] = caught[step - 1] / frauds if step else 0.0
            if money[-1] > 0:
                found[2 + len(self._rates) + i] = money[step - 1] / money[-1] if step else 0.0
        return found


def figure_names(rates: Sequence[float]) -> list[str]:
    """Return the names of the figures of a ranking."""
    at = [f"{what}_{rate:g}" for what in (RECALL, MONEY) for rate in rates]
    return ["auc", "average_precision", *at]


def resamples(cluster: Int64, count: int, seed: int) -> Iterator[Float64]:
    """Yield `count` sets of weights, [n] each: whole clusters are drawn with replacement, as many as there are.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), 3.8.
    """
    _, code = np.unique(cluster, return_inverse=True)
    clusters = int(code.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    for _ in range(count):
        drawn = np.bincount(random.integers(0, clusters, clusters), minlength=clusters)
        yield drawn[code].astype(np.float64)


def interval(drawn: Float64, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of what was drawn, [count]; NaN where less than half of it has a value."""
    known = drawn[np.isfinite(drawn)]
    if 2 * len(known) < len(drawn) or not len(known):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)
