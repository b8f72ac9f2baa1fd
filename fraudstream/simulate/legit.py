"""What honest customers do, the odd things included.

A model that flags every unusual purchase must be wrong often, as it would be at a bank: customers travel,
change phones, pay from a borrowed computer, go on a shopping spree, buy a sofa, and press "buy" five times
in a game.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fraudstream.simulate.config import DAY_MS, HOUR_MS, MINUTE_MS, WorldConfig
from fraudstream.simulate.rows import (
    NO_DEVICE,
    ONLINE,
    Flags,
    Floats,
    Ints,
    Rows,
    concatenate,
    running_sum,
    to_minor,
)
from fraudstream.simulate.world import CATEGORY, Customers, Generator, Town, pick

_WEEKDAY = np.array([0.92, 0.93, 0.95, 1.00, 1.16, 1.24, 0.80])  # Monday first
_PEAK = 3.0  # volume of the peak day
_EXPLORE = 0.14  # share of purchases at a merchant outside the favourites
_BORROWED_DEVICE = 0.004  # share of online purchases from a device never seen again
_SECOND_DEVICE = 0.12  # share of online purchases from the customer's other device
_BIG_PURCHASE = 0.012  # share of purchases far above the customer's habit
_PRICE_TAG = 0.3  # share of amounts that end in .99
_SPREE, _MORE_SHOPS = 0.008, 0.55  # share of walk-in purchases that start a spree; its geometric parameter
_IN_APP, _MORE_CLICKS = 0.08, 0.40  # share of digital purchases that start in-app buying; its parameter
_FOLLOWING = 1.036  # transactions in all for each one that follows no other: sprees and in-app buying
_FRESH = 0.25  # share of gift card and crypto purchases at the new merchants once they are open
_SPREE_CATEGORIES = np.array([CATEGORY[name] for name in ("clothing", "electronics", "home", "restaurant")])


def legitimate(town: Town, rng: Generator) -> Rows:
    """Return all legitimate transactions of the period, unsorted.

    Devices 2c and 2c + 1 are customer c's own; higher numbers were borrowed.
    """
    main = _usual(town, rng)
    rows = concatenate([main, _sprees(town, main, rng), _in_app(town, main, rng)])
    return rows.take(rows.time_ms < town.span_ms)


def day_volume(config: WorldConfig, rng: Generator) -> Floats:
    """Return each day's volume relative to a usual day, shape (days,)."""
    weekday = (config.start_ms // DAY_MS + 3 + np.arange(config.days)) % 7  # 1970-01-01 was a Thursday
    volume = _WEEKDAY[weekday] * rng.lognormal(0.0, 0.04, config.days)
    if config.peak_day is not None and config.peak_day < config.days:
        volume[config.peak_day] *= _PEAK
    return volume


def hours_of_day(customers: Customers, customer: Ints, habit_share: float, rng: Generator) -> Ints:
    """Return milliseconds since midnight, shape (n,): the customer's hour, or everyone's noon or evening."""
    count = len(customer)
    common = np.where(rng.random(count) < 0.45, rng.normal(12.3, 1.8, count), rng.normal(18.3, 2.0, count))
    own = customers.habit_hour[customer] + rng.normal(0.0, 3.0, count)
    hour = np.where(rng.random(count) < habit_share, own, common) % 24.0
    return np.minimum((hour * HOUR_MS).astype(np.int64), DAY_MS - 1)


def _usual(town: Town, rng: Generator) -> Rows:
    """Return the purchases that follow from no other."""
    volume = day_volume(town.config, rng)
    count = rng.poisson(town.customers.rate * volume.sum() / _FOLLOWING)
    customer = np.repeat(np.arange(len(count)), count)
    day = np.searchsorted(np.cumsum(volume / volume.sum()), rng.random(len(customer)))
    day = np.minimum(day, town.config.days - 1)
    time_ms = day * DAY_MS + hours_of_day(town.customers, customer, 0.6, rng)
    merchant = _merchants(town, customer, time_ms, rng)
    amount_minor = _amounts(town, customer, merchant, rng)
    channel = town.merchants.channel(merchant, amount_minor, rng)
    return Rows(
        customer=customer,
        merchant=merchant,
        time_ms=time_ms,
        amount_minor=amount_minor,
        channel=channel,
        device=_devices(town.customers, customer, time_ms, channel, rng),
        scenario=np.zeros(len(customer), dtype=np.int64),
    )


def _merchants(town: Town, customer: Ints, time_ms: Ints, rng: Generator) -> Ints:
    """Return where each purchase is made, shape (n,)."""
    customers, merchants = town.customers, town.merchants
    slot = pick(customers.favourite_weight, customer, rng)
    merchant = customers.favourite[customer, slot]
    place = customers.whereabouts(customer, time_ms)
    away = place != customers.home[customer]
    explores = np.flatnonzero(rng.random(len(customer)) < _EXPLORE)
    fancy = pick(customers.taste, customer[explores], rng)
    merchant[explores] = merchants.choose(place[explores], fancy, rng)
    abroad = np.flatnonzero(away & ~merchants.online[merchant])
    merchant[abroad] = merchants.choose(place[abroad], merchants.category[merchant[abroad]], rng)
    if town.config.new_pattern_day is not None:
        sold = (merchants.category == CATEGORY["gift_card"]) | (merchants.category == CATEGORY["crypto"])
        moves = (time_ms >= town.config.new_pattern_day * DAY_MS) & (rng.random(len(customer)) < _FRESH)
        moved = np.flatnonzero(moves & sold[merchant])
        merchant[moved] = rng.choice(merchants.fresh, len(moved))
    return merchant


def _amounts(town: Town, customer: Ints, merchant: Ints, rng: Generator) -> Ints:
    """Return cents, shape (n,): what is usual for merchant and customer; now and then far above."""
    count = len(customer)
    scale = town.merchants.price[merchant] * town.customers.spending[customer]
    big = np.flatnonzero(rng.random(count) < _BIG_PURCHASE)
    scale[big] *= rng.lognormal(np.log(4.0), 0.5, len(big))
    amount = town.sums(merchant, scale, rng.standard_normal(count))
    in_cash = town.merchants.category[merchant] == CATEGORY["cash"]
    priced = ~in_cash & (rng.random(count) < _PRICE_TAG)
    amount[priced] = np.floor(amount[priced]) + 0.99
    return to_minor(amount)


def _devices(customers: Customers, customer: Ints, time_ms: Ints, channel: Ints, rng: Generator) -> Ints:
    """Return the device of each online purchase, shape (n,), `NO_DEVICE` for the others."""
    device = np.full(len(customer), NO_DEVICE)
    online = np.flatnonzero(channel == ONLINE)
    owner = customer[online]
    newer = time_ms[online] >= customers.phone_from_ms[owner]
    other = rng.random(len(online)) < _SECOND_DEVICE
    device[online] = 2 * owner + (newer ^ (other & newer))
    borrowed = online[rng.random(len(online)) < _BORROWED_DEVICE]
    device[borrowed] = 2 * len(customers) + np.arange(len(borrowed))
    return device


def _sprees(town: Town, main: Rows, rng: Generator) -> Rows:
    """Return further walk-in purchases in the hour or two after some of the main ones."""
    daytime = (main.time_ms % DAY_MS >= 9 * HOUR_MS) & (main.time_ms % DAY_MS < 20 * HOUR_MS)
    leads = (main.channel != ONLINE) & daytime & (rng.random(len(main)) < _SPREE)
    rows = _followers(main, leads, _MORE_SHOPS, 20 * MINUTE_MS, rng)
    place = town.customers.whereabouts(rows.customer, rows.time_ms)
    merchant = town.merchants.choose(place, rng.choice(_SPREE_CATEGORIES, len(rows)), rng)
    shop = ~town.merchants.online[merchant]
    rows, merchant = rows.take(shop), merchant[shop]
    amount_minor = _amounts(town, rows.customer, merchant, rng)
    channel = town.merchants.channel(merchant, amount_minor, rng)
    return replace(rows, merchant=merchant, amount_minor=amount_minor, channel=channel)


def _in_app(town: Town, main: Rows, rng: Generator) -> Rows:
    """Return small purchases at the same merchant, from the same device, within minutes."""
    digital = (town.merchants.category[main.merchant] == CATEGORY["digital"]) & (main.channel == ONLINE)
    leads = digital & (rng.random(len(main)) < _IN_APP)
    rows = _followers(main, leads, _MORE_CLICKS, 3 * MINUTE_MS, rng)
    return replace(rows, amount_minor=to_minor(rng.lognormal(np.log(3.0), 0.7, len(rows))))


def _followers(main: Rows, leads: Flags, stop: float, gap_ms: int, rng: Generator) -> Rows:
    """Return copies of the leading rows, each later than the one before by `gap_ms` on average.

    A leader has 1 / `stop` followers on average.
    """
    leaders = np.flatnonzero(leads)
    leader = np.repeat(leaders, rng.geometric(stop, len(leaders)))
    delay = running_sum(rng.exponential(gap_ms, len(leader)), leader)
    rows = main.take(leader)
    return replace(rows, time_ms=rows.time_ms + delay.astype(np.int64))
