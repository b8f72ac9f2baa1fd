"""What an analyst works through: alerts or cases in a table, the largest first, and one alert with all around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.clock import iso
from fraudstream.console.alerts import AlertFilter, Told, read_alerts
from fraudstream.console.tail import alert_text, masked
from fraudstream.console.verdicts import read_verdicts, verdict_of
from fraudstream.errors import ConfigError
from fraudstream.records import Alert, Label
from fraudstream.sections import LabelSettings, Settings
from fraudstream.words import currency_digits

CASES_MAX = 100_000  # told apart at once


@dataclass
class Case:
    """The alerts of a card that come within an open period, added up.

    Attributes:
        expected_loss: of all alerts, added up whatever their currencies are.
        risk_points: the highest.
        verdicts: how many alerts are `fraud`, how many `legit`; of the others nothing is known.
    """

    case_id: str
    entities: dict[str, str]
    begins_ms: int
    ends_ms: int
    currency: str | None
    alerts: int = 0
    expected_loss: float = 0.0
    risk_points: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, alert: Alert, verdict: str | None) -> None:
        """Take in one of its alerts."""
        self.begins_ms, self.ends_ms = (
            min(self.begins_ms, alert.event_time_ms),
            max(self.ends_ms, alert.event_time_ms),
        )
        self.alerts += 1
        self.expected_loss += alert.expected_loss or 0.0
        self.risk_points = max(self.risk_points, alert.risk_points)
        self.outcomes[alert.outcome] += 1
        if verdict is not None:
            self.verdicts[verdict] += 1

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "case_id": self.case_id,
            "entities": self.entities,
            "begins": iso(self.begins_ms),
            "ends": iso(self.ends_ms),
            "alerts": self.alerts,
            "expected_loss": self.expected_loss,
            "currency": self.currency,
            "risk_points": self.risk_points,
            "outcomes": dict(self.outcomes),
            "verdicts": dict(self.verdicts),
        }


CASE_SORTS: dict[str, Callable[[Case], tuple[float, ...]]] = {
    "expected_loss": lambda case: (case.expected_loss, case.ends_ms),
    "points": lambda case: (case.risk_points, case.expected_loss, case.ends_ms),
    "time": lambda case: (case.ends_ms,),
}


def cases_of(alerts: Iterable[Told], key: str, verdicts: Mapping[str, str], open_only: bool) -> list[Case]:
    """Add alerts up by case; an alert without a case stands for itself.

    Args:
        key: the entity that cases are of.
        verdicts: by transaction.
        open_only: only cases of which an alert has no verdict.

    Raises:
        ConfigError: there are more than CASES_MAX.
    """
    found: dict[str, Case] = {}
    for alert, _ in alerts:
        case = alert.case_id or alert.transaction_id
        if case not in found:
            if len(found) == CASES_MAX:
                raise ConfigError(f"more than {CASES_MAX:,} cases: narrow them down with --since and --until")
            mine = {kind: text for kind, text in alert.entities.items() if kind == key}
            found[case] = Case(case, mine, alert.event_time_ms, alert.event_time_ms, alert.currency)
        found[case].add(alert, verdicts.get(alert.transaction_id))
    return [case for case in found.values() if not open_only or case.verdicts.total() < case.alerts]


def first_cases(cases: list[Case], sort: str, limit: int) -> list[Case]:
    """Return the first cases by a key of CASE_SORTS, the largest first."""
    return sorted(cases, key=CASE_SORTS[sort], reverse=True)[:limit]


def cases_table(cases: Sequence[Case]) -> Table:
    """Return a row for each case."""
    table = Table(
        "expected loss", "points", "alerts", "outcomes", "of", "from", "to", "verdicts", "case", box=None
    )
    for case in cases:
        table.add_row(
            _money(case.expected_loss, case.currency),
            str(case.risk_points),
            str(case.alerts),
            escape(", ".join(f"{name} {n}" for name, n in case.outcomes.most_common())),
            _masked(case.entities),
            iso(case.begins_ms)[:19],
            iso(case.ends_ms)[:19],
            ", ".join(f"{name} {n}" for name, n in case.verdicts.most_common()) or "-",
            escape(case.case_id),
        )
    return table


def alerts_table(alerts: Sequence[Told], verdicts: Mapping[str, str]) -> Table:
    """Return a row for each alert."""
    table = Table("expected loss", "points", "outcome", "event time", "entities", "verdict", "case", "transaction",
                  box=None)  # fmt: skip
    for alert, _ in alerts:
        table.add_row(
            _money(alert.expected_loss or 0.0, alert.currency),
            str(alert.risk_points),
            escape(alert.outcome),
            alert.event_time[:19],
            _masked(alert.entities),
            verdicts.get(alert.transaction_id, "-"),
            escape(f"{alert.case_id} #{alert.case_alerts}" if alert.case_id else "-"),
            escape(alert.transaction_id),
        )
    return table


@dataclass(frozen=True, slots=True)
class Shown:
    """An alert with what is known around it.

    Attributes:
        case: all alerts of its case, itself included, in order of time.
        labels: of all of these, by transaction.
    """

    alert: Told
    case: Sequence[Alert]
    labels: Mapping[str, Sequence[Label]]

    def plain(self, settings: LabelSettings) -> dict[str, Any]:
        """Return it for JSON."""
        mine = self.labels.get(self.alert.alert.transaction_id, ())
        return {
            "alert": msgspec.json.decode(self.alert.value),
            "case": [
                {
                    "transaction_id": one.transaction_id,
                    "event_time": one.event_time,
                    "outcome": one.outcome,
                    "risk_points": one.risk_points,
                    "expected_loss": one.expected_loss,
                    "verdict": verdict_of(self.labels.get(one.transaction_id, ()), settings),
                }
                for one in self.case
            ],
            "verdicts": [
                {"label": label.label, "known_at": label.known_at, "source": label.source} for label in mine
            ],
            "verdict": verdict_of(mine, settings),
        }

    def print_on(self, console: Console, settings: LabelSettings) -> None:
        """Print it for a person; card numbers are masked."""
        alert = self.alert.alert
        console.print(alert_text(alert), soft_wrap=True)
        console.print(
            f"  rule {escape(alert.rule)}, model {escape(alert.model)}, "
            f"expected loss {_money(alert.expected_loss or 0.0, alert.currency)}"
            + (f", flags {', '.join(alert.flags)}" if alert.flags else ""),
            soft_wrap=True,
        )
        for group in alert.groups:
            console.print(f"  {group.contribution:+8.2f}  {escape(group.text)}")
        if len(self.case) > 1:
            loss = _money(sum(one.expected_loss or 0.0 for one in self.case), alert.currency)
            console.print(f"case {escape(alert.case_id)}: {len(self.case)} alerts, expected loss {loss}")
            told = [Told(one, b"") for one in self.case]
            verdicts = {
                one: verdict
                for one, labels in self.labels.items()
                if (verdict := verdict_of(labels, settings))
            }
            console.print(alerts_table(told, verdicts))
        mine = self.labels.get(alert.transaction_id, ())
        for label in mine:
            console.print(
                f"{label.label} says {escape(label.source or '(no source)')}, known {iso(label.known_at)}"
            )
        if not mine:
            console.print("no verdict yet")


def find_alert(log: KafkaLog, settings: Settings, transaction_id: str) -> Shown | None:
    """Look up an alert with its case and their verdicts; None where there is no such alert."""
    mine: Told | None = None
    for told in read_alerts(log, settings, AlertFilter()):
        if told.alert.transaction_id == transaction_id:
            mine = told
            break
    if mine is None:
        return None
    case = [mine.alert]
    if mine.alert.case_id:
        wanted = AlertFilter(case_id=mine.alert.case_id)
        case = sorted(
            (told.alert for told in read_alerts(log, settings, wanted)), key=lambda one: one.event_time_ms
        )
    labels = read_verdicts(log, settings, None, {one.transaction_id for one in case})
    return Shown(mine, case, labels)


def _money(amount: float, currency: str | None) -> str:
    return escape(f"{amount:,.{currency_digits(currency)}f} {currency or ''}".rstrip())


def _masked(entities: Mapping[str, str]) -> str:
    return escape(", ".join(f"{kind} {masked(text)}" for kind, text in entities.items()))
