"""What a caller may choose about the simulated world, and the limit on each choice."""

from __future__ import annotations

from dataclasses import dataclass

from fraudstream.errors import ConfigError

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

TRANSACTIONS_MAX = 100_000_000  # all are in memory at once, about 300 bytes each

_WHOLE: dict[str, tuple[int, int]] = {
    "customers": (10, 10_000_000),
    "merchants": (30, 1_000_000),
    "start_ms": (0, 4_102_444_800_000),
    "days": (1, 3_660),
    "seed": (0, 2**63 - 1),
}
_REAL: dict[str, tuple[float, float]] = {
    "transactions_per_customer_day": (0.01, 1_000.0),
    "fraud_rate": (0.0, 0.2),
}


@dataclass(frozen=True)
class WorldConfig:
    """A world to simulate.

    Attributes:
        customers: Number of cardholders, one card each.
        merchants: Number of merchants, those of the new pattern included.
        start_ms: Midnight UTC of the first day, Unix milliseconds.
        days: Length of the simulated period.
        transactions_per_customer_day: Mean number of legitimate transactions of a customer on a usual day.
        fraud_rate: Share of all transactions to be fraud, met approximately; 0 is a world without fraud.
        seed: Same seed and same other values: same tables.
        peak_day: Index of a day with three times the usual volume; None, or one after the end: no such day.
        new_pattern_day: Index of the day on which the new fraud pattern begins; None, or one after the end:
            it never does.

    Raises:
        ConfigError: A value is outside its limits; one line names the key and the value.
    """

    customers: int = 2_000
    merchants: int = 400
    start_ms: int = 1_767_225_600_000  # 2026-01-01, a Thursday
    days: int = 60
    transactions_per_customer_day: float = 2.0
    fraud_rate: float = 0.006
    seed: int = 7
    peak_day: int | None = 50
    new_pattern_day: int | None = 42

    def __post_init__(self) -> None:
        """Refuse a world that cannot be drawn."""
        for key, (low, high) in _WHOLE.items():
            _require_whole(key, getattr(self, key), low, high)
        for key, (least, most) in _REAL.items():
            _require_real(key, getattr(self, key), least, most)
        for key in ("peak_day", "new_pattern_day"):
            if getattr(self, key) is not None:
                _require_whole(key, getattr(self, key), 0, _WHOLE["days"][1])
        if self.start_ms % DAY_MS:
            raise ConfigError(f"start_ms = {self.start_ms}: expected midnight UTC, a multiple of {DAY_MS}")
        expected = self.customers * self.days * self.transactions_per_customer_day
        if expected > TRANSACTIONS_MAX:
            raise ConfigError(
                f"customers = {self.customers}: with days and transactions_per_customer_day this is"
                f" {expected:.0f} transactions, expected at most {TRANSACTIONS_MAX}"
            )

    @property
    def end_ms(self) -> int:
        """The first millisecond after the simulated period."""
        return self.start_ms + self.days * DAY_MS


def _require_whole(key: str, value: object, low: int, high: int) -> None:
    """Refuse anything but an int in [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{key} = {value!r}: expected an integer from {low} to {high}")


def _require_real(key: str, value: object, low: float, high: float) -> None:
    """Refuse anything but a number in [low, high]; NaN is outside."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{key} = {value!r}: expected a number from {low:g} to {high:g}")
