"""Promised and met false-positive rates, and probabilities, as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_SAID = {"yes": "", "above": " above", "below": " below"}


def print_promises(found: dict[str, Any], console: Console) -> None:
    """Print what `promises_of_files` found."""
    everything, clusters = found["all"], " or ".join(found["clusters"])
    console.print(
        f"mature at {found['as_of']}: {everything['mature']:,} of {everything['transactions']:,} transactions, "
        f"{everything['labelled']:,} of them labelled, {everything['frauds']:,} frauds"
    )
    console.print(_rates([*found["weeks"], everything]))
    console.print(
        "false-positive rates with their 95 % intervals; above, below: all of the interval is. Intervals count the "
        f"transactions of one {clusters} as belonging together.\n",
        style="dim",
        soft_wrap=True,
    )
    console.print(_probabilities(everything["reliability"]))


def _rates(periods: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("week from")
    for name in ("mature", "frauds", "expected"):
        table.add_column(name, justify="right")
    promised = [each["promised"] for each in periods[-1]["false_positives"]]
    for share in promised:
        table.add_column(f"{share * 100:g} % promised", justify="right")
    for name in ("Brier", "ECE"):
        table.add_column(name, justify="right")
    for period in periods:
        begins = period.get("from", "all")[:10]
        if not period["mature"]:
            table.add_row(begins, "0", *["-"] * (4 + len(promised)))
            continue
        fit = period["calibration"]
        table.add_row(
            begins,
            f"{period['mature']:,}",
            f"{period['frauds']:,}",
            f"{fit['expected_frauds']:,.0f}",
            *(
                [_share(each["met"]) + _SAID[each["kept"]] for each in period["false_positives"]]
                or ["-"] * len(promised)
            ),
            f"{fit['brier']:.5f}",
            f"{fit['ece']:.5f}",
        )
    return table


def _probabilities(bins: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for name in ("probability", "transactions", "mean", "share of fraud"):
        table.add_column(name, justify="right")
    for each in bins:
        table.add_row(
            f"{each['from']:g} to {each['to']:g}",
            f"{each['transactions']:,}",
            f"{each['probability'] * 100:.3f} %",
            _share(each["frauds"]),
        )
    return table


def _share(met: dict[str, Any]) -> str:
    return f"{met['rate'] * 100:.3f} % ({met['low'] * 100:.3f}-{met['high'] * 100:.3f})"
