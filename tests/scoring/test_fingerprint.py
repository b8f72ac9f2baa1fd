"""Fingerprints against their slow twin, and what they must and must not tell apart."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fraudstream.batch import Float64
from fraudstream.scoring.fingerprint import LANES, MIX, MULTIPLIER, NAN, SEED, fingerprints

WORD = 2**64


def by_hand(row: list[float]) -> str:
    def step(chain: int, bits: int) -> int:
        chain = (chain ^ bits) * MULTIPLIER % WORD
        return chain ^ chain >> 32

    chains = [(SEED + lane) % WORD for lane in range(LANES)]
    for column, value in enumerate(row):
        whole = column < len(row) // LANES * LANES
        bits = NAN if value != value else struct.unpack("<Q", struct.pack("<d", value))[0]
        lane = column % LANES if whole else 0
        chains[lane] = step(chains[lane], bits)
    mixed = len(row)
    for chain in chains:
        mixed = step(mixed, chain)
    mixed = (mixed ^ mixed >> 30) * MIX[0] % WORD
    mixed = (mixed ^ mixed >> 27) * MIX[1] % WORD
    return f"{mixed ^ mixed >> 31:016x}"


rows = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.lists(st.floats(), min_size=width, max_size=width), min_size=1, max_size=9)
)


@given(rows)
@example([[1.7004052219443286e16] * 2])  # on its way a chain looks like NaN
def test_a_fingerprint_is_what_its_twin_says_whatever_the_batch(drawn: list[list[float]]) -> None:
    X = np.array(drawn, np.float64)
    assert fingerprints(X) == [by_hand(row) for row in drawn]
    assert fingerprints(X) == [one for row in X for one in fingerprints(row[None, :])]


@pytest.mark.parametrize("columns", [1, 4, 7, 110])
def test_each_bit_and_each_place_counts(columns: int) -> None:
    base: Float64 = np.arange(1.0, columns + 1)
    variants = [base, base[::-1].copy()] if columns > 1 else [base]
    for column in range(columns):
        for changed in (np.nextafter(base[column], np.inf), -base[column], 0.0, -0.0, np.nan, np.inf):
            variant = base.copy()
            variant[column] = changed
            variants.append(variant)
    found = fingerprints(np.stack(variants))
    assert len(set(found)) == len(found)
    assert {len(one) for one in found} == {16}


def test_every_nan_is_like_any_other() -> None:
    bits = np.array([[0x7FF8000000000000], [0xFFF8000000000000], [0x7FF0000000000001]], np.uint64)
    assert len(set(fingerprints(bits.view(np.float64)))) == 1


def test_no_rows_have_no_fingerprints() -> None:
    assert fingerprints(np.empty((0, 5))) == []
