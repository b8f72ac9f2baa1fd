"""What `fraudstream quality` found, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from fraudstream.console.charts import Axis, chart, share_axis
from fraudstream.console.quality import segment_cells, sentence
from fraudstream.console.report import page, table_of

TICKS = 6


def quality_report_of(found: dict[str, Any]) -> str:
    """Return the page for what `quality_of_files` found."""
    parts = [
        f"<p>As of {found['as_of']}; mature before {found['mature_before']}. Alerts are "
        f"{escape(', '.join(found['alerting_outcomes']))}.</p>",
        *(part for model, of_model in found["models"].items() for part in _model(model, of_model)),
        '<p class="quiet">The false-positive rate is the share of the legitimate transactions that alerted. '
        "Provisional: an estimate of what the count will be once all reports are in, with a 95 % interval for it; "
        "now: if nothing more were reported.</p>",
    ]
    return page("False positives as of " + found["as_of"], parts)


def _model(model: str, of_model: dict[str, Any]) -> Iterable[str]:
    yield f"<h2>Model {escape(model)}</h2>"
    for name in ("mature", "provisional"):
        if figures := of_model[name]:
            yield f"<p><b>{name}</b>: {escape(sentence(figures))}</p>"
    days = of_model["days"]
    if len(days) > 1:
        yield '<div class="charts"><div>'
        yield _rates(days)
        yield "</div><div>"
        yield _reports(days)
        yield "</div></div>"
    heads = ["transactions", "alerts", "frauds", "expected", "FPR", "precision", "recall"]
    if of_model["segments"]:
        rows = [
            [segment or "-", name, *segment_cells(parts[name])]
            for segment, parts in of_model["segments"].items()
            for name in ("mature", "provisional")
            if parts[name]
        ]
        yield "<h3>By segment</h3>" + table_of(["segment", "", *heads], rows)
    yield "<h3>By day</h3>" + table_of(
        ["day", "", *heads],
        [[day["day"], "" if day["mature"] else "provisional", *segment_cells(day)] for day in days],
    )


def _rates(days: list[dict[str, Any]]) -> str:
    """Draw the rate with its interval, and what it looks like now."""
    lines = {
        "FPR": [(float(i), day["fpr"]["value"]) for i, day in enumerate(days)],
        "low": [(float(i), day["fpr"]["low"]) for i, day in enumerate(days)],
        "high": [(float(i), day["fpr"]["high"]) for i, day in enumerate(days)],
        "now": [(float(i), day["fpr_now"]) for i, day in enumerate(days)],
    }
    known = {name: [(x, y) for x, y in points if y is not None] for name, points in lines.items()}
    top = max((y for points in known.values() for _, y in points), default=0.0) or 1.0
    return chart(
        known, _day_axis(days), Axis("false-positive rate", 0.0, top, [top * i / 4 for i in range(5)])
    )


def _reports(days: list[dict[str, Any]]) -> str:
    """Draw how much of what is to be known is known."""
    lines = {
        "share of frauds reported": [(float(i), day["completeness"]) for i, day in enumerate(days)],
        "share with any label": [(float(i), day["coverage"]) for i, day in enumerate(days)],
    }
    return chart(lines, _day_axis(days), share_axis("known"))


def _day_axis(days: list[dict[str, Any]]) -> Axis:
    last = len(days) - 1
    ticks = sorted({round(last * i / (TICKS - 1)) for i in range(TICKS)})
    return Axis(f"day from {days[0]['day']} to {days[-1]['day']}", 0.0, float(last), ticks)
