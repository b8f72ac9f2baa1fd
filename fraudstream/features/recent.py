"""Transactions seen lately, by the hash of their id: a table without a Python object a transaction.

Entries are grouped in generations as long as the horizon. The current one and the one before are looked at; older
ones are dropped whole, so that nothing is ever deleted one by one. An entry is forgotten once more than the horizon
has passed since it was made. A generation is a log of entries, which grows where it is, and an index of one word an
entry (32 bits of the hash, the entry's number) in 64 parts, which grow one at a time, so that growth is no pause.

Two ids share a 64-bit hash with probability 2**-64 a pair: among 100 million remembered ones that is a chance of 3 in
10,000 that any two are taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fraudstream.batch import Int64, UInt64
from fraudstream.compiled import compiled
from fraudstream.features.arena import Region
from fraudstream.features.memory import address_of, prefetch, put_word, word

PARTS = 64
LENGTH_MIN = 16
ENTRIES_MIN = 512
_PART_BITS, _TAG_BITS = np.uint64(58), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_AHEAD = 8
# Columns of `numbers`: where a part of the index stands, its length, entries in it; its last row is the log's.
_ADDRESS, _LENGTH, _USED = range(3)


_NUMBERS = np.arange(PARTS)


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
        return sum(table.bytes_used() for table in self.tables)

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
            current, former = self.tables
            limits = (self.horizon_ms, self.generation, self.width)
            done = int(
                _add(keys, time_ms, current.numbers, former.numbers, limits, state, known, words, done)
            )
            if done < len(keys):
                generation = max(int(state[0]), int(time_ms[done])) // self.horizon_ms
                if generation > self.generation:
                    self._turn_to(generation)
                else:
                    current.grow_for(int(keys[done]))

    def put(self, keys: UInt64, column: int, words: Int64) -> None:
        """Write words from a column on into the entries of ids that are remembered.

        Args:
            words: [n, k].
        """
        current, former = self.tables
        _put(keys, current.numbers, former.numbers, self.width, column, words)

    def put_once(self, keys: UInt64, column: int, words: Int64, stood: Int64) -> None:
        """Add words to a column of the entries in which the low 32 bits of it are 0.

        Args:
            words: [n], above 0.
            stood: [n, 3], filled with 1 where that was so, and what stood there before in the column before that one
                and in this one; with 0 where it was not, or where nothing is remembered.
        """
        current, former = self.tables
        _put_once(keys, current.numbers, former.numbers, self.width, column, words, stood)

    def sections(self) -> Iterator[tuple[str, Int64]]:
        """Yield the log of each generation with its name, for a snapshot."""
        for age, table in enumerate(self.tables):
            yield str(age), table.entries

    def restore(self, generation: int, sections: dict[str, Int64]) -> None:
        """Take in what `sections` gave."""
        self.generation = generation
        logs = [sections[str(age)].reshape(-1, self.width) for age in range(len(self.tables))]
        self.tables = [Table(self.width, len(log)) for log in logs]
        for table, log in zip(self.tables, logs, strict=True):
            table.fill(log)

    def _turn_to(self, generation: int) -> None:
        current, former = self.tables
        if generation == self.generation + 1:
            self.tables = [former.emptied(current.used), current]  # about as many are to be expected
        else:
            self.tables = [Table(self.width, current.used), Table(self.width)]
        self.generation = generation


class Table:
    """One generation; open addressing, each part of the index at most three quarters full."""

    def __init__(self, width: int, expected: int = 0) -> None:
        self._width = width
        length = LENGTH_MIN
        while length * PARTS * 3 < expected * 4:
            length *= 2
        self._index, self._grown = np.zeros((PARTS, length), np.int64), dict[int, Int64]()
        self.numbers = np.zeros((PARTS + 1, 3), np.int64)
        self.numbers[:PARTS, _ADDRESS] = address_of(self._index) + 8 * length * _NUMBERS
        self.numbers[:PARTS, _LENGTH] = length
        self._log = Region(max(expected, ENTRIES_MIN) * width)
        self._locate()

    def emptied(self, expected: int) -> Table:
        """Return a table without entries: this one, unless it has far too much room."""
        room = int(self.numbers[:PARTS, _LENGTH].sum())
        if room > 8 * max(expected, PARTS * LENGTH_MIN):
            return Table(self._width, expected)
        for part in (self._index, *self._grown.values()):
            part[:] = 0
        self.numbers[:, _USED] = 0
        return self

    def _locate(self) -> None:
        """Note where the log is; called again whenever it has moved."""
        self.numbers[PARTS, : _LENGTH + 1] = address_of(self._log.words), len(self._log.words) // self._width

    @property
    def used(self) -> int:
        """Return how many entries there are."""
        return int(self.numbers[PARTS, _USED])

    @property
    def entries(self) -> Int64:
        """Return the entries in the order in which they were made, [used, width], to read or write."""
        return self._log.words[: self.used * self._width].reshape(-1, self._width)

    def bytes_used(self) -> int:
        """Return the bytes of the entries and of the index, with its room for growth."""
        return 8 * (self.used * self._width + int(self.numbers[:PARTS, _LENGTH].sum()))

    def find(self, key: int) -> Int64 | None:
        """Return an id's entry, or None."""
        number = int(_find(self.numbers, self._width, np.uint64(key)))
        found: Int64 | None = self.entries[number] if number >= 0 else None
        return found

    def fill(self, log: Int64) -> None:
        """Take entries in that are all different, [n, width], in a table that has none."""
        self._log.grow(log.size)
        self._locate()
        self._log.words[: log.size] = log.ravel()
        while self.used < len(log):
            _fill(self.numbers, self._width, len(log))
            if self.used < len(log):
                self.grow_for(int(log[self.used, Recent.KEY].view(np.uint64)))

    def grow_for(self, key: int) -> None:
        """Let the log, and the part of a key, take one more entry, where they are full."""
        if self.used >= self.numbers[PARTS, _LENGTH]:
            self._log.grow((self.used + 1) * self._width)
            self._locate()
        number = key >> int(_PART_BITS)
        if (self.numbers[number, _USED] + 1) * 4 <= self.numbers[number, _LENGTH] * 3:
            return
        part = self._grown.get(number, self._index[number])
        larger = self._grown[number] = np.zeros(2 * len(part), np.int64)
        _copy(part, larger)
        self.numbers[number, : _LENGTH + 1] = address_of(larger), len(larger)


