"""What a worker tells of itself once a second: gauges, and how far a rebuild has come."""

from __future__ import annotations

from fraudstream.bus.base import Positions, Source
from fraudstream.clock import iso, monotonic_s, now_ms
from fraudstream.features import FeatureEngine
from fraudstream.metrics import WorkerMetrics

EVERY_S = 1.0


def warmth(engine: FeatureEngine) -> dict[str, object]:
    """Return how many features reach back before the known history, and the event time of the last to be warm."""
    cold = set(engine.cold())
    if not cold or engine.history_from_ms is None:
        return {"features_cold": len(cold), "warm_at": None}
    reach_ms = max(f.reach_ms for f in engine.catalog.features if f.name in cold)
    return {"features_cold": len(cold), "warm_at": iso(engine.history_from_ms + reach_ms)}


class Progress:
    """Updates the gauges, and measures how fast a rebuild goes.

    Attributes:
        read_ms: stamp in Kafka of the message read last, Unix milliseconds; None before the first.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        self.read_ms: int | None = None
        self._metrics = metrics
        self._looked_s = 0.0
        self._left = 0
        self._rate = 0.0

    @property
    def due(self) -> bool:
        """Tell whether it is time to look again."""
        return monotonic_s() >= self._looked_s + EVERY_S

    def look(self, source: Source, engine: FeatureEngine, left: int, ready: bool) -> int:
        """Update the gauges; return how many messages wait to be decided.

        Args:
            left: messages to be replayed before serving begins.
        """
        now_s, metrics = monotonic_s(), self._metrics
        self._rate = max(0.0, (self._left - left) / (now_s - self._looked_s))
        self._looked_s, self._left = now_s, left
        lag = source.lag()
        metrics.lag.set(lag)
        read_ms = self.read_ms if lag and self.read_ms is not None else now_ms()
        metrics.lag_seconds.set(max(0, now_ms() - read_ms) / 1000)
        metrics.watermark.set(engine.watermark_ms / 1000)
        metrics.state_bytes.set(engine.bytes_used())
        for entity, number in engine.entities().items():
            metrics.entities.labels(entity).set(number)
        metrics.features_cold.set(len(engine.cold()))
        metrics.ready.set(int(ready))
        return lag - left

    def told(self, left: Positions) -> dict[str, object]:
        """Return how many messages are left by partition, and how long they take at the rate of the last second."""
        missing = sum(left.values())
        return {
            "partitions": len(left),
            "replay_left": {str(partition): messages for partition, messages in left.items()},
            "ready_in_s": round(missing / self._rate, 1) if self._rate and missing else None,
        }
