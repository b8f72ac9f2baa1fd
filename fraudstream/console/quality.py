"""The false-positive rate by day, as a picture for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

BAR = 24


def print_quality(found: dict[str, Any], console: Console) -> None:
    """Print what `quality_of_files` found."""
    console.print(
        f"as of {found['as_of']}; mature before {found['mature_before']}; "
        f"alerts are {', '.join(found['alerting_outcomes'])}"
    )
    for model, of_model in found["models"].items():
        console.print(f"\nmodel {model}", style="bold")
        for name in ("mature", "provisional"):
            if figures := of_model[name]:
                console.print(f"  {name}: {sentence(figures)}", soft_wrap=True)
        if of_model["segments"]:
            console.print(_segments(of_model["segments"]))
        console.print(_days(of_model["days"]))
    console.print(
        "~ provisional: an estimate of what the count will be once all reports are in, with a 95 % interval for it; "
        "now: if nothing more were reported. expected: frauds reported and still to come.",
        style="dim",
        soft_wrap=True,
    )


def sentence(figures: dict[str, Any]) -> str:
    """Say what became of some transactions."""
    rates = {
        "FPR": _share(figures["fpr"]),
        "precision": _share(figures["precision"], 1),
        "recall": _share(figures["recall"], 1),
        "alert rate": _share(figures["alert_rate"]),
    }
    return (
        f"{figures['transactions']:,} transactions, {figures['alerts']:,} alerts, {figures['frauds']:,} frauds "
        f"reported ({figures['frauds_expected']:,.0f} expected); labels for {figures['coverage']:.1%}; "
        + ", ".join(f"{name} {share}" for name, share in rates.items())
    )


def _segments(segments: dict[str, Any]) -> Table:
    table = Table(box=None)
    table.add_column("segment")
    for name in ("", "transactions", "alerts", "frauds", "expected", "FPR", "precision", "recall"):
        table.add_column(name, justify="right")
    for segment, parts in segments.items():
        for name in ("mature", "provisional"):
            if figures := parts[name]:
                table.add_row(segment or "-", name, *segment_cells(figures))
    return table


def segment_cells(figures: dict[str, Any]) -> list[str]:
    """Return the cells of a row: how many of each kind, and the rates."""
    return [
        f"{figures['transactions']:,}",
        f"{figures['alerts']:,}",
        f"{figures['frauds']:,}",
        f"{figures['frauds_expected']:,.1f}",
        _share(figures["fpr"]),
        _share(figures["precision"], 1),
        _share(figures["recall"], 1),
    ]


def _days(days: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("day")
    for name in ("transactions", "alerts", "frauds", "expected", "reported", "FPR now", "FPR"):
        table.add_column(name, justify="right")
    table.add_column("")
    top = max((day["fpr"]["value"] or 0.0 for day in days), default=0.0)
    for day in days:
        value = day["fpr"]["value"] or 0.0
        table.add_row(
            ("  " if day["mature"] else "~ ") + day["day"],
            f"{day['transactions']:,}",
            f"{day['alerts']:,}",
            f"{day['frauds']:,}",
            f"{day['frauds_expected']:,.1f}",
            f"{day['completeness']:.0%}",
            "-" if day["fpr_now"] is None else f"{day['fpr_now']:.3%}",
            _share(day["fpr"]),
            ("█" if day["mature"] else "▒") * round(BAR * value / top) if top else "",
        )
    return table


def _share(share: dict[str, float | None], digits: int = 3) -> str:
    if share["value"] is None:
        return "-"
    value, low, high = (f"{100 * (share[name] or 0.0):.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} % ({low} to {high})"
