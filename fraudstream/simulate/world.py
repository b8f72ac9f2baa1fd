"""The people and the places: who holds a card, where, with which habits, and who sells what to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraudstream.simulate.config import DAY_MS, WorldConfig
from fraudstream.simulate.rows import ATM, CONTACTLESS, ONLINE, POS, Flags, Floats, Ints

Generator = np.random.Generator


@dataclass(frozen=True)
class Category:
    """What a merchant sells.

    Attributes:
        name: The merchant_category of its transactions.
        share: Weight of the category in an average customer's spending, by count.
        median: Median amount in euros for an average customer and merchant.
        sigma: Standard deviation of the amount's logarithm.
        online: Share of its merchants that sell online.
    """

    name: str
    share: float
    median: float
    sigma: float
    online: float


CATEGORIES = (
    Category("grocery", 0.240, 28.0, 0.70, 0.0),
    Category("fuel", 0.070, 52.0, 0.40, 0.0),
    Category("restaurant", 0.140, 24.0, 0.65, 0.0),
    Category("pharmacy", 0.050, 16.0, 0.60, 0.0),
    Category("entertainment", 0.050, 22.0, 0.70, 0.0),
    Category("home", 0.040, 50.0, 0.85, 0.0),
    Category("cash", 0.050, 80.0, 0.60, 0.0),
    Category("clothing", 0.065, 45.0, 0.75, 0.4),
    Category("electronics", 0.035, 95.0, 1.00, 0.5),
    Category("travel", 0.030, 130.0, 0.95, 1.0),
    Category("online_retail", 0.135, 38.0, 0.90, 1.0),
    Category("digital", 0.065, 7.0, 0.85, 1.0),
    Category("gambling", 0.012, 28.0, 0.90, 1.0),
    Category("gift_card", 0.012, 45.0, 0.60, 1.0),
    Category("crypto", 0.006, 90.0, 0.90, 1.0),
)
CATEGORY = {category.name: index for index, category in enumerate(CATEGORIES)}
MEDIAN = np.array([category.median for category in CATEGORIES])
SIGMA = np.array([category.sigma for category in CATEGORIES])
_SHARE = np.array([category.share for category in CATEGORIES])


@dataclass(frozen=True)
class Place:
    """A city; weights are relative.

    Attributes:
        country: ISO 3166 two letters.
        city: Its name.
        home: Weight as a customer's home.
        visit: Weight as the destination of a trip.
        web: Weight as the seat of an online merchant.
    """

    country: str
    city: str
    home: float
    visit: float
    web: float


PLACES = (
    Place("DE", "Berlin", 20, 3, 14),
    Place("DE", "Hamburg", 12, 1, 8),
    Place("DE", "Cologne", 10, 1, 6),
    Place("FR", "Paris", 14, 6, 9),
    Place("FR", "Lyon", 8, 1, 4),
    Place("NL", "Amsterdam", 9, 4, 7),
    Place("NL", "Utrecht", 6, 0, 3),
    Place("ES", "Madrid", 10, 3, 6),
    Place("ES", "Valencia", 6, 3, 2),
    Place("IT", "Rome", 0, 6, 1),
    Place("AT", "Vienna", 0, 6, 2),
    Place("GB", "London", 0, 5, 7),
    Place("US", "New York", 0, 3, 8),
    Place("TR", "Antalya", 0, 3, 1),
    Place("IE", "Dublin", 0, 1, 6),
    Place("LU", "Luxembourg", 0, 0, 5),
    Place("CN", "Shenzhen", 0, 0, 4),
    Place("CY", "Limassol", 0, 1, 2),
)
_COUNTRIES = tuple(dict.fromkeys(place.country for place in PLACES))
COUNTRY_OF_PLACE = np.array([_COUNTRIES.index(place.country) for place in PLACES])
HOME = np.array([float(place.home) for place in PLACES])
VISIT = np.array([float(place.visit) for place in PLACES])
WEB = np.array([float(place.web) for place in PLACES])
_DOMESTIC = 6  # an online merchant draws so many times more customers from its own country
_WALK_IN_ABROAD = 0.15  # share of walk-in merchants that stand where customers only travel
_POPULARITY_SKEW = 1.6  # a uniform u picks the merchant at u**skew of its list, the most popular first


def weighted(rng: Generator, weights: Floats, size: int) -> Ints:
    """Return `size` indices drawn in proportion to the weights."""
    return rng.choice(len(weights), size=size, p=weights / weights.sum())


@dataclass(frozen=True)
class Merchants:
    """All merchants, those of the new pattern last; arrays of shape (merchants,).

    Attributes:
        place: Index into `PLACES`.
        category: Index into `CATEGORIES`.
        online: Whether it sells online.
        price: Factor on its category's amounts.
        fresh: Indices of the merchants that open with the new pattern; `choose` never returns them.
        cell_first: First position in `cell_merchants` of each cell, a (place, category) pair.
        cell_size: Number of merchants in each cell, at least 1.
        cell_merchants: Merchant indices, cell after cell, the most popular first.
    """

    place: Ints
    category: Ints
    online: Flags
    price: Floats
    fresh: Ints
    cell_first: Ints
    cell_size: Ints
    cell_merchants: Ints

    def choose(self, place: Ints, category: Ints, rng: Generator) -> Ints:
        """Return a merchant where somebody at each place would buy from each category, shape (n,).

        Walk-in merchants are of the place, or its country; online ones may be anywhere. Where a small
        world has no such merchant, it is one of another category at the place.
        """
        cell = place * len(CATEGORIES) + category
        rank = rng.random(len(cell)) ** _POPULARITY_SKEW * self.cell_size[cell]
        return self.cell_merchants[self.cell_first[cell] + rank.astype(np.int64)]

    def channel(self, merchant: Ints, amount_minor: Ints, rng: Generator) -> Ints:
        """Return the channel of a purchase of each amount, cents, at each merchant, shape (n,)."""
        tapped = rng.random(len(merchant)) < np.where(amount_minor <= 5_000, 0.80, 0.25)
        channel = np.where(tapped, CONTACTLESS, POS)
        channel[self.online[merchant]] = ONLINE
        channel[self.category[merchant] == CATEGORY["cash"]] = ATM
        return channel


def draw_merchants(config: WorldConfig, rng: Generator) -> Merchants:
    """Return the merchants of the world, spread over places and categories as evenly as they go."""
    fresh_count = max(3, config.merchants // 60)
    usual_count = config.merchants - fresh_count
    walk_in = HOME / HOME.sum() + _WALK_IN_ABROAD * VISIT * (HOME == 0) / VISIT[HOME == 0].sum()
    share = np.sqrt(_SHARE)  # rare categories have fewer customers a merchant, not no merchants
    kinds = np.array([category.online for category in CATEGORIES])
    walk_in_weight = np.outer(walk_in / walk_in.sum(), share * (1 - kinds))
    web_weight = np.outer(WEB / WEB.sum(), share * kinds)
    weight = np.stack([walk_in_weight, web_weight]).ravel()
    steps = (np.arange(usual_count) + 0.5) / usual_count * weight.sum()
    usual = np.searchsorted(np.cumsum(weight), steps)
    online, place, category = np.unravel_index(usual, (2, len(PLACES), len(CATEGORIES)))
    fresh_category = np.where(np.arange(fresh_count) % 2, CATEGORY["crypto"], CATEGORY["gift_card"])
    place = np.concatenate([place, weighted(rng, WEB, fresh_count)])
    category = np.concatenate([category, fresh_category])
    online = np.concatenate([online, np.ones(fresh_count, dtype=np.int64)]).astype(np.bool_)
    popularity = rng.permutation(usual_count)  # its rank, 0 is the most popular
    cells = _cells(place[:usual_count], category[:usual_count], online[:usual_count], popularity)
    size = np.array([len(cell) for cell in cells])
    return Merchants(
        place=place.astype(np.int64),
        category=category.astype(np.int64),
        online=online,
        price=rng.lognormal(0.0, 0.25, config.merchants),
        fresh=np.arange(usual_count, config.merchants),
        cell_first=np.cumsum(size) - size,
        cell_size=size,
        cell_merchants=np.concatenate(cells),
    )


def _cells(place: Ints, category: Ints, online: Flags, popularity: Ints) -> list[Ints]:
    """Return the merchants of each (place, category), the most popular first."""
    cells = []
    for where in range(len(PLACES)):
        here, domestic = place == where, COUNTRY_OF_PLACE[place] == COUNTRY_OF_PLACE[where]
        for what in range(len(CATEGORIES)):
            found = _cell(category == what, here, domestic, online)
            cells.append(found[np.argsort(popularity[found], kind="stable")])
    return cells


def _cell(sells: Flags, here: Flags, domestic: Flags, online: Flags) -> Ints:
    """Return the merchants of one cell, at least one; online ones of the country count `_DOMESTIC` times."""
    walk_in = sells & here & ~online
    if not walk_in.any():
        walk_in = sells & domestic & ~online
    found = np.concatenate([np.flatnonzero(walk_in), np.flatnonzero(sells & online)])
    found = np.concatenate([found, np.repeat(np.flatnonzero(sells & online & domestic), _DOMESTIC - 1)])
    if not len(found):
        otherwise = (here & ~online, domestic & ~online, here | domestic, np.ones_like(online))
        found = np.flatnonzero(next(mask for mask in otherwise if mask.any()))
    return found


FAVOURITES = 12  # merchants that a customer returns to


@dataclass(frozen=True)
class Customers:
    """All customers; arrays of shape (customers,) unless said otherwise.

    Attributes:
        home: Index into `PLACES`.
        spending: Factor on the amounts a customer pays.
        rate: Legitimate transactions on a usual day.
        habit_hour: Hour of day around which the customer pays, 0-24.
        taste: Cumulative weight of each category, shape (customers, categories).
        favourite: Merchant indices, shape (customers, FAVOURITES).
        favourite_weight: Cumulative weight of each favourite, shape (customers, FAVOURITES).
        phone_from_ms: When the customer's second device replaces the first, since the start of the world.
        trip_first_ms: Start of each trip abroad, shape (customers, 2); beyond the end where there is none.
        trip_last_ms: End of each trip, same shape.
        trip_place: Destination, same shape.
    """

    home: Ints
    spending: Floats
    rate: Floats
    habit_hour: Floats
    taste: Floats
    favourite: Ints
    favourite_weight: Floats
    phone_from_ms: Ints
    trip_first_ms: Ints
    trip_last_ms: Ints
    trip_place: Ints

    def __len__(self) -> int:
        """Return the number of customers."""
        return len(self.home)

    def whereabouts(self, customer: Ints, time_ms: Ints) -> Ints:
        """Return the place where each customer is at each time: home, or on a trip; shape (n,)."""
        place = self.home[customer]
        for trip in range(self.trip_place.shape[1]):
            first, last = self.trip_first_ms[customer, trip], self.trip_last_ms[customer, trip]
            away = (time_ms >= first) & (time_ms < last)
            place = np.where(away, self.trip_place[customer, trip], place)
        return place


def draw_customers(config: WorldConfig, merchants: Merchants, rng: Generator) -> Customers:
    """Return the customers of the world, with favourite merchants near home chosen by taste."""
    count = config.customers
    home = weighted(rng, HOME, count)
    preference = rng.gamma(_SHARE * 25.0, size=(count, len(CATEGORIES))) + 1e-9
    taste = np.cumsum(preference / preference.sum(axis=1, keepdims=True), axis=1)
    owner = np.repeat(np.arange(count), FAVOURITES)
    category = pick(taste, owner, rng)
    favourite = merchants.choose(home[owner], category, rng).reshape(count, FAVOURITES)
    loyalty = rng.gamma(0.9, size=(count, FAVOURITES)) + 1e-9
    rate = rng.gamma(2.5, size=count)
    night_owl = rng.random(count) < 0.06
    span_ms = config.days * DAY_MS
    trips = (count, 2)
    first = rng.integers(0, config.days, trips) * DAY_MS
    first[rng.random(trips) >= min(1.0, config.days / 250)] = span_ms + DAY_MS
    return Customers(
        home=home,
        spending=rng.lognormal(0.0, 0.5, count),
        rate=rate / rate.mean() * config.transactions_per_customer_day,
        habit_hour=np.where(night_owl, rng.normal(24.5, 1.5, count), rng.normal(14.5, 3.0, count)) % 24,
        taste=taste,
        favourite=favourite,
        favourite_weight=np.cumsum(loyalty / loyalty.sum(axis=1, keepdims=True), axis=1),
        phone_from_ms=(rng.uniform(-1.0, 2.5, count) * span_ms).astype(np.int64),
        trip_first_ms=first,
        trip_last_ms=first + rng.integers(3, 11, trips) * DAY_MS,
        trip_place=weighted(rng, VISIT, 2 * count).reshape(trips),
    )


def pick(cumulative: Floats, row: Ints, rng: Generator) -> Ints:
    """Return one column index for each entry of `row`, drawn from that row's cumulative weights."""
    width = cumulative.shape[1]
    ladder = (cumulative + np.arange(len(cumulative))[:, None]).ravel()  # one search over all rows' weights
    found = np.searchsorted(ladder, row + rng.random(len(row))) - row * width
    return np.clip(found, 0, width - 1)


