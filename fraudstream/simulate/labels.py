"""When the bank learns what was fraud: late, not always, and now and then wrongly.

A customer who is alerted calls within a day or two; most frauds are found on the statement and come back
as chargebacks, in a week or in two months; analysts confirm a few on the same day. Some are never noticed.
And some customers dispute what they did buy: an analyst later reverses most of those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraudstream.simulate.config import DAY_MS, HOUR_MS
from fraudstream.simulate.rows import Flags, Floats, Ints
from fraudstream.simulate.world import Generator

SOURCES = ("chargeback", "customer_report", "analyst")
CHARGEBACK, CUSTOMER_REPORT, ANALYST = range(len(SOURCES))

NEVER_LABELLED = 0.08  # share of frauds
WRONGLY_CLAIMED = 0.02  # share of fraud labels that stand on a legitimate transaction
REVERSED = 0.80  # share of wrong claims that an analyst reverses
_SOURCE_SHARE = np.array([0.66, 0.26, 0.08])
_MEDIAN_DAYS = np.array([10.5, 0.9, 1.5])
_SIGMA = np.array([0.85, 0.60, 0.60])
_REVERSAL_MEDIAN_DAYS, _REVERSAL_SIGMA = 9.0, 0.5
_DELAY_MAX_DAYS = 150.0


@dataclass(frozen=True)
class Labels:
    """Labels in the order in which they become known; arrays of shape (labels,).

    Attributes:
        row: Position of the transaction among those given.
        is_fraud: True for a 'fraud' label, False for a 'legit' one.
        known_at_ms: When it becomes known, in the unit and from the origin of the given times.
        source: Index into `SOURCES`.
    """

    row: Ints
    is_fraud: Flags
    known_at_ms: Ints
    source: Ints


def report(time_ms: Ints, is_fraud: Flags, rng: Generator) -> Labels:
    """Return the labels that the bank comes to have, those after the end of the period included.

    Args:
        time_ms: Event times, shape (n,).
        is_fraud: The truth, shape (n,).
        rng: Source of chance.
    """
    fraud = np.flatnonzero(is_fraud)
    found = fraud[rng.random(len(fraud)) >= NEVER_LABELLED]
    honest = np.flatnonzero(~is_fraud)
    claims = round(len(found) * WRONGLY_CLAIMED / (1.0 - WRONGLY_CLAIMED))
    claimed = rng.choice(honest, min(claims, len(honest)), replace=False)
    row = np.concatenate([found, claimed])
    source = rng.choice(len(SOURCES), len(row), p=_SOURCE_SHARE)
    wrong = np.arange(len(row)) >= len(found)
    source[wrong & (source == ANALYST)] = CUSTOMER_REPORT  # only customers claim wrongly
    known_at = time_ms[row] + _delays(_MEDIAN_DAYS[source], _SIGMA[source], rng)
    undone = np.flatnonzero(wrong & (rng.random(len(row)) < REVERSED))
    median = np.full(len(undone), _REVERSAL_MEDIAN_DAYS)
    undone_at = known_at[undone] + _delays(median, np.full(len(undone), _REVERSAL_SIGMA), rng)
    known_at = np.concatenate([known_at, undone_at])
    row = np.concatenate([row, row[undone]])
    order = np.lexsort((row, known_at))
    return Labels(
        row=row[order],
        is_fraud=(np.arange(len(row)) < len(row) - len(undone))[order],
        known_at_ms=known_at[order],
        source=np.concatenate([source, np.full(len(undone), ANALYST)])[order],
    )


def _delays(median_days: Floats, sigma: Floats, rng: Generator) -> Ints:
    """Return log-normal delays in milliseconds, from an hour to `_DELAY_MAX_DAYS`, shape (n,)."""
    days = median_days * np.exp(sigma * rng.standard_normal(len(sigma)))
    return np.clip(days * DAY_MS, HOUR_MS, _DELAY_MAX_DAYS * DAY_MS).astype(np.int64)
