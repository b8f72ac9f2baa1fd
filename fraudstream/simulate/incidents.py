"""What the scenarios of fraud have in common: victims, hours, shops, devices.

An *incident* is one victim's misfortune. A scenario lays its incidents' rows end to end: `incident` gives
each row's incident, and what belongs to an incident is indexed by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fraudstream.simulate.config import DAY_MS
from fraudstream.simulate.legit import hours_of_day
from fraudstream.simulate.rows import NO_DEVICE, ONLINE, Flags, Floats, Ints, Rows, running_sum, to_minor
from fraudstream.simulate.world import CATEGORY, COUNTRY_OF_PLACE, WEB, Generator, Merchants, Town, weighted

STRANGE = 1 << 40  # thieves' devices are numbered from here on within a scenario
KNOWN_DEVICE = 0.05  # share of online incidents on the victim's own device (malware, family, phishing)
_RING_DEVICE = 0.35  # share of online incidents on a device that a ring uses on several victims
_RING_SIZE = 10  # consecutive incidents that share the ring's device, where they use it
_ANY_HOUR = 0.35  # share of incidents that begin without regard to when people shop


@dataclass(frozen=True)
class Scene:
    """What a thief finds.

    Attributes:
        town: Victims and merchants.
        legit: The legitimate transactions, from which thieves know who paid where.
    """

    town: Town
    legit: Rows

    @property
    def merchants(self) -> Merchants:
        """Where the money goes."""
        return self.town.merchants

    @property
    def days(self) -> int:
        """Length of the period in days."""
        return self.town.config.days

    @property
    def pace(self) -> float:
        """Factor on waiting times, so that slow scenarios fit into worlds shorter than a month."""
        return min(1.0, self.days / 30)


@dataclass(frozen=True)
class Abuse:
    """What thieves do, before devices and channels.

    Attributes:
        victim: Customer of each incident, shape (incidents,).
        incident: Incident of each row, shape (n,), as are the following.
        merchant: Merchant index.
        time_ms: Milliseconds since the start of the world.
        amount: Euros.
    """

    victim: Ints
    incident: Ints
    merchant: Ints
    time_ms: Ints
    amount: Floats


def victims(scene: Scene, incidents: int, rng: Generator) -> Ints:
    """Return one customer an incident: the busier the card, the likelier it is lost or leaked."""
    return weighted(rng, np.sqrt(scene.town.customers.rate), incidents)


def starts(scene: Scene, victim: Ints, rng: Generator, days_before_end: int = 0) -> Ints:
    """Return when each incident begins; the last `days_before_end` are left out, at the scene's pace."""
    day = rng.integers(0, max(1, scene.days - int(days_before_end * scene.pace)), len(victim))
    return day * DAY_MS + time_of_day(scene, victim, rng)


def time_of_day(scene: Scene, victim: Ints, rng: Generator) -> Ints:
    """Return milliseconds since midnight: mostly when people shop, often at any hour."""
    usual = hours_of_day(scene.town.customers, victim, 0.5, rng)
    any_hour = rng.integers(0, DAY_MS, len(victim))
    return np.where(rng.random(len(victim)) < _ANY_HOUR, any_hour, usual)


def spread(start: Ints, incident: Ints, gap_ms: Floats) -> Ints:
    """Return the times of rows that follow their incident's start, each `gap_ms` after the one before."""
    return start[incident] + running_sum(gap_ms, incident).astype(np.int64)


def shops(scene: Scene, place: Ints, names: tuple[str, ...], rng: Generator) -> Ints:
    """Return a walk-in merchant at each place."""
    return _choose(scene, place, names, lambda merchant: ~scene.merchants.online[merchant], rng)


def web_shops(
    scene: Scene, victim: Ints, names: tuple[str, ...], foreign_share: float, rng: Generator
) -> Ints:
    """Return an online merchant for each victim; for `foreign_share` of them one in another country."""
    home_place = scene.town.customers.home[victim]
    home = COUNTRY_OF_PLACE[home_place]
    foreign = rng.random(len(victim)) < foreign_share
    place = np.where(foreign, weighted(rng, WEB, len(victim)), home_place)

    def wanted(merchant: Ints) -> Flags:
        abroad = COUNTRY_OF_PLACE[scene.merchants.place[merchant]] != home
        return scene.merchants.online[merchant] & (abroad | ~foreign)

    return _choose(scene, place, names, wanted, rng)


def _choose(
    scene: Scene, place: Ints, names: tuple[str, ...], wanted: Callable[[Ints], Flags], rng: Generator
) -> Ints:
    """Return a merchant for each place, of one of the categories; a few tries at one that is wanted."""
    kinds = np.array([CATEGORY[name] for name in names])
    merchant = scene.merchants.choose(place, rng.choice(kinds, len(place)), rng)
    for _ in range(6):
        again = np.flatnonzero(~wanted(merchant))
        merchant[again] = scene.merchants.choose(place[again], rng.choice(kinds, len(again)), rng)
    return merchant


def priced(scene: Scene, merchant: Ints, factor: float, rng: Generator) -> Floats:
    """Return euros: `factor` times what is usual at each merchant's category, with less spread."""
    noise = 0.85 * rng.standard_normal(len(merchant))
    return scene.town.sums(merchant, np.full(len(merchant), factor), noise)


def online(scene: Scene, abuse: Abuse, rng: Generator, known_device: float = KNOWN_DEVICE) -> Rows:
    """Return rows paid online: one device an incident, mostly unknown to the card, sometimes a ring's.

    `known_device` is the share of incidents on the victim's own device.
    """
    victim, incident = abuse.victim, abuse.incident
    count = len(victim)
    number = np.arange(count)
    in_ring = rng.random(count) < _RING_DEVICE
    stranger = STRANGE + np.where(in_ring, number // _RING_SIZE, count + number)
    first_ms = np.full(count, scene.town.span_ms)
    np.minimum.at(first_ms, incident, abuse.time_ms)
    own = 2 * victim + (first_ms >= scene.town.customers.phone_from_ms[victim])
    device = np.where(rng.random(count) < known_device, own, stranger)
    return Rows(
        customer=victim[incident],
        merchant=abuse.merchant,
        time_ms=abuse.time_ms,
        amount_minor=to_minor(abuse.amount),
        channel=np.full(len(incident), ONLINE),
        device=device[incident],
        scenario=np.zeros(len(incident), dtype=np.int64),
    )


def at_counter(scene: Scene, rows: Rows, rng: Generator) -> Rows:
    """Return the rows with those at walk-in merchants paid there, without a device."""
    channel = scene.merchants.channel(rows.merchant, rows.amount_minor, rng)
    return replace(rows, channel=channel, device=np.where(channel == ONLINE, rows.device, NO_DEVICE))
