"""The memory that rows live in: one growable block of 8-byte words, cut into chunks that are reused.

`Region` is an anonymous private mapping. It grows in place of being copied (the kernel moves page tables, not
pages), and what was never touched takes no memory. Pages are small ones: with huge ones a snapshot's fork made
a batch wait 0.3 s for copies of 2 MB. Chunks come in classes, eight to a doubling, so that at most an eighth of
a chunk is waste; a freed chunk goes to the list of its class and is handed out again.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from fraudstream.compiled import compiled
from fraudstream.features.access import add_allocator, allocator_at, put_allocator, put_word_at, word_at

PAGE_BYTES = 4096
CHUNK_WORDS_MIN = 8
CLASSES = 256
GROWTH = 1.25

# Words of an allocator: the first word never handed out, the words of freed chunks, then the head of each
# class's list of them (-1: none).
BUMP, FREED = 0, 1
_FREE = 2


class Region:
    """A growable array of 8-byte words."""

    def __init__(self, words: int) -> None:
        self._map = _mapped(words * 8)
        self.words: npt.NDArray[np.int64] = np.frombuffer(self._map, np.int64)

    def grow(self, words: int) -> None:
        """Make room for at least so many words; arrays taken from `words` before must be gone."""
        if words <= len(self.words):
            return
        wanted = _whole_pages(max(words, int(len(self.words) * GROWTH)) * 8)
        self.words = np.empty(0, np.int64)
        try:
            self._map.resize(wanted)
        except (BufferError, SystemError):  # somebody holds an array, or this system cannot move a mapping
            larger = _mapped(wanted)
            larger[: len(self._map)] = self._map[:]
            self._map = larger
        self.words = np.frombuffer(self._map, np.int64)


def _mapped(octets: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return mmap.mmap(-1, _whole_pages(octets), flags=flags)


def _whole_pages(octets: int) -> int:
    return -(-octets // PAGE_BYTES) * PAGE_BYTES


def new_allocator() -> npt.NDArray[np.int64]:
    """Return an allocator that has handed out nothing."""
    allocator = np.full(_FREE + CLASSES, -1, np.int64)
    allocator[BUMP] = allocator[FREED] = 0
    return allocator


@compiled
def chunk_words(words):  # type: ignore[no-untyped-def]
    """Return the words of the class that takes `words`: the next multiple of an eighth of a power of two."""
    step = CHUNK_WORDS_MIN
    while step * 16 <= words:
        step *= 2
    return (max(words, 1) + step - 1) // step * step


@compiled
def _class_of(words):  # type: ignore[no-untyped-def]
    step, number = CHUNK_WORDS_MIN, 0
    while step * 16 <= words:
        step *= 2
        number += 8
    return number + words // step


@compiled
def allocate(store, words):  # type: ignore[no-untyped-def]
    """Return the first word of a chunk; the caller has made sure that the arena has room."""
    size = chunk_words(words)
    at = _FREE + _class_of(size)
    base = allocator_at(store, at)
    if base >= 0:
        put_allocator(store, at, word_at(store, base))
        add_allocator(store, FREED, -size)
        return base
    base = allocator_at(store, BUMP)
    put_allocator(store, BUMP, base + size)
    return base


@compiled
def release(store, base, words):  # type: ignore[no-untyped-def]
    """Give a chunk of `words` back."""
    size = chunk_words(words)
    at = _FREE + _class_of(size)
    put_word_at(store, base, allocator_at(store, at))
    put_allocator(store, at, base)
    add_allocator(store, FREED, size)
