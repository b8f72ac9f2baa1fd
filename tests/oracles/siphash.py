"""SipHash-1-3 from its paper: the witness of the hash that stands for an id in the state."""

from __future__ import annotations

from itertools import pairwise


def siphash_1_3(data: bytes, key: tuple[int, int]) -> int:
    """Return SipHash-1-3 (Aumasson and Bernstein 2012, section 2, with c = 1 and d = 3)."""
    full = 2**64 - 1

    def rotated(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & full

    def sipround(v: list[int]) -> None:
        v[0] = (v[0] + v[1]) & full
        v[2] = (v[2] + v[3]) & full
        v[1] = rotated(v[1], 13) ^ v[0]
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[1]) & full
        v[0] = (v[0] + v[3]) & full
        v[1] = rotated(v[1], 17) ^ v[2]
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = rotated(v[2], 32)

    constants = b"somepseudorandomlygeneratedbytes"
    v = [int.from_bytes(constants[i : i + 8], "big") ^ key[i // 8 % 2] for i in range(0, 32, 8)]
    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for start, stop in pairwise(range(0, len(padded) + 8, 8)):
        word = int.from_bytes(padded[start:stop], "little")
        v[3] ^= word
        sipround(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        sipround(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def text_hash(text: str | None, key: tuple[int, int]) -> int:
    """Return the hash that stands for a text: 0 is kept for "no such value"."""
    return 0 if text is None else siphash_1_3(text.encode(), key) or 1
