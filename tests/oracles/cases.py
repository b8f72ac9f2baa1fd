"""The slow twin of `features.cases`: looks at everything before, each time, and forgets nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fraudstream.features.cases import Case


class Alert(NamedTuple):
    """One alert, in the order of serving."""

    entity: int | str
    time_ms: int
    id: str


def slow_cases(alerts: Sequence[Alert], period_ms: int, length_max_ms: int) -> list[Case]:
    """Return the case of each alert."""
    found: list[Case] = []
    alone: set[int] = set()
    for at, alert in enumerate(alerts):
        before = [i for i in range(at) if alerts[i].entity == alert.entity and i not in alone]
        newest = found[before[-1]].case_id if before else alert.id
        members = [alerts[i].time_ms for i in before if found[i].case_id == newest]
        over = not members or (
            alert.time_ms > max(members) + period_ms or alert.time_ms - members[0] > length_max_ms
        )
        if over or alert.time_ms < members[0] - period_ms:
            found.append(Case(alert.id, 1))
            alone |= set() if over else {at}
        else:
            found.append(Case(newest, len(members) + 1))
    return found
