"""The sentinel: back to the previous champion when what the present one decides leaves its declared limits.

Both rates are of the last `sentinel.window`: the alert rate of the newest decisions, the false-positive rate of the
newest mature days. A limit is left where all of the 95 % interval lies beyond it. Where the previous champion was
rolled back by the sentinel itself, nothing is changed: then a person is needed.
"""

from __future__ import annotations

from typing import Any

from fraudstream.bus.place import Place
from fraudstream.clock import now_ms
from fraudstream.errors import ModelError
from fraudstream.event import parse_instant_ms
from fraudstream.registry import Registry
from fraudstream.registry.promotions import history, promote_recorded
from fraudstream.registry.registry import CHAMPION, PREVIOUS
from fraudstream.scoring.promises import wilson
from fraudstream.sections import SentinelSettings, Settings
from fraudstream.training.replay import Advance
from fraudstream.training.tracked import quality_of_files

REASON = "sentinel: "


def watch(
    settings: Settings, decisions: Place, labels: Place, as_of_ms: int | None, advance: Advance
) -> dict[str, Any]:
    """Look once; roll back where a limit is left. Return what was measured and done.

    Args:
        decisions: files of decisions with the columns `transaction_id`, `event_time_ms`, `outcome` and `model`.
        as_of_ms: None: now.

    Raises:
        ModelError: a limit is left, but there is nothing to go back to.
    """
    as_of_ms = now_ms() if as_of_ms is None else as_of_ms
    registry = Registry.of(settings.model)
    champion = registry.path_of(CHAMPION).name
    found = quality_of_files(settings, decisions, labels, as_of_ms, advance)
    days = found["models"].get(f"{registry.name}/{champion}", {"days": []})["days"]
    counts = counts_of(days, as_of_ms, settings.labels.maturity_ms, settings.sentinel.window_ms)
    reasons = left(counts, settings.sentinel)
    result = {"champion": champion, "counts": counts, "reasons": reasons, "rolled_back": False}
    if not reasons:
        return result
    said = REASON + "; ".join(reasons)
    previous = registry.aliases().get(PREVIOUS)
    condemned = {
        e.before for e in history(registry) if e.act == "rolled back" and e.reason.startswith(REASON)
    }
    if previous is None or previous in condemned:
        why = "there is no previous champion" if previous is None else f"{previous} was rolled back before"
        raise ModelError(f"{said}; {why}: promote another version with `fraudstream models promote`")
    report = registry.verify(previous)
    if report.problems:
        raise ModelError(f"{said}; the previous champion cannot be used: {report.problems[0]}")
    aliases = promote_recorded(registry, previous, "rolled back", said, counts)
    return result | {"rolled_back": True, "aliases": aliases}


def counts_of(days: list[dict[str, Any]], as_of_ms: int, maturity_ms: int, window_ms: int) -> dict[str, int]:
    """Return the counts of the last window: of all decisions, and of the mature days.

    Args:
        days: of the champion, as `quality_of_files` tells them.
    """
    counts = dict.fromkeys(("transactions", "alerts", "legitimate", "false_positives"), 0)
    for day in days:
        begins_ms = parse_instant_ms(day["day"])
        if begins_ms > as_of_ms - window_ms:
            counts["transactions"] += day["transactions"]
            counts["alerts"] += day["alerts"]
        if day["mature"] and begins_ms > as_of_ms - maturity_ms - window_ms:
            counts["legitimate"] += day["transactions"] - day["frauds"]
            counts["false_positives"] += day["alerts"] - day["frauds_alerted"]
    return counts


def left(counts: dict[str, int], limits: SentinelSettings) -> list[str]:
    """Return which limits are surely left; none of what there is too little of."""
    reasons = []
    if counts["transactions"] >= limits.rows_min:
        low, high = wilson(counts["alerts"], counts["transactions"])
        said = f"alert rate {counts['alerts'] / counts['transactions']:.3%} ({low:.3%} to {high:.3%})"
        if low > limits.alert_rate_max:
            reasons.append(f"{said}, sentinel.alert_rate_max is {limits.alert_rate_max:.3%}")
        if high < limits.alert_rate_min:
            reasons.append(f"{said}, sentinel.alert_rate_min is {limits.alert_rate_min:.3%}")
    if counts["legitimate"] >= limits.rows_min:
        low, high = wilson(counts["false_positives"], counts["legitimate"])
        if low > limits.fpr_max:
            reasons.append(
                f"matured false-positive rate {counts['false_positives'] / counts['legitimate']:.3%} ({low:.3%} to "
                f"{high:.3%}), sentinel.fpr_max is {limits.fpr_max:.3%}"
            )
    return reasons
