"""Hypothesis profiles: a modest default, and `FRAUDSTREAM_HYPOTHESIS=slow` for the long run; the tiny world."""

import os

from hypothesis import HealthCheck, settings

from tests.worlds import tiny_world

__all__ = ["tiny_world"]

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]  # numba compiles in the first example

settings.register_profile(
    "default", max_examples=60, deadline=None, print_blob=True, suppress_health_check=_QUIET
)
settings.register_profile(
    "slow", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_QUIET
)
settings.load_profile(os.environ.get("FRAUDSTREAM_HYPOTHESIS", "default"))
