"""An alert as a person reads it in the terminal."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from fraudstream.console.tail import alert_text
from fraudstream.records import Alert, Group, Reason

ALERT = Alert(
    transaction_id="tx[1]",
    event_time_ms=0,
    event_time="1970-01-01T00:00:00.000Z",
    outcome="decline",
    score=0.5,
    risk_points=990,
    model="m/0001",
    flags=(),
    entities={"card": "4111111111111111"},
    amount=1234.0,
    currency="JPY",
    raw_score=1.0,
    base=0.0,
    rest=0.0,
    reasons=[Reason(feature="f", value=1.0, contribution=2.5, text='with channel = "[red]"')],
    groups=[Group(name=n, contribution=c, text=n) for n, c in (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0),
                                                              ("e", 0.5), ("f", -9.5))],
    method="treeshap",
)  # fmt: skip


def printed(alert: Alert) -> list[str]:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(alert_text(alert))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_strongest_groups_stand_above_the_reasons() -> None:
    assert printed(ALERT) == [
        "DECLINE 990 points (50%)  1970-01-01T00:00:00Z  1,234 JPY  tx[1]",
        "  card ************1111",
        "  a +4.00, b +3.00, c +2.00, d +1.00",
        '  - with channel = "[red]" (+2.50)',
    ]


@pytest.mark.parametrize(("method", "line"), [("path", "  a +4.00 (path)"), ("treeshap", "  a +4.00")])
def test_an_alert_that_was_explained_by_path_says_so(method: str, line: str) -> None:
    assert printed(msgspec.structs.replace(ALERT, groups=ALERT.groups[:1], method=method))[2] == line


def test_an_alert_of_an_earlier_version_has_no_groups() -> None:
    assert len(printed(msgspec.structs.replace(ALERT, groups=[], method=""))) == 3
