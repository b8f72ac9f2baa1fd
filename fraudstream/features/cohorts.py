"""What became of what was decided: counts by UTC day of the event and by cohort, moved by labels as they come.

A cohort is what one model decided of one segment of one partition's transactions. Of a transaction nothing is kept
but one word beside its label (`LabelBook`): its cohort, whether it alerted, and how late its report came. So a label
that comes, or is taken back, moves a count, and the counts are what a recount of everything would give. They belong
to the state: they are saved with it.

A word is 0 where nothing was decided here; else its low 32 bits are 2 * (number of the cohort + 1) + alerted, and its
high ones the days that its report took, and 1, while it is a fraud.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fraudstream.batch import Int64

DAY_MS = 86_400_000
LATE_DAYS_MAX = 10_000
_LOW = 0xFFFFFFFF


class Cohort(NamedTuple):
    """Which transactions are counted together."""

    partition: int
    model: str
    segment: str


class Cell(NamedTuple):
    """The counts of one day of one cohort, of those that alerted or of the others.

    Attributes:
        day: of the event, days since 1970.
        reports: frauds, by how many days their reports took.
        labelled: of how many anything is known.
    """

    day: int
    cohort: Cohort
    alerted: bool
    transactions: int
    labelled: int
    reports: dict[int, int]


class Counts:
    """The counts of one cell while they move."""

    __slots__ = ("labelled", "reports", "transactions")

    def __init__(
        self, transactions: int = 0, labelled: int = 0, reports: dict[int, int] | None = None
    ) -> None:
        self.transactions = transactions
        self.labelled = labelled
        self.reports = {} if reports is None else reports

    def move(self, former_days: int, days: int) -> None:
        """Move a transaction from one length of delay to another; -1: it is no fraud."""
        if former_days >= 0:
            self.reports[former_days] -= 1
            if not self.reports[former_days]:
                del self.reports[former_days]
        if days >= 0:
            self.reports[days] = self.reports.get(days, 0) + 1


class Cohorts:
    """The counts of the last days.

    Args:
        kept_days: older days are dropped.
    """

    def __init__(self, kept_days: int) -> None:
        self._kept_days = kept_days
        self._cohorts: list[Cohort] = []
        self._numbers: dict[Cohort, int] = {}
        self._cells: dict[tuple[int, int], Counts] = {}
        self._oldest = 0

    def word(self, cohort: Cohort) -> int:
        """Return the word of a transaction of a cohort that did not alert; one more is that of an alert."""
        number = self._numbers.get(cohort)
        if number is None:
            number = self._numbers[cohort] = len(self._cohorts)
            self._cohorts.append(cohort)
        return 2 * (number + 1)

    def count(self, day: Int64, words: Int64, labelled: Int64, late: Int64) -> None:
        """Count transactions that have just been decided.

        Args:
            day: of each event; words: from `word`; [n] each.
            labelled: 1 where something is known already; late: the high part of what stood there before, [n].
        """
        kept = day >= self._oldest
        if not kept.all():
            day, words, labelled, late = day[kept], words[kept], labelled[kept], late[kept]
        if not len(day):
            return
        first = int(day.min())
        span = int(day.max()) - first + 1
        together = np.bincount(words * span + (day - first))
        for place in np.flatnonzero(together).tolist():
            counts = self._cells.setdefault((first + place % span, place // span), Counts())
            counts.transactions += int(together[place])
        for row in np.flatnonzero(labelled).tolist():
            counts = self._cells[int(day[row]), int(words[row])]
            counts.labelled += 1
            counts.move(-1, int(late[row]) - 1)

    def learn(self, word: int, time_ms: int, known_at_ms: int, fraud: bool, first: bool) -> int:
        """Take in that a transaction has become a fraud, or is none any more; return its word from now on.

        Args:
            first: it had no label before.
        """
        low, days = word & _LOW, (word >> 32) - 1
        known = min(max(0, known_at_ms - time_ms) // DAY_MS, LATE_DAYS_MAX)
        now = (known if days < 0 else days) if fraud else -1
        counts = self._cells.get((time_ms // DAY_MS, low))
        if counts is not None:
            counts.labelled += first
            counts.move(days, now)
        return (now + 1) << 32 | low

    def forget(self, watermark_ms: int) -> None:
        """Drop the days that are too old."""
        oldest = watermark_ms // DAY_MS - self._kept_days
        if oldest > self._oldest:
            self._oldest = oldest
            self._cells = {key: counts for key, counts in self._cells.items() if key[0] >= oldest}

    def keep(self, partitions: set[int]) -> None:
        """Drop what is counted of other partitions: somebody else goes on counting them."""
        wanted = [cohort.partition in partitions for cohort in self._cohorts]
        self._cells = {key: counts for key, counts in self._cells.items() if wanted[key[1] // 2 - 1]}

    def cells(self) -> list[Cell]:
        """Return all counts, the oldest day first."""
        found = []
        for (day, low), counts in sorted(self._cells.items(), key=lambda item: item[0]):
            cohort, alerted = self._cohorts[low // 2 - 1], bool(low % 2)
            found.append(
                Cell(day, cohort, alerted, counts.transactions, counts.labelled, dict(counts.reports))
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return all of it for a snapshot."""
        cells = [
            [*key, counts.transactions, counts.labelled, sorted(counts.reports.items())]
            for key, counts in self._cells.items()
        ]
        return {"cohorts": self._cohorts, "cells": cells}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take in what `to_json` gave."""
        self._cohorts = [Cohort(*cohort) for cohort in saved["cohorts"]]
        self._numbers = {cohort: number for number, cohort in enumerate(self._cohorts)}
        self._cells = {
            (day, low): Counts(transactions, labelled, dict(reports))
            for day, low, transactions, labelled, reports in saved["cells"]
        }
