"""Line charts as SVG, by plain code: a report needs nothing from anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 300, 52, 40, 12, 12
COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#8a6fb0", "#b08900", "#5f6b6d")
STANDALONE = (
    "text{font:11px system-ui,sans-serif;fill:#52606a}.grid{stroke:#e1e6e9;fill:none}"
    ".line{fill:none;stroke-width:2}"
)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a chart.

    Attributes:
        low, high: its ends; on a logarithmic one above 0.
        ticks: where it is marked.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, 0 to 1; what is beyond an end lies on it."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def share_axis(title: str) -> Axis:
    """Return an axis from 0 to 1."""
    return Axis(title, 0.0, 1.0, SHARE)


def fpr_axis() -> Axis:
    """Return an axis of false-positive rates, from one in ten thousand on."""
    return Axis("false-positive rate", 1e-4, 1.0, (1e-4, 1e-3, 1e-2, 0.1, 1.0), logarithmic=True)


def chart(lines: Mapping[str, Points], x: Axis, y: Axis, diagonal: bool = False) -> str:
    """Return an SVG with one line for each name.

    Args:
        diagonal: also draw where y equals x.
    """
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">{_inside(lines, x, y, diagonal)}</svg>'
        + (_legend(list(lines)))
    )


def drawing(lines: Mapping[str, Points], x: Axis, y: Axis) -> str:
    """Return the same as an SVG document by itself, with its style, and a legend below."""
    keys = [
        f'<text x="{LEFT + 120 * number}" y="{HEIGHT + 14}" style="fill:{COLOURS[number % len(COLOURS)]}">'
        f"{escape(name)}</text>"
        for number, name in enumerate(lines)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 24}" width="{WIDTH}">'
        f"<style>{STANDALONE}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT + 24}" fill="#fff"/>{_inside(lines, x, y)}{"".join(keys)}</svg>\n'
    )


def _inside(lines: Mapping[str, Points], x: Axis, y: Axis, diagonal: bool = False) -> str:
    parts = []
    for tick in x.ticks:
        across = _across(x, tick)
        parts.append(f'<line class="grid" x1="{across}" x2="{across}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{_spelled(tick)}</text>'
        )
    for tick in y.ticks:
        up = _up(y, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up}" y2="{up}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up + 4}" text-anchor="end">{_spelled(tick)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.title)}</text>')
    parts.append(
        f'<text x="12" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 12 {HEIGHT / 2})">'
        f"{escape(y.title)}</text>"
    )
    if diagonal:
        parts.append(f'<polyline class="grid" points="{_joined([(x.low, x.low), (x.high, x.high)], x, y)}"/>')
    for number, points in enumerate(lines.values()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline class="line" stroke="{colour}" points="{_joined(points, x, y)}"/>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    keys = [
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    ]
    return f'<p class="legend">{"".join(keys)}</p>'


def _joined(points: Points, x: Axis, y: Axis) -> str:
    return " ".join(f"{_across(x, px)},{_up(y, py)}" for px, py in points)


def _across(axis: Axis, value: float) -> float:
    return round(LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT), 1)


def _up(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - BOTTOM - TOP), 1)


def _spelled(value: float) -> str:
    return f"{value:g}"