@dataclass(frozen=True)
class Town:
    """The world before anything happens in it.

    Attributes:
        config: What was asked for.
        customers: Who may pay.
        merchants: Where.
    """

    config: WorldConfig
    customers: Customers
    merchants: Merchants

    @property
    def span_ms(self) -> int:
        """Length of the period."""
        return self.config.days * DAY_MS

    def sums(self, merchant: Ints, scale: Floats, noise: Floats) -> Floats:
        """Return euros paid at each merchant, shape (n,).

        Args:
            merchant: Merchant index of each purchase.
            scale: Factor on the category's median.
            noise: Standard normal; the category's spread is applied to it.
        """
        category = self.merchants.category[merchant]
        amount = MEDIAN[category] * np.exp(SIGMA[category] * noise) * scale
        cash = category == CATEGORY["cash"]
        amount[cash] = np.maximum(np.rint(amount[cash] / 10.0), 1.0) * 10.0  # as the machine gives it
        return amount


def draw_town(config: WorldConfig, seed: np.random.SeedSequence) -> Town:
    """Return the customers and merchants of `config`, each drawn from a generator of its own."""
    merchant_seed, customer_seed = seed.spawn(2)
    merchants = draw_merchants(config, np.random.default_rng(merchant_seed))
    customers = draw_customers(config, merchants, np.random.default_rng(customer_seed))
    return Town(config, customers, merchants)
