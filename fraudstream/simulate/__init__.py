"""The labelled world of the demo and the tests: who pays what, who steals it, and when the bank learns.

`simulate` draws a seeded, reproducible stream of card payments with six ways of fraud in it, the labels
a bank would come to have (late, incomplete, now and then wrong), and the truth. Use it where the answer
must be known: demonstrations, tests, benchmarks. It says nothing about how a model does on real payments.

Conventions: times are Unix milliseconds UTC and each country's clock is UTC; amounts are euros; a day is
counted from `WorldConfig.start_ms`. The same `WorldConfig` gives the same tables, bit for bit, with the
same numpy.

    >>> world = simulate(WorldConfig(customers=50, merchants=60, days=5))
    >>> world.transactions.num_rows == world.truth.num_rows
    True
"""

from fraudstream.simulate.config import DAY_MS, WorldConfig
from fraudstream.simulate.fraud import SCENARIOS
from fraudstream.simulate.simulation import World, simulate
from fraudstream.simulate.world import CATEGORIES, PLACES

__all__ = ["CATEGORIES", "DAY_MS", "PLACES", "SCENARIOS", "World", "WorldConfig", "simulate"]
