"""Contenders that take turns on the same rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.features_process import settle_memory
from fraudstream.batch import Float64

SPELL_S = 0.05  # at least so long is each timed in its turn
ROWS, CALLS_MAX = (
    8192,
    1024,
)  # a processor that has seen a few rows often enough knows their branches by heart


def as_is(X: Float64) -> Float64:
    """Return rows as they are."""
    return X


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the job.

    Attributes:
        answer: what is timed, a call for each batch.
        prepare: makes of a batch what `answer` takes, before the clock starts.
        rows_max: of a batch; None: any.
    """

    answer: Callable[[Any], Any]
    prepare: Callable[[Float64], Any] = as_is
    rows_max: int | None = None


def batches_of(X: Float64, size: int, calls_max: int = CALLS_MAX) -> list[Float64]:
    """Return full batches of the first ROWS rows, at most so many."""
    calls = min(min(len(X), ROWS) // size, calls_max)
    return [X[size * call : size * (call + 1)] for call in range(calls)]


def us_a_row(
    contenders: Mapping[str, Contender], batches: list[Float64], repetitions: int
) -> dict[str, float]:
    """Return the microseconds a row of each that can do batches of this size, the median of its turns."""
    size = len(batches[0])
    able = {name: one for name, one in contenders.items() if one.rows_max is None or size <= one.rows_max}
    given = {name: [one.prepare(batch) for batch in batches] for name, one in able.items()}
    passes = {}
    for name, one in able.items():
        timed_s(one, given[name][:2], 1)  # compiles and loads what it needs
        passes[name] = math.ceil(SPELL_S / timed_s(one, given[name], 1))
    taken: dict[str, list[float]] = {name: [] for name in able}
    settle_memory()
    for _ in range(repetitions):
        for name, one in able.items():
            taken[name].append(timed_s(one, given[name], passes[name]) / passes[name])
    rows = size * len(batches)
    return {name: round(1e6 * median(spells_s) / rows, 3) for name, spells_s in taken.items()}


def timed_s(contender: Contender, given: list[Any], passes: int) -> float:
    """Return the seconds for so many passes over the batches."""
    answer = contender.answer
    began_s = time.perf_counter()
    for _ in range(passes):
        for batch in given:
            answer(batch)
    return time.perf_counter() - began_s
