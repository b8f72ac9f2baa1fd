"""From a `WorldConfig` to three tables: the transactions, the labels, the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fraudstream.simulate.config import WorldConfig
from fraudstream.simulate.fraud import SCENARIOS, fraudulent
from fraudstream.simulate.incidents import Scene
from fraudstream.simulate.labels import SOURCES, Labels, report
from fraudstream.simulate.legit import legitimate
from fraudstream.simulate.rows import CHANNELS, NO_DEVICE, Ints, Rows, concatenate
from fraudstream.simulate.world import CATEGORIES, PLACES, Generator, Town, draw_town

CURRENCY = "EUR"


@dataclass(frozen=True)
class World:
    """A simulated period.

    Attributes:
        transactions: One row a card payment, sorted by event_time, then transaction_id. Columns:
            transaction_id, event_time (int64, Unix ms), card_id, merchant_id, amount (float64, euros with
            two decimals), currency, merchant_category, merchant_country, merchant_city, channel,
            device_id (null unless online), card_country.
        labels: What the bank comes to know, sorted by known_at, those after the end of the period included:
            transaction_id, label ('fraud' or 'legit'), known_at (int64, Unix ms), source. A later label
            reverses an earlier one. A consumer cuts it as of its own time.
        truth: One row a transaction, in their order: transaction_id, is_fraud (bool), scenario ('legit' or
            one of `SCENARIOS`).
    """

    transactions: pa.Table
    labels: pa.Table
    truth: pa.Table


def simulate(config: WorldConfig) -> World:
    """Return the world of `config`; the same config gives the same tables.

    Cost: about 1.5 s and 0.3 GB a million transactions on one core.
    """
    town_seed, fraud_seed, *seeds = np.random.SeedSequence(config.seed).spawn(5)
    legit_rng, label_rng, device_rng = (np.random.default_rng(seed) for seed in seeds)
    town = draw_town(config, town_seed)
    legit = legitimate(town, legit_rng)
    fraud = fraudulent(Scene(town, legit), fraud_seed)
    rows = concatenate([legit, fraud])
    rows = rows.take(np.argsort(rows.time_ms, kind="stable"))
    ids = pa.array([f"tx_{number:09d}" for number in range(len(rows))])
    labels = report(rows.time_ms, rows.scenario > 0, label_rng)
    return World(
        transactions=_transactions(town, ids, rows, device_rng),
        labels=_labels(config, ids, labels),
        truth=pa.table(
            {
                "transaction_id": ids,
                "is_fraud": pa.array(rows.scenario > 0),
                "scenario": _named(("legit", *SCENARIOS), rows.scenario),
            }
        ),
    )


def _transactions(town: Town, ids: pa.Array, rows: Rows, rng: Generator) -> pa.Table:
    """Return the table of transactions; `ids` and `rows` are in its order."""
    config, merchants = town.config, town.merchants
    place = merchants.place[rows.merchant]
    cards = [f"card_{number:06d}" for number in range(config.customers)]
    shops = [f"merchant_{number:05d}" for number in range(config.merchants)]
    categories = [category.name for category in CATEGORIES]
    countries = [where.country for where in PLACES]
    return pa.table(
        {
            "transaction_id": ids,
            "event_time": pa.array(rows.time_ms + config.start_ms),
            "card_id": _named(cards, rows.customer),
            "merchant_id": _named(shops, rows.merchant),
            "amount": pa.array(rows.amount_minor / 100.0),
            "currency": _named((CURRENCY,), np.zeros(len(rows), dtype=np.int64)),
            "merchant_category": _named(categories, merchants.category[rows.merchant]),
            "merchant_country": _named(countries, place),
            "merchant_city": _named([where.city for where in PLACES], place),
            "channel": _named(CHANNELS, rows.channel),
            "device_id": _devices(rows.device, rng),
            "card_country": _named(countries, town.customers.home[rows.customer]),
        }
    )


def _labels(config: WorldConfig, ids: pa.Array, labels: Labels) -> pa.Table:
    """Return the table of labels."""
    return pa.table(
        {
            "transaction_id": ids.take(pa.array(labels.row)),
            "label": _named(("legit", "fraud"), labels.is_fraud.astype(np.int64)),
            "known_at": pa.array(labels.known_at_ms + config.start_ms),
            "source": _named(SOURCES, labels.source),
        }
    )


def _named(names: list[str] | tuple[str, ...], index: Ints) -> pa.Array:
    """Return a string column: the name at each index."""
    return pa.array(names, pa.string()).take(pa.array(index))


def _devices(device: Ints, rng: Generator) -> pa.Array:
    """Return the device tokens, null where there is none; shuffled, so that no number tells whose it is."""
    count = int(device.max(initial=-1)) + 1
    token = rng.permutation(count)
    tokens = pa.array([f"device_{number:08d}" for number in token], pa.string())
    return tokens.take(pa.array(device, mask=device == NO_DEVICE))
