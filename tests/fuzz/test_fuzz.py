"""A short run without guidance: good inputs, damaged in a few places. `make fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, target_and_seeds
from tests.worlds import TinyWorld

Edit = tuple[float, int, bytes]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b"[", b"{", b'"', b"\\u0000", b"1e999", b"-0", b"NaN", b"\xff", b"\n", b"9" * 30]
            ),
        ),
    ),
    max_size=4,
)


def damaged(seed: bytes, edits: list[Edit]) -> bytes:
    """Replace some bytes at each place."""
    for share, removed, put in edits:
        at = int(share * len(seed))
        seed = seed[:at] + put + seed[at + removed :]
    return seed


@pytest.mark.parametrize("name", TARGETS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_input_is_refused_or_taken_and_never_anything_else(
    tiny_world: TinyWorld, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    target, seeds = target_and_seeds(name, lambda: tiny_world.bundle, tmp_path)
    taken = target(damaged(data.draw(st.sampled_from(seeds)), data.draw(EDITS)), tmp_path)
    assert taken in (True, False)  # whatever else is raised, by it or by its own checks, is a defect


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_damaged_is_taken(tiny_world: TinyWorld, tmp_path: Path, name: str) -> None:
    target, seeds = target_and_seeds(name, lambda: tiny_world.bundle, tmp_path)
    taken = [target(seed, tmp_path) for seed in seeds]
    assert taken[0]
    assert name == "decode" or all(taken)
