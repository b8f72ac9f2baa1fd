"""A seeded stream of card payments, made vectorised and a chunk at a time: it must not outweigh what it feeds.

Conventions: entities are numbered from 0; their ids are texts of a fixed length, as a bank's are. Event times
rise strictly, so that "earlier in the log" and "earlier in time" are the same and any baseline can say it.

Who pays: cards follow a power law with a flat head. Of a million rows of 50,000 cards over 60 days the busiest
card has 6,500, the hundredth 670, the median 8. Where: merchants by Zipf's law. With what: a card has a device
of its own, but every eighth payment comes from one that many cards share, and cash needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fraudstream.batch import TransactionBatch

Ints = npt.NDArray[np.int64]

START_MS = 1_735_689_600_000  # 2025-01-01
DAY_MS = 86_400_000
BATCH_ROWS = 1_024
CHUNK_ROWS = 1 << 16

CARD_EXPONENT, CARD_FLAT = 0.8, 5
MERCHANT_EXPONENT = 1.0
SHARED_DEVICES_A_CARD = 1 / 64
FROM_SHARED_DEVICE = 1 / 8
CHANNELS = np.array(["pos", "contactless", "online", "atm"], object)
CHANNEL_SHARES = (0.3, 0.3, 0.35, 0.05)
ATM = 3
COUNTRIES = np.array([f"{a}{b}" for a in "ABDEFGHIL" for b in "ABDEFGHIL"][:60], object)
CATEGORIES = np.array([f"category_{i:02}" for i in range(40)], object)
CARD_ID, MERCHANT_ID, DEVICE_ID, ROW_ID = 4_000_000_000_000_000, 50_000_000, 700_000_000_000, 10_000_000_000


@dataclass(frozen=True, slots=True)
class World:
    """Who can pay where.

    Attributes:
        cards: how many there are.
        merchants: how many there are.
        even: every card equally often: rows find nothing in the caches that the row before left there.
        seed: of everything random.
    """

    cards: int
    merchants: int
    even: bool = False
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Rows:
    """Transactions as numbers, each column [n]; see `batches` for their texts."""

    time_ms: Ints
    card: Ints
    merchant: Ints
    device: Ints  # -1: none
    amount: Ints  # minor units
    channel: Ints


def rows_between(world: World, n: int, start_ms: int, stop_ms: int, stream: int = 0) -> Rows:
    """Return n rows of random cards with times in [start_ms, stop_ms); another `stream` gives others."""
    random = np.random.default_rng([world.seed, stream])
    drawn = random.integers(0, world.cards, n) if world.even else _power_law(random, world.cards, n)
    return _rows(world, random, drawn, start_ms, stop_ms)


def rounds(world: World, rows_a_card: int, start_ms: int, stop_ms: int) -> Iterator[Rows]:
    """Yield exactly `rows_a_card` rows of every card, in time order, in chunks."""
    width_ms = (stop_ms - start_ms) // rows_a_card
    for number in range(rows_a_card):
        random = np.random.default_rng([world.seed, 1_000 + number])
        order = random.permutation(world.cards).astype(np.int64)
        begin_ms = start_ms + number * width_ms
        cuts = [*range(0, world.cards, CHUNK_ROWS), world.cards]
        for low, high in pairwise(cuts):
            times = (begin_ms + width_ms * cut // world.cards for cut in (low, high))
            yield _rows(world, random, order[low:high], *times)


def batches(rows: Rows, first_offset: int = 0, batch_rows: int = BATCH_ROWS) -> Iterator[TransactionBatch]:
    """Yield the rows as the decoder gives them: ids and categories are lists of str."""
    for low in range(0, len(rows.card), batch_rows):
        yield _batch(rows, low, min(low + batch_rows, len(rows.card)), first_offset)


def _power_law(random: np.random.Generator, entities: int, n: int) -> Ints:
    weights = np.cumsum((np.arange(entities) + 1.0 + CARD_FLAT) ** -CARD_EXPONENT)
    rank = np.searchsorted(weights, random.random(n) * weights[-1])
    return random.permutation(entities)[rank]


def _zipf(random: np.random.Generator, entities: int, n: int) -> Ints:
    """Draw ranks with P(rank) nearly proportional to 1 / (1 + rank), without a table of all of them."""
    drawn = np.exp(random.random(n) * np.log(entities + 1.0)) - 1.0
    return np.minimum(drawn.astype(np.int64), entities - 1)


def _rows(world: World, random: np.random.Generator, card: Ints, start_ms: int, stop_ms: int) -> Rows:
    n = len(card)
    gaps = random.exponential(1.0, n + 1).cumsum()
    times = (start_ms + (stop_ms - start_ms - n) * gaps[:-1] / gaps[-1]).astype(np.int64) + np.arange(n)
    channel = np.searchsorted(np.cumsum(CHANNEL_SHARES[:-1]), random.random(n), side="right")
    shared = world.cards + random.integers(0, max(1, int(world.cards * SHARED_DEVICES_A_CARD)), n)
    device = np.where(random.random(n) < FROM_SHARED_DEVICE, shared, card)
    return Rows(
        time_ms=times,
        card=card,
        merchant=_zipf(random, world.merchants, n),
        device=np.where(channel == ATM, -1, device),
        amount=np.rint(np.exp(random.normal(3.3, 1.1, n)) * 100).astype(np.int64) + 1,
        channel=channel,
    )


def _batch(rows: Rows, low: int, high: int, first_offset: int) -> TransactionBatch:
    card, merchant, device = rows.card[low:high], rows.merchant[low:high], rows.device[low:high]
    offset = np.arange(first_offset + low, first_offset + high)
    devices: list[str | None] = _texts(device, DEVICE_ID)
    for row in np.flatnonzero(device < 0).tolist():
        devices[row] = None
    return TransactionBatch(
        ids=[str(number) for number in (offset + ROW_ID).tolist()],
        time_ms=rows.time_ms[low:high],
        measures={"amount": rows.amount[low:high]},
        texts={
            "card_id": _texts(card, CARD_ID),
            "merchant_id": _texts(merchant, MERCHANT_ID),
            "device_id": devices,
            "merchant_category": CATEGORIES[merchant % len(CATEGORIES)].tolist(),
            "merchant_country": COUNTRIES[_country_of(merchant)].tolist(),
            "card_country": COUNTRIES[_country_of(card)].tolist(),
            "channel": CHANNELS[rows.channel[low:high]].tolist(),
        },
        partition=np.zeros(high - low, np.int64),
        offset=offset,
        source_row=np.arange(high - low),
    )


def _texts(number: Ints, base: int) -> list[str | None]:
    return [str(value) for value in (number + base).tolist()]


def _country_of(number: Ints) -> Ints:
    """Return a country for each: four in five are at home, the others spread."""
    spread = number * 2_654_435_761 % 2**32
    return np.where(spread % 5 > 0, 0, spread // 5 % len(COUNTRIES))
