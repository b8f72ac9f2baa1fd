"""What `fraudstream evaluate` found, as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

SHORT = {"auc": "AUC", "average_precision": "average precision"}


def short(name: str) -> str:
    """Return a figure's name as people read it: `recall at 0.1 % FPR`."""
    what, found, rate = name.partition("_at_fpr_")
    return f"{what} at {float(rate) * 100:g} % FPR" if found else SHORT[name]


def spelled(figure: dict[str, float | None], digits: int = 3) -> str:
    """Return a figure with its interval: `0.491 (0.395 to 0.585)`."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def print_evaluation(found: dict[str, Any], console: Console) -> None:
    """Print what `evaluate_files` found."""
    counts = found["counts"]
    console.print(
        f"mature at {found['as_of']}: {counts['mature']:,} of {counts['transactions']:,} transactions, "
        f"{counts['labelled']:,} of them labelled, {counts['frauds']:,} frauds; {found['from']} to {found['to']}"
    )
    for name in found["in_sample"]:
        console.print(
            f"{name} was made with some of these transactions: its figures flatter it", style="yellow"
        )
    console.print(_figures(found))
    if found["differences"]:
        console.print(_differences(found))
    weeks = [(week["from"][:10], week) for week in found["weeks"]]
    console.print(_parts("week from", weeks, list(found["models"])))
    if found["segments"]:
        console.print(_parts("segment", list(found["segments"].items()), list(found["models"])))
    console.print(
        f"95 % intervals from {found['resamples']} draws of whole {found['clusters']}s (of whole days for card "
        "precision).\n",
        style="dim",
        soft_wrap=True,
    )


def _table(first: str, names: list[str]) -> Table:
    table = Table(box=None)
    table.add_column(first)
    for name in names:
        table.add_column(Text(name), justify="right")
    return table


def _figures(found: dict[str, Any]) -> Table:
    models = found["models"]
    table = _table("", list(models))
    for name in next(iter(models.values()))["figures"]:
        table.add_row(short(name), *(spelled(model["figures"][name]) for model in models.values()))
    cards = [model["card_precision"] for model in models.values()]
    table.add_row(f"card precision@{cards[0]['k']}", *(spelled(card) for card in cards))
    table.add_row("  its ceiling", *(f"{card['ceiling']:.3f}" for card in cards))
    rows = (
        ("alerts a day", "{alerts_a_day:,.1f}"),
        ("false-positive rate of alerts", "{fpr:.4%} ({fpr_low:.4%} to {fpr_high:.4%})"),
        ("recall of alerts", "{recall:.3f}"),
        ("precision of alerts", "{precision:.3f}"),
        ("fraud caught", "{money_caught:,.2f}"),
        ("fraud lost", "{money_lost:,.2f}"),
    )
    for title, form in rows:
        told = [model.get("outcomes") for model in models.values()]
        table.add_row(title, *("-" if t is None or t["fpr"] is None else form.format(**t) for t in told))
    return table


def _differences(found: dict[str, Any]) -> Table:
    table = _table(f"more than {found['compared_with']}", list(found["differences"]))
    for name in next(iter(found["differences"].values())):
        table.add_row(short(name), *(spelled(each[name]) for each in found["differences"].values()))
    return table


def _parts(first: str, parts: list[tuple[str, dict[str, Any]]], names: list[str]) -> Table:
    table = _table(first, ["mature", "frauds", *(f"average precision {name}" for name in names)])
    for title, part in parts:
        table.add_row(Text(title), *_part(part, names))
    return table


def _part(part: dict[str, Any], names: list[str]) -> list[str]:
    found = [part["models"][name]["average_precision"] for name in names]
    return [
        f"{part['transactions']:,}",
        f"{part['frauds']:,}",
        *("-" if value is None else f"{value:.3f}" for value in found),
    ]
