"""A run: one state's life. Its name stands in the header `fraudstream-run` of what was served from that state.

`1767225600000-9f86d081/0-3.5`: when it began, something random, and the partitions whose rows the state holds. A
worker begins another one whenever its partitions change. Its decisions are numbered (`sequence`, from 0)
in the order in which it served them: what an audit needs to replay them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from itertools import groupby

from fraudstream.clock import now_ms


def new_run(partitions: Iterable[int]) -> str:
    """Return the name of a run that begins now."""
    return f"{now_ms()}-{secrets.token_hex(4)}/{ranges(partitions)}"


def partitions_of(run: str) -> set[int] | None:
    """Return the partitions whose rows a run's state holds; None where its name does not say.

    >>> sorted(partitions_of("1767225600000-9f86d081/0-3.5"))
    [0, 1, 2, 3, 5]
    """
    found: set[int] = set()
    try:
        for part in run.partition("/")[2].split("."):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return None
    return found


def ranges(partitions: Iterable[int]) -> str:
    """Write partitions as ranges.

    >>> ranges({5, 0, 2, 1, 3})
    '0-3.5'
    """
    runs = [list(run) for _, run in groupby(enumerate(sorted(partitions)), lambda pair: pair[1] - pair[0])]
    parts = [(run[0][1], run[-1][1]) for run in runs]
    return ".".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
