"""Cases: the alerts of one card that come within an open period of each other are one thing to look at.

A case has the transaction id of its first alert. An alert at event time t belongs to its entity's newest case where

    first - period <= t <= last + period    and    t - first <= length_max

where `first` and `last` are the event times of the alert that began the case and of its latest one so far. One that
is later begins another case. One that is earlier stands alone and changes nothing.

```
period 24h      Mon 10:00   Tue 09:00   Wed 08:00          Fri 08:00
                    a           b           c                  d
                    a: case a, alert 1    2           3        case d, alert 1
```

Cases belong to the state, as they follow from what was decided; they are saved with it. What is decided of a row does
not depend on them. No case is dropped because it is old: how far another partition is ahead must not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

CASES_MAX = 200_000  # of the entities whose last alert was taken last; about 60 MB


class Case(NamedTuple):
    """What an alert says of its case.

    Attributes:
        case_id: transaction id of its first alert.
        alerts: how many there are up to this one.
    """

    case_id: str
    alerts: int


NO_CASE = Case("", 0)  # cases are turned off


class _Open(NamedTuple):
    case_id: str
    first_ms: int
    last_ms: int
    alerts: int


class Cases:
    """The newest case of each entity.

    Args:
        period_ms: how far apart the alerts of a case may be, in event time.
        length_max_ms: how long a case may go on.
    """

    def __init__(self, period_ms: int, length_max_ms: int) -> None:
        self._period_ms = period_ms
        self._length_max_ms = length_max_ms
        self._open: OrderedDict[int, _Open] = OrderedDict()  # the one with the latest alert stands last

    def __len__(self) -> int:
        return len(self._open)

    def take(self, entities: Sequence[int], time_ms: Sequence[int], ids: Sequence[str]) -> list[Case]:
        """Return the case of each alert, in their order; each [n].

        Args:
            entities: hashes of what cases are of, 0: none is named; ids: of the transactions.
        """
        return [self._of(*alert) for alert in zip(entities, time_ms, ids, strict=True)]

    def _of(self, entity: int, time_ms: int, transaction_id: str) -> Case:
        known = self._open.get(entity)
        late = known is not None and time_ms < known.first_ms - self._period_ms
        if late or not entity:
            return Case(transaction_id, 1)
        case_id, first_ms, last_ms, alerts = known or _Open("", 0, 0, 0)
        goes_on = time_ms <= last_ms + self._period_ms and time_ms - first_ms <= self._length_max_ms
        if known is None or not goes_on:
            case_id, first_ms, last_ms, alerts = transaction_id, time_ms, time_ms, 0
        self._open[entity] = _Open(case_id, first_ms, max(last_ms, time_ms), alerts + 1)
        self._open.move_to_end(entity)
        if len(self._open) > CASES_MAX:
            self._open.popitem(last=False)
        return Case(case_id, alerts + 1)

    def to_json(self) -> list[Any]:
        """Return all of it for a snapshot."""
        return [[entity, *case] for entity, case in self._open.items()]

    def restore(self, saved: list[Any]) -> None:
        """Take in what `to_json` gave."""
        self._open = OrderedDict((entity, _Open(*case)) for entity, *case in saved)
