"""Worlds with one busy card: Hypothesis draws a catalogue and a number, a seeded generator does the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from fraudstream.event import FIXED_POINT_MAX
from fraudstream.features.labels import KnownLabel
from tests.strategies import COMPLETE, START_MS, UNITS_MS, Drawn, Told, World, named, scenes, units

CAPS = st.sampled_from([200, 200, 150, 128, 100, 65, 64, 63, 30, 7, 1])  # about where rows get an index


@st.composite
def busy_worlds(draw: st.DrawFn) -> World:
    """Draw a catalogue, and by one number a stream in which one card has most of 60 to 400 rows."""
    unit = draw(units())
    catalog, state = draw(scenes(unit, CAPS, COMPLETE))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tip_missing = catalog.event.fields["tip"].default is None
    stream = busy_stream(random, int(random.integers(60, 400)), UNITS_MS[unit], tip_missing)
    labelled = any(feature.label for feature in catalog.features)
    told = busy_labels(random, stream, UNITS_MS[unit]) if labelled else []
    return World(catalog, state, stream, told, UNITS_MS[unit])


def busy_stream(random: np.random.Generator, rows: int, unit_ms: int, tip_missing: bool) -> list[Drawn]:
    """Return rows of a hot card and some others: ties, a few late by little or by far, amounts of any size."""
    span_ms = unit_ms * int(random.choice([3, 10, 20, 60]))
    times = START_MS + np.cumsum(random.exponential(span_ms / rows, rows)).astype(np.int64)
    times -= times % int(random.choice([1, unit_ms // 10, unit_ms]))
    late = random.random(rows) < random.choice([0, 0.02, 0.2])
    times = times - late * random.integers(0, 15 * unit_ms, rows)
    cards = np.where(random.random(rows) < random.uniform(0.5, 1), 0, random.integers(1, 9, rows))
    others = ["d2", "m1", None] if random.random() < 0.5 else [f"d{i}" for i in range(100)]
    usual = random.random((rows, 3)) < random.choice([0.2, 0.9])  # pairs with the hot card are busy, too
    amounts = np.minimum(random.pareto(random.choice([0.1, 1.0]), rows) * 100, FIXED_POINT_MAX).astype(
        np.int64
    )
    stream = []
    for i in range(rows):
        measures: dict[str, int | None] = {
            "amount": int(amounts[i]),
            "tip": None if tip_missing and random.random() < 0.3 else int(random.integers(-5, 5)) * 10_000,
            "items": int(random.integers(-3, 4)),
            "recurring": [None, 0, 1][random.integers(3)],
        }
        texts = {
            "card_id": f"c{cards[i]}" if cards[i] else "hot",
            "merchant_id": "m1" if usual[i, 0] else f"m{random.integers(3)}",
            "device_id": "d1" if usual[i, 1] else others[random.integers(len(others))],
            "channel": "online" if usual[i, 2] else [None, "pos", "online"][random.integers(3)],
        }
        stream.append(Drawn(int(times[i]), measures, texts))
    return named(stream)


def busy_labels(random: np.random.Generator, stream: Sequence[Drawn], unit_ms: int) -> list[Told]:
    """Return labels of some rows, known a while after them, some taken back; learned at a few positions."""
    positions = random.integers(0, len(stream), 6)
    told = []
    for at in random.integers(0, len(stream), len(stream) // 4).tolist():
        label = KnownLabel(
            transaction_id=stream[at].transaction_id,
            fraud=bool(random.random() < 0.8),
            known_at_ms=stream[at].time_ms + int(random.integers(0, 10 * unit_ms)),
        )
        told.append(Told(int(random.choice(positions)), label))
    return told
