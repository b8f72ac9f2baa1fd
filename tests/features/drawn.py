"""Single transactions and small engines for tests that draw their window above the assertion."""

from __future__ import annotations

from typing import Any

from fraudstream.features import FeatureEngine, build_catalog
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import FeatureGroup, StateSettings
from tests.strategies import START_MS, Drawn, batch_of, bounds, card_event

MEASURED = ["sum", "mean", "std", "min", "max", "zscore", "ratio"]


def tx(time_s: float, amount: int = 100, origin_ms: int = START_MS, **given: str | int | None) -> Drawn:
    """Return a transaction of card `c`, so many seconds after the start, of so many cents."""
    measures: dict[str, int | None] = {"amount": amount, "tip": None, "items": 1, "recurring": None}
    texts: dict[str, str | None] = {"card_id": "c", "merchant_id": "m", "device_id": None, "channel": None}
    transaction_id = str(given.pop("transaction_id", ""))
    for field, value in given.items():
        if field in measures:
            assert not isinstance(value, str)
            measures[field] = value
        else:
            assert not isinstance(value, int)
            texts[field] = value
    return Drawn(origin_ms + round(time_s * 1000), measures, texts, transaction_id)


def group(
    entity: str,
    aggregates: list[str],
    windows: list[str],
    of: str = "",
    baseline: str = "",
    **more: Any,  # where, lag, label, resolution
) -> FeatureGroup:
    return FeatureGroup(
        entity=entity, aggregates=aggregates, windows=windows, of=of, baseline=baseline, **more
    )


def engine_of(*groups: FeatureGroup, state: StateSettings | None = None, grace_ms: int = 0) -> FeatureEngine:
    catalog = build_catalog(list(groups), card_event())
    return FeatureEngine(catalog, state or bounds("10s"), grace_ms=grace_ms)


def known(transaction_id: str, label: str, known_s: float) -> KnownLabel:
    """Return a label of a transaction that became known so many seconds after the start."""
    return KnownLabel(transaction_id, label == "fraud", START_MS + round(known_s * 1000))


def seen(engine: FeatureEngine, *rows: Drawn) -> list[dict[str, float]]:
    """Return each row's features by name, observed one row a batch, in the order given."""
    served = [engine.observe(batch_of([row])).X[0].tolist() for row in rows]
    return [dict(zip(engine.catalog.names, x, strict=True)) for x in served]


def flagged(engine: FeatureEngine, *rows: Drawn) -> list[set[str]]:
    flags = [int(engine.observe(batch_of([row])).flags[0]) for row in rows]
    return [{name for bit, name in FLAG_NAMES.items() if given & bit} for given in flags]


def column(engine: FeatureEngine, name: str, *rows: Drawn) -> list[float]:
    return [x[name] for x in seen(engine, *rows)]
