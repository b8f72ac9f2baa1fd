"""`fraudstream alerts`: alerts as they come, as a worklist, and one with all that is around it."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.cli.options import (
    AsJson,
    Brokers,
    Config,
    ago_or_instant,
    out,
    print_json,
    progress,
    settings_from,
)
from fraudstream.errors import BusError

if TYPE_CHECKING:
    from fraudstream.console.alerts import AlertFilter
    from fraudstream.sections import Settings

_alerts = typer.Typer()

Entity = Annotated[
    list[str] | None,
    typer.Option(help="Only of this card, merchant, ...: card=card_000846. May be given several times."),
]
Outcome = Annotated[str, typer.Option(help="Only with this outcome.")]
CaseId = Annotated[str, typer.Option("--case", help="Only of this case.")]
ModelName = Annotated[str, typer.Option("--model", help="Only of this model: NAME/VERSION or VERSION.")]
PointsMin = Annotated[int, typer.Option(min=0, max=1000, help="Only with so many risk points or more.")]
ScoreMin = Annotated[float, typer.Option(min=0, max=1, help="Only with this probability of fraud or more.")]
LossMin = Annotated[float, typer.Option("--loss-min", min=0, help="Only with this expected loss or more.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only of this event time or later: an instant (ISO 8601), or 24h for a day ago."),
]
Until = Annotated[str | None, typer.Option(help="Only of event times before this; given as --since is.")]


class Sort(StrEnum):
    """By what a worklist is sorted, the largest first."""

    expected_loss = "expected_loss"
    points = "points"
    time = "time"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_alerts, name="alerts", help="Read alerts, and work through them.", no_args_is_help=True)


@_alerts.command("tail")
def alerts_tail(
    config: Config = None,
    brokers: Brokers = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start at the oldest alert kept, not at the newest.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many.")] = None,
    idle: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so many seconds without one.")
    ] = None,
    entity: Entity = None,
    outcome: Outcome = "",
    case_id: CaseId = "",
    model: ModelName = "",
    points_min: PointsMin = 0,
    score_min: ScoreMin = 0.0,
    loss_min: LossMin = 0.0,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Show alerts as they come: with their reasons for people, one JSON object a line with --json."""
    from fraudstream.console.alerts import tail_alerts

    settings = settings_from(config, brokers)
    wanted = _filter(
        settings, entity, outcome, case_id, model, (points_min, score_min, loss_min), (since, until)
    )
    tail_alerts(settings, wanted, from_beginning, count, idle, as_json)


@_alerts.command("list")
def alerts_list(
    config: Config = None,
    brokers: Brokers = None,
    entity: Entity = None,
    outcome: Outcome = "",
    case_id: CaseId = "",
    model: ModelName = "",
    points_min: PointsMin = 0,
    score_min: ScoreMin = 0.0,
    loss_min: LossMin = 0.0,
    since: Since = None,
    until: Until = None,
    sort: Annotated[Sort, typer.Option(help="The largest stand first.")] = Sort.expected_loss,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show so many at most.")] = 200,
    cases: Annotated[bool, typer.Option("--cases", help="A row a case, not an alert.")] = False,
    open_only: Annotated[bool, typer.Option("--open", help="Only what has no verdict yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are there now, or their cases, the largest first; one JSON object a line with --json."""
    from fraudstream.bus.kafka_log import KafkaLog
    from fraudstream.bus.topics import meet_broker
    from fraudstream.console.alerts import first_of, read_alerts, written_since
    from fraudstream.console.verdicts import verdicts_since
    from fraudstream.console.worklist import alerts_table, cases_of, cases_table, first_cases

    settings = settings_from(config, brokers)
    wanted = _filter(
        settings, entity, outcome, case_id, model, (points_min, score_min, loss_min), (since, until)
    )
    meet_broker(settings, "alerts list")
    with progress() as advance, closing(KafkaLog(settings, advance)) as log:
        verdicts = verdicts_since(log, settings, written_since(settings, wanted.since_ms))
        alerts = read_alerts(log, settings, wanted)
        if cases:
            every = cases_of(alerts, settings.event.key, verdicts, open_only)
            worklist, total = first_cases(every, sort, limit), len(every)
        else:
            still = (told for told in alerts if not open_only or told.alert.transaction_id not in verdicts)
            found, total = first_of(still, sort, limit)
    if total > limit:
        print(f"the first {limit} of {total}, by {sort.value}; --limit shows more", file=sys.stderr)
    if as_json and cases:
        for case in worklist:
            print_json(case.plain())
    elif as_json:
        sys.stdout.writelines(told.value.decode() + "\n" for told in found)
    elif cases:
        out().print(cases_table(worklist) if worklist else "no such cases")
    else:
        out().print(alerts_table(found, verdicts) if found else "no such alerts")


@_alerts.command("show")
def alerts_show(
    transaction_id: Annotated[str, typer.Argument(help="Id of the transaction.")],
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Show an alert whole: reasons, groups, the other alerts of its case, and the verdicts known so far."""
    from fraudstream.bus.kafka_log import KafkaLog
    from fraudstream.bus.topics import meet_broker
    from fraudstream.console.worklist import find_alert

    settings = settings_from(config, brokers)
    meet_broker(settings, "alerts list")
    with progress() as advance, closing(KafkaLog(settings, advance)) as log:
        shown = find_alert(log, settings, transaction_id)
    if shown is None:
        raise BusError(
            f"{settings.topics.alerts} has no alert of {transaction_id}; `fraudstream explain {transaction_id}` "
            "looks its decision up"
        )
    if as_json:
        print_json(shown.plain(settings.labels))
    else:
        shown.print_on(out(), settings.labels)


def _filter(
    settings: Settings,
    entity: list[str] | None,
    outcome: str,
    case_id: str,
    model: str,
    least: tuple[int, float, float],
    between: tuple[str | None, str | None],
) -> AlertFilter:
    from fraudstream.console.alerts import AlertFilter, entities_of

    points_min, score_min, loss_min = least
    since_ms, until_ms = (
        ago_or_instant(text, flag) for text, flag in zip(between, ("--since", "--until"), strict=True)
    )
    return AlertFilter(
        entities_of(entity or (), settings.event), outcome, case_id, model, points_min, score_min, loss_min,
        since_ms, until_ms,
    )  # fmt: skip
