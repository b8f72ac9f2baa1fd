"""Transactions seen lately, by the hash of their id: a table without a Python object a transaction.

Entries are grouped in generations as long as the horizon. The current one and the one before are looked at; older
ones are dropped whole, so that nothing is ever deleted one by one. An entry is forgotten once more than the horizon
has passed since it was made. Each generation is in 64 parts, which grow one at a time, so that growth is no pause.

Two ids share a 64-bit hash with probability 2**-64 a pair: among 100 million remembered ones that is a chance of 3 in
10,000 that any two are taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fraudstream.batch import Int64, UInt64
from fraudstream.features.memory import address_of, compiled, prefetch, put_word, word

PARTS = 64
ROWS_MIN = 16
_PART_BITS = np.uint64(58)
_AHEAD = 8
_NUMBERS = np.arange(PARTS)
# Columns of `parts`: address, length and used entries of each.
_ADDRESS, _LENGTH, _USED = range(3)


class Recent:
    """Entries of `width` words: the id's hash, the stream time at which it was made, then what the user keeps.

    Args:
        horizon_ms: how long an entry is remembered, in stream time.
        width: words an entry.
    """

    KEY, MADE_MS, FIRST = range(3)

    def __init__(self, horizon_ms: int, width: int) -> None:
        self.horizon_ms = horizon_ms
        self.generation = -1
        self.width = width
        self.tables = [Table(width), Table(width)]  # the current generation, the one before

    def __len__(self) -> int:
        return sum(table.used for table in self.tables)

    def bytes_used(self) -> int:
        """Return the bytes of all entries, room for growth included."""
        return sum(part.nbytes for table in self.tables for part in table.parts)

    def find(self, key: int, now_ms: int) -> Int64 | None:
        """Return an id's entry, to read or write; None where there is none."""
        for table in self.tables:
            entry = table.find(key)
            if entry is not None and now_ms - entry[Recent.MADE_MS] <= self.horizon_ms:
                return entry
        return None

    def add(self, keys: UInt64, time_ms: Int64, watermark_ms: int, known: Int64, words: Int64) -> None:
        """Look ids up in the order given and remember those that are new.

        Args:
            keys: [n] hashes; time_ms: [n] event times; watermark_ms: stream time before them.
            known: [n], filled with 1 where an id was there already, else 0.
            words: [n, width - FIRST], what to keep of the new ones; filled with what is kept of those known.
        """
        done, state = 0, np.array([watermark_ms], np.int64)
        while done < len(keys):
            self._turn_to(max(int(state[0]), int(time_ms[done])) // self.horizon_ms)
            current, former = self.tables
            limits = (self.horizon_ms, self.generation, self.width)
            done = int(
                _add(keys, time_ms, current.numbers, former.numbers, limits, state, known, words, done)
            )
            if done < len(keys):
                current.grow_for(int(keys[done]))

    def put(self, keys: UInt64, column: int, words: Int64) -> None:
        """Write words from a column on into the entries of ids that are remembered.

        Args:
            words: [n, k].
        """
        current, former = self.tables
        _put(keys, current.numbers, former.numbers, self.width, column, words)

    def sections(self) -> Iterator[tuple[str, Int64]]:
        """Yield each part with its name, for a snapshot."""
        for age, table in enumerate(self.tables):
            for number, part in enumerate(table.parts):
                yield f"{age}/{number}", part

    def restore(self, generation: int, sections: dict[str, Int64]) -> None:
        """Take in what `sections` gave."""
        self.generation = generation
        for age, table in enumerate(self.tables):
            for number in range(PARTS):
                table.replace(number, sections[f"{age}/{number}"].reshape(-1, self.width))

    def _turn_to(self, generation: int) -> None:
        if generation != self.generation:
            follows = generation == self.generation + 1
            fresh = Table(self.width, self.tables[0].used)  # about as many are to be expected
            self.tables = [fresh, self.tables[0] if follows else Table(self.width)]
            self.generation = generation


class Table:
    """One generation: open addressing in parts, each at most three quarters full."""

    def __init__(self, width: int, expected: int = 0) -> None:
        self._width = width
        length = ROWS_MIN
        while length * PARTS * 3 < expected * 4:
            length *= 2
        whole = np.zeros((PARTS, length, width), np.int64)
        self._whole, self._grown = whole, dict[int, Int64]()
        self.numbers = np.zeros((PARTS, 3), np.int64)
        self.numbers[:, _ADDRESS] = address_of(whole) + 8 * length * width * _NUMBERS
        self.numbers[:, _LENGTH] = length

    @property
    def parts(self) -> list[Int64]:
        """Return the entries of each part, [length, width]."""
        return [self.part(number) for number in range(PARTS)]

    def part(self, number: int) -> Int64:
        """Return the entries of one part."""
        grown = self._grown.get(number)
        part: Int64 = self._whole[number] if grown is None else grown
        return part

    @property
    def used(self) -> int:
        """Return how many entries there are."""
        return int(self.numbers[:, _USED].sum())

    def find(self, key: int) -> Int64 | None:
        """Return an id's entry, or None."""
        part = self.part(key >> int(_PART_BITS))
        at = int(_find(self.numbers, self._width, np.uint64(key)))
        found: Int64 | None = part[at] if at >= 0 else None
        return found

    def grow_for(self, key: int) -> None:
        """Let the part of a key take one more entry, if it is full."""
        number = key >> int(_PART_BITS)
        if (self.numbers[number, _USED] + 1) * 4 <= self.numbers[number, _LENGTH] * 3:
            return
        part = self.part(number)
        larger = np.zeros((2 * len(part), self._width), np.int64)
        _copy(part, larger)
        self.replace(number, larger)

    def replace(self, number: int, part: Int64) -> None:
        """Put a part in the place of another."""
        self._grown[number] = part
        used = int(np.count_nonzero(part[:, Recent.KEY]))
        self.numbers[number] = address_of(part), len(part), used


@compiled
def _place(numbers, width, key):  # type: ignore[no-untyped-def]
    """Return (address of the entry that a key has or would take, its place)."""
    part = np.int64(key >> _PART_BITS)
    base, mask = numbers[part, _ADDRESS], numbers[part, _LENGTH] - 1
    at = np.int64(key) & mask
    while True:
        entry = base + 8 * width * at
        found = word(entry, 0)
        if found == 0 or found == np.int64(key):
            return entry, at
        at = (at + 1) & mask


@compiled
def _find(numbers, width, key):  # type: ignore[no-untyped-def]
    entry, at = _place(numbers, width, key)
    return at if word(entry, 0) != 0 else -1


@compiled
def _copy(part, larger):  # type: ignore[no-untyped-def]
    mask = len(larger) - 1
    for i in range(len(part)):
        if part[i, 0] != 0:
            at = part[i, 0] & mask
            while larger[at, 0] != 0:
                at = (at + 1) & mask
            for column in range(part.shape[1]):
                larger[at, column] = part[i, column]


@compiled
def _fetch(numbers, width, key):  # type: ignore[no-untyped-def]
    part = np.int64(key >> _PART_BITS)
    entry = numbers[part, _ADDRESS] + 8 * width * (np.int64(key) & (numbers[part, _LENGTH] - 1))
    prefetch(entry)
    prefetch(entry + 8 * (width - 1))


@compiled
def _add(keys, time_ms, current, former, limits, state, known, words, start):  # type: ignore[no-untyped-def]
    """Return n, or the row at which a new generation begins or a part must grow. state[0]: stream time."""
    horizon_ms, generation, width = limits
    for i in range(start, len(keys)):
        if i + _AHEAD < len(keys):
            _fetch(current, width, keys[i + _AHEAD])
            _fetch(former, width, keys[i + _AHEAD])
        now_ms = max(state[0], time_ms[i])
        if now_ms // horizon_ms != generation:
            return i
        entry, _ = _place(current, width, keys[i])
        is_here = word(entry, 0) != 0
        seen, _ = (entry, 0) if is_here else _place(former, width, keys[i])
        if word(seen, 0) != 0 and now_ms - word(seen, 1) <= horizon_ms:
            known[i] = 1
            for column in range(2, width):
                words[i, column - 2] = word(seen, column)
            continue
        part = np.int64(keys[i] >> _PART_BITS)
        if not is_here:
            if (current[part, _USED] + 1) * 4 > current[part, _LENGTH] * 3:
                return i
            current[part, _USED] += 1
        put_word(entry, 0, np.int64(keys[i]))
        put_word(entry, 1, now_ms)
        for column in range(2, width):
            put_word(entry, column, words[i, column - 2])
        known[i] = 0
        state[0] = now_ms
    return len(keys)


@compiled
def _put(keys, current, former, width, first, words):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        if i + _AHEAD < len(keys):
            _fetch(current, width, keys[i + _AHEAD])
        entry, _ = _place(current, width, keys[i])
        if word(entry, 0) == 0:
            entry, _ = _place(former, width, keys[i])
        if word(entry, 0) != 0:
            for column in range(words.shape[1]):
                put_word(entry, first + column, words[i, column])
