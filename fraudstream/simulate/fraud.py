"""Six ways to steal, one function each.

On raw fields the scenarios overlap what honest customers do; what gives them away is that they are unlike
this card: its pace, its amounts, its devices, its places. Each draws from a generator of its own, so that
one can change without moving the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fraudstream.simulate.config import DAY_MS, HOUR_MS, MINUTE_MS
from fraudstream.simulate.incidents import (
    STRANGE,
    Abuse,
    Scene,
    at_counter,
    online,
    priced,
    shops,
    spread,
    starts,
    time_of_day,
    victims,
    web_shops,
)
from fraudstream.simulate.rows import Ints, Rows, concatenate, expand
from fraudstream.simulate.world import PLACES, Generator

# Each scenario's share of the fraudulent transactions; where there is no new pattern, the others take its.
SHARES = {
    "card_testing": 0.20,
    "stolen_card_burst": 0.22,
    "compromised_merchant": 0.18,
    "account_takeover": 0.16,
    "gradual_escalation": 0.10,
    "new_pattern": 0.14,
}
SCENARIOS = tuple(SHARES)
_CARDS_A_LEAK = 8  # cards abused after each leak at a merchant, where as many paid there
_LEAK_DAYS = 6.0  # how long a merchant leaks


def card_testing(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Try cards with many tiny online amounts at one merchant in minutes, then use them for a few larger."""
    tiny, large = rng.integers(4, 12, incidents), rng.integers(1, 4, incidents)
    incident, position = expand(tiny + large)
    cashes_in = position >= tiny[incident]
    victim = victims(scene, incidents, rng)
    gap_ms = rng.exponential(np.where(cashes_in, 15.0, 1.2) * MINUTE_MS)
    gap_ms[position == tiny[incident]] += 10 * MINUTE_MS
    tested = web_shops(scene, victim, ("digital", "digital", "online_retail"), 0.4, rng)
    targets = ("electronics", "online_retail", "travel", "digital", "gift_card")
    shop = web_shops(scene, victim[incident], targets, 0.4, rng)
    median, sigma = np.where(cashes_in, 85.0, 2.6), np.where(cashes_in, 0.80, 0.75)
    abuse = Abuse(
        victim=victim,
        incident=incident,
        merchant=np.where(cashes_in, shop, tested[incident]),
        time_ms=spread(starts(scene, victim, rng), incident, gap_ms),
        amount=rng.lognormal(np.log(median), sigma),
    )
    return online(scene, abuse, rng, known_device=0.0)