@compiled
def _place(numbers, width, key):  # type: ignore[no-untyped-def]
    """Return the address of the index's word that a key has or would take, and of its entry (0: none)."""
    part = np.int64(key >> _PART_BITS)
    base, mask, tag = numbers[part, _ADDRESS], numbers[part, _LENGTH] - 1, key & _LOW
    at = np.int64(tag) & mask
    while True:
        found = np.uint64(word(base, at))
        if found == np.uint64(0):
            return base + 8 * at, 0
        if found >> _TAG_BITS == tag:
            entry = numbers[PARTS, _ADDRESS] + 8 * width * (np.int64(found & _LOW) - 1)
            if word(entry, 0) == np.int64(key):
                return base + 8 * at, entry
        at = (at + 1) & mask


@compiled
def _find(numbers, width, key):  # type: ignore[no-untyped-def]
    """Return the number of a key's entry, or -1."""
    _, entry = _place(numbers, width, key)
    return (entry - numbers[PARTS, _ADDRESS]) // (8 * width) if entry != 0 else -1


@compiled
def _append(numbers, width, key, place):  # type: ignore[no-untyped-def]
    """Return the address of a new entry for a key, which takes a place in the index; 0 where something must grow."""
    part, number = np.int64(key >> _PART_BITS), numbers[PARTS, _USED]
    if number >= numbers[PARTS, _LENGTH] or (numbers[part, _USED] + 1) * 4 > numbers[part, _LENGTH] * 3:
        return 0
    numbers[part, _USED] += 1
    numbers[PARTS, _USED] += 1
    put_word(place, 0, np.int64((key & _LOW) << _TAG_BITS | np.uint64(number + 1)))
    entry = numbers[PARTS, _ADDRESS] + 8 * width * number
    put_word(entry, 0, np.int64(key))
    return entry


@compiled
def _fetch(numbers, key):  # type: ignore[no-untyped-def]
    part = np.int64(key >> _PART_BITS)
    prefetch(numbers[part, _ADDRESS] + 8 * (np.int64(key & _LOW) & (numbers[part, _LENGTH] - 1)))


@compiled
def _fill(numbers, width, entries):  # type: ignore[no-untyped-def]
    """Note in the index the entries that stand in the log already, until a part must grow."""
    log = numbers[PARTS, _ADDRESS]
    while numbers[PARTS, _USED] < entries:
        number = numbers[PARTS, _USED]
        if number + _AHEAD < entries:
            _fetch(numbers, np.uint64(word(log, (number + _AHEAD) * width)))
        key = np.uint64(word(log, number * width))
        place, _ = _place(numbers, width, key)
        if _append(numbers, width, key, place) == 0:
            return


@compiled
def _copy(part, larger):  # type: ignore[no-untyped-def]
    mask = len(larger) - 1
    for i in range(len(part)):
        if part[i] != 0:
            at = np.int64(np.uint64(part[i]) >> _TAG_BITS) & mask
            while larger[at] != 0:
                at = (at + 1) & mask
            larger[at] = part[i]


@compiled
def _add(keys, time_ms, current, former, limits, state, known, words, start):  # type: ignore[no-untyped-def]
    """Return n, or the row at which a new generation begins or something must grow. state[0]: stream time."""
    horizon_ms, generation, width = limits
    for i in range(start, len(keys)):
        if i + _AHEAD < len(keys):
            _fetch(current, keys[i + _AHEAD])
            _fetch(former, keys[i + _AHEAD])
        now_ms = max(state[0], time_ms[i])
        place, entry = _place(current, width, keys[i])
        seen = entry if entry != 0 else _place(former, width, keys[i])[1]
        if seen != 0 and now_ms - word(seen, 1) <= horizon_ms:
            known[i] = 1
            for column in range(2, width):
                words[i, column - 2] = word(seen, column)
            continue
        if now_ms // horizon_ms > generation:  # only new ids move the time
            return i
        if entry == 0:
            entry = _append(current, width, keys[i], place)
            if entry == 0:
                return i
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
            _fetch(current, keys[i + _AHEAD])
        _, entry = _place(current, width, keys[i])
        if entry == 0:
            _, entry = _place(former, width, keys[i])
        if entry != 0:
            for column in range(words.shape[1]):
                put_word(entry, first + column, words[i, column])


@compiled
def _put_once(keys, current, former, width, column, words, stood):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        if i + _AHEAD < len(keys):
            _fetch(current, keys[i + _AHEAD])
        _, entry = _place(current, width, keys[i])
        if entry == 0:
            _, entry = _place(former, width, keys[i])
        stood[i, 0] = 0
        if entry != 0 and np.uint64(word(entry, column)) & _LOW == np.uint64(0):
            stood[i, 0], stood[i, 1], stood[i, 2] = 1, word(entry, column - 1), word(entry, column)
            put_word(entry, column, word(entry, column) | words[i])
