"""`fraudstream explain`: one decision, derived again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsJson,
    Brokers,
    Config,
    out,
    print_json,
    progress,
    read_from,
    settings_from,
)
from fraudstream.errors import ConfigError

if TYPE_CHECKING:
    from fraudstream.sections import Settings
    from fraudstream.stream.archived import InFiles


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    transaction_id: Annotated[str, typer.Argument(help="Id of the transaction.")],
    decisions: Annotated[
        Place | None, read_from("Files of decisions (NDJSON, or of `fraudstream replay`), not Kafka.")
    ] = None,
    features: Annotated[
        Place | None, read_from("With --decisions: files with a column a feature; may be the same.")
    ] = None,
    alerts: Annotated[Place | None, read_from("With --decisions: files of alerts.")] = None,
    transactions: Annotated[
        Place | None,
        read_from("With --decisions: files of transactions, to try the outcome's rule again."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Version or alias that decided, where the decision names none.")
    ] = None,
    sequence: Annotated[
        int | None,
        typer.Option(help="Sequence number (as in the alert), where several decisions were made of the id."),
    ] = None,
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Derive a decision again, and compare it with what was served; exit 1 if it differs or something is missing."""
    from fraudstream.bus.kafka_log import KafkaLog
    from fraudstream.bus.topics import meet_broker
    from fraudstream.console.explained import plain, show
    from fraudstream.stream.rederive import rederive
    from fraudstream.stream.served import InTopics

    settings = settings_from(config, brokers, model__version=model)
    files = (decisions, features, alerts, transactions)
    if any(files):
        found = rederive(settings, _in_files(settings, *files), transaction_id, sequence)
    else:
        meet_broker(settings, "explain")
        with progress() as advance:
            log = KafkaLog(settings, advance)
            try:
                found = rederive(settings, InTopics(log, settings), transaction_id, sequence)
            finally:
                log.close()
    if as_json:
        print_json(plain(found))
    else:
        show(found, out())
    sys.exit(0 if found.ok else 1)


def _in_files(
    settings: Settings,
    decisions: Place | None,
    features: Place | None,
    alerts: Place | None,
    transactions: Place | None,
) -> InFiles:
    from fraudstream.registry import Registry
    from fraudstream.stream.archived import InFiles

    if decisions is None or features is None:
        raise ConfigError("explain: give both --decisions and --features; files are read in place of Kafka")
    registry = Registry.of(settings.model)
    version = registry.aliases().get(settings.model.version, settings.model.version)
    return InFiles(decisions, features, alerts, transactions, f"{registry.name}/{version}")