def stolen_card_burst(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Spend a lost or stolen card in shops within an hour or two, often in the victim's own city."""
    incident, _ = expand(rng.integers(4, 11, incidents))
    victim = victims(scene, incidents, rng)
    anywhere = rng.integers(0, len(PLACES), incidents)
    place = np.where(rng.random(incidents) < 0.45, anywhere, scene.town.customers.home[victim])
    names = ("electronics", "clothing", "clothing", "grocery", "grocery", "fuel", "home", "cash", "pharmacy")
    merchant = shops(scene, place[incident], names, rng)
    day = rng.integers(0, scene.days, incidents)
    start = day * DAY_MS + (rng.uniform(8.0, 21.5, incidents) * HOUR_MS).astype(np.int64)
    abuse = Abuse(
        victim=victim,
        incident=incident,
        merchant=merchant,
        time_ms=spread(start, incident, rng.exponential(9 * MINUTE_MS, len(incident))),
        amount=priced(scene, merchant, 2.2, rng),
    )
    return at_counter(scene, online(scene, abuse, rng), rng)


def compromised_merchant(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Abuse cards that paid at one merchant within some days, days later, mostly online elsewhere."""
    victim, site, start = _leaked(scene, max(1, incidents // _CARDS_A_LEAK), rng)
    incident, _ = expand(rng.integers(2, 6, len(victim)))
    names = ("electronics", "online_retail", "travel", "digital", "clothing", "gambling")
    elsewhere = web_shops(scene, victim[incident], names, 0.8, rng)
    merchant = np.where(rng.random(len(victim))[incident] < 0.1, site[incident], elsewhere)
    abuse = Abuse(
        victim=victim,
        incident=incident,
        merchant=merchant,
        time_ms=spread(start, incident, rng.exponential(20 * MINUTE_MS, len(incident))),
        amount=priced(scene, merchant, 1.5, rng),
    )
    return at_counter(scene, online(scene, abuse, rng), rng)


def account_takeover(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Take an account over: a stranger's device, merchants in other countries, high amounts, within hours."""
    incident, _ = expand(rng.integers(3, 8, incidents))
    victim = victims(scene, incidents, rng)
    names = ("electronics", "online_retail", "travel", "clothing", "gift_card", "crypto", "gambling")
    gap_ms = rng.exponential(40 * MINUTE_MS, len(incident))
    abuse = Abuse(
        victim=victim,
        incident=incident,
        merchant=web_shops(scene, victim[incident], names, 0.95, rng),
        time_ms=spread(starts(scene, victim, rng), incident, gap_ms),
        amount=rng.lognormal(np.log(150.0), 0.75, len(incident)),
    )
    return online(scene, abuse, rng)


def gradual_escalation(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Buy a few hours apart over days, each time for more, at the same two merchants."""
    incident, position = expand(rng.integers(5, 11, incidents))
    victim = victims(scene, incidents, rng)
    names = ("online_retail", "travel", "gambling", "electronics")
    sites = np.stack([web_shops(scene, victim, names, 0.5, rng) for _ in range(2)], axis=1)
    growth = rng.uniform(1.35, 1.7, incidents)
    first = rng.lognormal(np.log(22.0), 0.5, incidents)
    gap_ms = (rng.exponential(4.8 * HOUR_MS, len(incident)) + HOUR_MS) * scene.pace
    abuse = Abuse(
        victim=victim,
        incident=incident,
        merchant=sites[incident, rng.integers(0, 2, len(incident))],
        time_ms=spread(starts(scene, victim, rng, days_before_end=6), incident, gap_ms),
        amount=first[incident] * growth[incident] ** position * rng.lognormal(0.0, 0.2, len(incident)),
    )
    return online(scene, abuse, rng)


def new_pattern(scene: Scene, incidents: int, rng: Generator) -> Rows:
    """Buy by night, one to three times for a middling sum, at newly opened sites, from `new_pattern_day` on.

    The sites sell gift cards and crypto, the cards are many, the device is mostly the victim's own.
    """
    begin = scene.town.config.new_pattern_day or 0
    incident, _ = expand(rng.integers(1, 4, incidents))
    night = rng.integers(begin, scene.days, incidents) * DAY_MS
    start = night + (rng.uniform(21.0, 29.0, incidents) * HOUR_MS).astype(np.int64)
    abuse = Abuse(
        victim=victims(scene, incidents, rng),
        incident=incident,
        merchant=rng.choice(scene.merchants.fresh, incidents)[incident],
        time_ms=spread(start, incident, rng.exponential(12 * MINUTE_MS, len(incident))),
        amount=rng.lognormal(np.log(75.0), 0.5, len(incident)),
    )
    return online(scene, abuse, rng, known_device=0.8)


# Each scenario, and how many rows an incident has on average.
_STEAL: dict[str, tuple[Callable[[Scene, int, Generator], Rows], float]] = {
    "card_testing": (card_testing, 9.5),
    "stolen_card_burst": (stolen_card_burst, 7.0),
    "compromised_merchant": (compromised_merchant, 3.5),
    "account_takeover": (account_takeover, 5.0),
    "gradual_escalation": (gradual_escalation, 7.5),
    "new_pattern": (new_pattern, 2.0),
}


def fraudulent(scene: Scene, seed: np.random.SeedSequence) -> Rows:
    """Return the fraudulent transactions of the period, unsorted; each scenario has at least one.

    Device numbers go on where the legitimate ones end. Without legitimate transactions, or at a fraud rate
    of 0, there are none.
    """
    config = scene.town.config
    target = len(scene.legit) * config.fraud_rate / (1.0 - config.fraud_rate)
    never = config.new_pattern_day is None or config.new_pattern_day >= config.days
    shares = {name: share for name, share in SHARES.items() if not (never and name == "new_pattern")}
    device = max(2 * config.customers, int(scene.legit.device.max(initial=0)) + 1)
    parts = [scene.legit.take(np.zeros(0, dtype=np.int64))]
    for child, name in zip(seed.spawn(len(SCENARIOS)), SCENARIOS, strict=True):
        if name not in shares or not target:
            continue
        wanted = max(1, round(target * shares[name] / sum(shares.values())))
        rows = _steal(scene, name, wanted, np.random.default_rng(child))
        moved = np.where(rows.device >= STRANGE, rows.device - STRANGE + device, rows.device)
        device = max(device, int(moved.max(initial=0)) + 1)
        parts.append(replace(rows, device=moved))
    return concatenate(parts)


def _steal(scene: Scene, name: str, wanted: int, rng: Generator) -> Rows:
    """Return `wanted` rows of one scenario inside the period; fewer where a small world has not as many."""
    scenario, rows_an_incident = _STEAL[name]
    incidents = math.ceil(1.3 * wanted / rows_an_incident) + 12  # some rows fall after the end
    rows = scenario(scene, incidents, rng)
    rows = rows.take(rows.time_ms < scene.town.span_ms)
    rows = rows.take(np.arange(min(wanted, len(rows))))
    return replace(rows, scenario=np.full(len(rows), SCENARIOS.index(name) + 1))


def _leaked(scene: Scene, leaks: int, rng: Generator) -> tuple[Ints, Ints, Ints]:
    """Return cards that leaked, the merchant at which each did, and when its abuse begins; shape (cards,).

    A leak is found by drawing a legitimate transaction, so that a busy merchant is likelier.
    """
    legit, span_ms = scene.legit, scene.town.span_ms
    day_ms = scene.pace * DAY_MS
    early = np.flatnonzero(legit.time_ms < span_ms - 3.0 * day_ms)  # so that most is abused in time
    drawn = rng.choice(early if len(early) else np.arange(len(legit)), leaks)
    order = np.argsort(legit.merchant, kind="stable")
    merchants = legit.merchant[order]
    cards, sites, times = [], [], []
    for site, leak_ms in zip(legit.merchant[drawn], legit.time_ms[drawn], strict=True):
        first, last = np.searchsorted(merchants, [site, site + 1])
        paid = order[first:last]
        when = legit.time_ms[paid]
        near = paid[(when > leak_ms - _LEAK_DAYS * day_ms) & (when <= leak_ms)]
        leaked = rng.permutation(np.unique(legit.customer[near]))[:_CARDS_A_LEAK]
        cards.append(leaked)
        sites.append(np.full(len(leaked), site))
        times.append(leak_ms + rng.uniform(1.0, 9.0, len(leaked)) * day_ms)
    card, earliest = np.concatenate(cards), np.concatenate(times).astype(np.int64)
    wait_ms = (time_of_day(scene, card, rng) - earliest) % DAY_MS  # until the hour of day it will be
    start = np.where(earliest + wait_ms < span_ms, earliest + wait_ms, earliest)
    return card, np.concatenate(sites), start
