"""Text -> 64-bit keyed hash (SipHash-1-3), a column at a time, without a Python object an entity.

0 stands for "no such value". Two different values share a hash with probability 2**-64 a pair: among ten
million cards that is a chance of 3 in a million that any two are taken for one.

Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraudstream.batch import UInt64
from fraudstream.compiled import compiled
from fraudstream.features.memory import address_of, octet, word

# Fixed: the hashes stand in the state, which another process of the same deployment continues.
KEY = (np.uint64(0x66726175_64737472), np.uint64(0x65616D2D_6B657931))


def hash_texts(texts: Sequence[str | None]) -> UInt64:
    """Return the hash of each text's UTF-8 form, [n]; 0 for None."""
    if not texts:
        return np.empty(0, np.uint64)
    missing = False
    try:
        joined = "\0".join(texts)  # type: ignore[arg-type]
    except TypeError:
        joined, missing = "\0".join([text or "" for text in texts]), True
    octets = np.frombuffer(bytearray(joined, "utf-8") + b"\0", np.uint8)
    stops = (octets == 0).nonzero()[0]
    starts = np.empty_like(stops)
    starts[0], starts[1:] = 0, stops[:-1] + 1
    if len(stops) > len(texts):  # a text has a 0 in it
        lengths = np.array([len((text or "").encode()) for text in texts], np.int64)
        stops = np.cumsum(lengths + 1) - 1
        starts = stops - lengths
    hashes = np.empty(len(texts), np.uint64)
    _hash_segments(address_of(octets), starts, stops, hashes)
    if missing:
        for row in np.flatnonzero(starts == stops).tolist():
            if texts[row] is None:
                hashes[row] = 0
    return hashes


def combine(hashes: Sequence[UInt64]) -> UInt64:
    """Return the hash of a pair (or more) of values, [n]; 0 where any is missing."""
    if len(hashes) == 1:
        return hashes[0]
    mixed = np.empty(len(hashes[0]), np.uint64)
    _mix(np.stack(hashes), mixed)
    return mixed


@compiled
def _rotate(x: np.uint64, bits: np.uint64) -> np.uint64:
    return (x << bits) | (x >> (np.uint64(64) - bits))


@compiled
def _round(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> tuple[
    np.uint64, np.uint64, np.uint64, np.uint64
]:  # fmt: skip
    v0 += v1
    v1 = _rotate(v1, np.uint64(13)) ^ v0
    v0 = _rotate(v0, np.uint64(32))
    v2 += v3
    v3 = _rotate(v3, np.uint64(16)) ^ v2
    v0 += v3
    v3 = _rotate(v3, np.uint64(21)) ^ v0
    v2 += v1
    v1 = _rotate(v1, np.uint64(17)) ^ v2
    v2 = _rotate(v2, np.uint64(32))
    return v0, v1, v2, v3


@compiled
def _siphash(start: int, length: int) -> np.uint64:
    """Return the hash of so many bytes from an address on."""
    v0 = KEY[0] ^ np.uint64(0x736F6D6570736575)
    v1 = KEY[1] ^ np.uint64(0x646F72616E646F6D)
    v2 = KEY[0] ^ np.uint64(0x6C7967656E657261)
    v3 = KEY[1] ^ np.uint64(0x7465646279746573)
    for i in range(length >> 3):
        part = np.uint64(word(start, i))
        v3 ^= part
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= part
    last = np.uint64(length & 255) << np.uint64(56)
    for i in range(length & 7):
        last |= np.uint64(octet(start, (length & ~7) + i)) << np.uint64(8 * i)
    v3 ^= last
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= last
    v2 ^= np.uint64(255)
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@compiled
def _hash_segments(
    octets: int,
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
) -> None:
    for i in range(len(hashes)):
        value = _siphash(octets + starts[i], stops[i] - starts[i])
        hashes[i] = value if value != np.uint64(0) else np.uint64(1)


@compiled
def _mix(parts: npt.NDArray[np.uint64], mixed: npt.NDArray[np.uint64]) -> None:
    """Chain the parts through SipHash rounds: the order of the fields counts."""
    for i in range(len(mixed)):
        v0 = KEY[0]
        v1 = KEY[1]
        v2 = ~KEY[0]
        v3 = ~KEY[1]
        missing = False
        for p in range(len(parts)):
            part = parts[p, i]
            missing |= part == np.uint64(0)
            v3 ^= part
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0 ^= part
        for _ in range(3):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        value = v0 ^ v1 ^ v2 ^ v3
        mixed[i] = np.uint64(0) if missing else (value if value != np.uint64(0) else np.uint64(1))
