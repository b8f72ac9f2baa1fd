"""`fraudstream label`: a verdict becomes a label event."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import typer

from fraudstream.cli.options import (
    AsJson,
    Brokers,
    Config,
    instant,
    period_ms,
    print_json,
    progress,
    settings_from,
)
from fraudstream.errors import ConfigError


class Verdict(StrEnum):
    """What a transaction was."""

    fraud = "fraud"
    legit = "legit"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("label")(label)


def label(
    transaction_ids: Annotated[
        list[str],
        typer.Argument(
            help="Ids of transactions; - reads them from stdin, one a line, or what `alerts list --json` prints."
        ),
    ],
    verdict: Annotated[Verdict, typer.Argument(help="What they were.")],
    source: Annotated[str, typer.Option(help="Who says so.")] = "analyst",
    known_at: Annotated[str | None, typer.Option(help="When it was known (ISO 8601); default: now.")] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The message key of the transactions (the card), so that they are not looked up."),
    ] = None,
    within: Annotated[
        str, typer.Option(help="How far back alerts and decisions are looked through: 30d.")
    ] = "30d",
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Tell what transactions were: each becomes a label event, with the key and partition of its transaction.

    All are looked up before any is sent. A later label takes an earlier one back.
    """
    from fraudstream.bus.kafka_log import KafkaLog
    from fraudstream.bus.topics import meet_broker
    from fraudstream.clock import iso, now_ms
    from fraudstream.console.verdicts import IDS_MAX, Place, check_labels, find_places, ids_from, send_labels
    from fraudstream.records import Label

    given = ids_from(sys.stdin) if transaction_ids == ["-"] else transaction_ids
    ids = list(dict.fromkeys(given))
    if not ids or not all(ids) or "-" in ids:
        raise ConfigError("label: give transaction ids, or - alone to read them from stdin; there is none")
    if len(ids) > IDS_MAX:
        raise ConfigError(f"label: {len(ids):,} transactions; give at most {IDS_MAX:,} at once")
    settings, now = settings_from(config, brokers), now_ms()
    known_ms = now if known_at is None else instant(known_at, "--known-at")
    meet_broker(settings, "label")
    if key is None:
        with progress() as advance, closing(KafkaLog(settings, advance)) as log:
            places = find_places(log, settings, ids, max(0, now - period_ms(within, "--within")))
    else:
        places = dict.fromkeys(ids, Place(key.encode()))
    labels = [Label(transaction_id=one, label=verdict.value, known_at=known_ms, source=source) for one in ids]
    check_labels(labels, places, now)
    sent = send_labels(settings, labels, places)
    topic = settings.topics.labels
    if as_json:
        print_json(
            {
                "labels": [
                    {"transaction_id": one.label.transaction_id, "label": one.label.label,
                     "known_at": one.label.known_at, "source": one.label.source, "topic": topic,
                     "partition": one.partition, "offset": one.offset}
                    for one in sent
                ]
            }
        )  # fmt: skip
        return
    for one in sent:
        print(
            f"{one.label.transaction_id}: {one.label.label} says {source}, known {iso(known_ms)}, "
            f"in {topic}/{one.partition}/{one.offset}"
        )
