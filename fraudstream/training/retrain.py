"""One round of retraining: judge the challenger that is there, train another one on the archive.

A model that was just trained cannot be judged: nothing that matured since is there. So the gate sees a challenger a
round later, before the next one takes its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fraudstream.bus.place import Place, place_of
from fraudstream.clock import now_ms
from fraudstream.registry import Registry
from fraudstream.registry.promotions import promote_recorded, record
from fraudstream.registry.registry import CHALLENGER, CHAMPION
from fraudstream.registry.signing import read_private_key
from fraudstream.sections import Settings
from fraudstream.training.promote import gate_of_files
from fraudstream.training.replay import Advance
from fraudstream.training.run import train_from_files


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a round is to do.

    Attributes:
        labels: the label ledger; empty: the archive's.
        as_of_ms: nothing known later is used; None: now.
        promote: let the gate judge the challenger that is there before another takes its place.
        sign_key: file of the private key that signs the model; empty: none.
        memory_mb: limit on the process's memory; 0: none.
    """

    settings: Settings
    labels: str = ""
    as_of_ms: int | None = None
    promote: bool = False
    sign_key: str = ""
    memory_mb: int = 0


def retrain(order: Order, advance: Advance) -> dict[str, Any]:
    """Train on the archive and make the model the challenger; the first model there is becomes champion.

    Returns:
        What `train_from_files` says, and `gate`: what became of the challenger that was there.

    Raises:
        ConfigError: the archive is empty.
        ModelError: there is too little to learn from.
    """
    settings = order.settings
    folder = place_of(settings.archive.uri, "archive.uri")
    files = folder / "transactions", place_of(order.labels) if order.labels else folder / "labels"
    as_of_ms = now_ms() if order.as_of_ms is None else order.as_of_ms
    registry = Registry.of(settings.model)
    gate = _judged(settings, registry, files, as_of_ms, advance) if order.promote else None
    key = read_private_key(Path(order.sign_key)) if order.sign_key else None
    trained = train_from_files(settings, *files, as_of_ms, False, advance, key)
    if not trained["champion"]:
        registry.challenge(Path(trained["path"]).name)
    return trained | {"gate": gate}


def _judged(
    settings: Settings, registry: Registry, files: tuple[Place, Place], as_of_ms: int, advance: Advance
) -> dict[str, Any] | None:
    """Let the challenger through the gate or not; None: there is none. What it is trained on cannot judge it."""
    aliases = registry.aliases()
    if CHALLENGER not in aliases or CHAMPION not in aliases:
        return None
    version, champion = aliases[CHALLENGER], aliases[CHAMPION]
    verdict = gate_of_files(settings, version, files, as_of_ms, advance)
    if verdict.reasons:
        record(
            registry,
            "refused",
            (champion, champion),
            f"{version}: {'; '.join(verdict.reasons)}",
            verdict.figures,
        )
    else:
        promote_recorded(registry, version, "promoted", "", verdict.figures)
    return {"version": version, "promoted": not verdict.reasons, "reasons": verdict.reasons}
