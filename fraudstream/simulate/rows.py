"""Transactions while they are drawn: one array a column, one position a transaction.

Customers, merchants and devices are numbers here and become tokens when the tables are made. Times count
from the start of the world, amounts are integer cents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CHANNELS = ("pos", "contactless", "online", "atm")
POS, CONTACTLESS, ONLINE, ATM = range(len(CHANNELS))
NO_DEVICE = -1
LEGIT = 0
AMOUNT_MINOR_MAX = 2_500_000  # 25,000.00: where an authorization would be refused anyway


@dataclass(frozen=True)
class Rows:
    """Transactions as columns, all of shape (n,) and type int64.

    Attributes:
        customer: Customer index.
        merchant: Merchant index.
        time_ms: Milliseconds since the start of the world.
        amount_minor: Cents, positive.
        channel: Index into `CHANNELS`.
        device: Device number, `NO_DEVICE` unless the channel is online.
        scenario: 0 for legitimate, else 1 + index into `fraud.SCENARIOS`.
    """

    customer: Ints
    merchant: Ints
    time_ms: Ints
    amount_minor: Ints
    channel: Ints
    device: Ints
    scenario: Ints

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.customer)

    def take(self, positions: Ints | Flags) -> Rows:
        """Return the rows at the positions, or where the mask is true."""
        return Rows(**{field.name: getattr(self, field.name)[positions] for field in fields(self)})


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, in their order; there is at least one part."""
    names = [field.name for field in fields(Rows)]
    return Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def to_minor(amount: Floats) -> Ints:
    """Return euros as whole cents, at least 1 and at most `AMOUNT_MINOR_MAX`."""
    return np.clip(np.rint(amount * 100.0), 1, AMOUNT_MINOR_MAX).astype(np.int64)


def expand(sizes: Ints) -> tuple[Ints, Ints]:
    """Return, for groups of the given sizes laid end to end, each row's group and its position in it.

    >>> group, position = expand(np.array([2, 3]))
    >>> group.tolist(), position.tolist()
    ([0, 0, 1, 1, 1], [0, 1, 0, 1, 2])
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes
    return group, np.arange(len(group)) - first[group]


def running_sum(steps: Floats, group: Ints) -> Floats:
    """Return the sum of each row's and its predecessors' steps within its group; equal groups adjoin."""
    if not len(steps):
        return steps
    total = np.cumsum(steps)
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    before = total[first] - steps[first]
    return total - np.repeat(before, np.diff(np.r_[first, len(group)]))
