"""Draw the dashboards as pictures into `docs/images`, from a real run: `python -m docs.pictures`.

A Kafka, a worker under load, a service that retrains and a Prometheus are started as in the tests; what is drawn is
what Prometheus answers to the panels' own queries. Needs prometheus on the PATH; takes four minutes.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from deploy.grafana.panels import DASHBOARDS, WIDE, dashboard
from fraudstream.console.charts import COLOURS, STANDALONE, Axis, chart
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_grafana import asked
from tests.kafka.broker import broker_from_environment
from tests.kafka.observed import observed
from tests.worlds import make_world

FOLDER = Path(__file__).parent / "images"
RUN_S = 150.0
SHOWN_S = 120.0
STEP_S = 4.0
COLUMN, ROW = 54, 34  # pixels of a cell of Grafana's grid
LINES_MAX = 8
UNITS = {"reqps": (1.0, "/s"), "cps": (1.0, "/s"), "percentunit": (100.0, "%"), "short": (1.0, "")}

Lines = dict[str, list[tuple[float, float]]]


def main() -> int:
    """Run everything for a while, then draw; return the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-pictures-") as name,
        broker_from_environment() as broker,
    ):
        folder = Path(name)
        world = make_world(folder / "world")
        with observed("prometheus", broker, world, folder) as prometheus:
            time.sleep(RUN_S)
            FOLDER.mkdir(exist_ok=True)
            for name in DASHBOARDS:
                (FOLDER / f"{name}.svg").write_text(picture(prometheus, name, time.time()), "utf-8")
    return 0


def picture(prometheus: Prometheus, name: str, now_s: float) -> str:
    """Return one dashboard as SVG."""
    board = dashboard(name)
    parts = [drawn(panel, lines_of(prometheus, panel, now_s)) for panel in board["panels"]]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * ROW + 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE * COLUMN} {height}">'
        f"<style>{STANDALONE}.title{{font-weight:600;fill:#222}}.big{{font-size:26px;fill:#1b6ca8}}</style>"
        f'<rect width="100%" height="100%" fill="#f2f4f5"/>'
        f'<text x="10" y="22" style="font-size:16px" class="title">{escape(board["title"])}</text>'
        f"{''.join(parts)}</svg>\n"
    )


def lines_of(prometheus: Prometheus, panel: Mapping[str, Any], now_s: float) -> Lines:
    """Return what a panel shows: seconds before now, and values, by legend."""
    lines: Lines = {}
    for target in panel["targets"]:
        for series in prometheus.ask_range(asked(target["expr"]), now_s - SHOWN_S, now_s, STEP_S):
            points = [(float(at) - now_s, float(value)) for at, value in series["values"]]
            legend = target["legendFormat"]
            for label, value in series["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            legend = re.sub(r"\{\{\w+\}\}", "", legend).strip()
            lines[legend or "all"] = [point for point in points if math.isfinite(point[1])]
    return lines


def drawn(panel: Mapping[str, Any], lines: Lines) -> str:
    """Return a panel at its place."""
    place, kind = panel["gridPos"], panel["type"]
    x, y = place["x"] * COLUMN + 4, place["y"] * ROW + 34
    width, height = place["w"] * COLUMN - 8, place["h"] * ROW - 8
    largest = max((abs(value) for points in lines.values() for _, value in points), default=0.0)
    factor, unit = scale(panel["fieldConfig"]["defaults"]["unit"], largest)
    scaled = {name: [(at, value * factor) for at, value in points] for name, points in lines.items()}
    body = {"stat": figures, "bargauge": bars, "timeseries": curves}[kind](scaled, unit, width, height)
    return (
        f'<svg x="{x}" y="{y}" width="{width}" height="{height}"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="16" class="title">{escape(panel["title"])}</text>{body}</svg>'
    )


def scale(unit: str, largest: float) -> tuple[float, str]:
    """Return by what to multiply for a unit that people read, and its name."""
    if unit == "s":
        return (1000.0, "ms") if largest < 1 else (1.0, "s")
    if unit == "bytes":
        return 1e-6, "MB"
    return UNITS[unit]


def figures(lines: Lines, unit: str, width: int, height: int) -> str:
    """Return the last value of each line in large letters; of one whose name tells it, the name."""
    names = [
        name if "/" in name and not unit else f"{spelled(points[-1][1])} {unit}"
        for name, points in lines.items()
    ]
    text = " ".join(names)
    size = min(26, int(1.6 * width / max(len(text), 1)))
    middle = f'x="{width / 2}" y="{height / 2 + 20}" text-anchor="middle"'
    return f'<text {middle} class="big" style="font-size:{size}px">{escape(text)}</text>'


def bars(lines: Lines, unit: str, width: int, height: int) -> str:
    """Return the last value of each line as a bar, the longest first."""
    last = sorted(((points[-1][1], name) for name, points in lines.items()), reverse=True)[:10]
    longest, each = max(last[0][0], 1e-9), (height - 28) / len(last)
    return "".join(
        f'<text x="8" y="{28 + each * (place + 0.6):.0f}">{escape(name)}</text>'
        f'<rect x="{width * 0.62:.0f}" y="{28 + each * place:.0f}" height="{each * 0.7:.0f}" fill="{COLOURS[0]}" '
        f'width="{width * 0.24 * value / longest:.0f}"/>'
        f'<text x="{width - 8}" y="{28 + each * (place + 0.6):.0f}" text-anchor="end">{spelled(value)} {unit}</text>'
        for place, (value, name) in enumerate(last)
    )


def curves(lines: Lines, unit: str, width: int, height: int) -> str:
    """Return lines over time, those with the largest values where there are many."""
    kept = dict(
        sorted(lines.items(), key=lambda item: -max((v for _, v in item[1]), default=0.0))[:LINES_MAX]
    )
    top = max((value for points in kept.values() for _, value in points), default=0.0) or 1.0
    ticks = marks(top)
    y = Axis(unit, 0.0, ticks[-1], ticks)
    x = Axis("s", -SHOWN_S, 0.0, [-SHOWN_S, -SHOWN_S / 2, 0.0])
    keys, below = legend_of(list(kept), width, height)
    size = f'y="20" width="{width}" height="{height - 22 - below}" preserveAspectRatio="none"'
    lines_only = chart(kept, x, y).partition("<p class")[0].replace('role="img" class="chart"', size)
    return lines_only + keys


def legend_of(names: Sequence[str], width: int, height: int) -> tuple[str, int]:
    """Return the names in their colours below a chart, and how high they are."""
    keys, row, taken = [], 1, 0
    for place, name in enumerate(names):
        wide = 14 + 6 * len(name)
        if taken and taken + wide > width - 8:
            row, taken = row + 1, 0
        keys.append((8 + taken, row, COLOURS[place % len(COLOURS)], name))
        taken += wide
    below = 4 + 13 * row
    drawn = [
        f'<text x="{x}" y="{height - below + 13 * at - 3}" style="fill:{colour}">{escape(name)}</text>'
        for x, at, colour, name in keys
    ]
    return "".join(drawn), below


def marks(top: float) -> Sequence[float]:
    """Return round values from 0 to above the largest."""
    power = 10 ** math.floor(math.log10(top))
    step = next(power * part for part in (0.2, 0.5, 1.0, 2.0, 5.0) if power * part * 5 >= top)
    return [step * number for number in range(math.ceil(top / step) + 1)]


def spelled(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
