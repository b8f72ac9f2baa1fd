"""The command that keeps what Kafka forgets: archive."""

from __future__ import annotations

import functools
import signal
from typing import Annotated, Any

import typer

from fraudstream.cli.options import AsJson, Brokers, Config, print_json, progress, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("archive")(archive)


def archive(
    once: Annotated[
        bool, typer.Option("--once", help="Read to the present end of the topics, then stop.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="At the end merge all small files of each date.")
    ] = False,
    skip_gap: Annotated[
        bool, typer.Option("--skip-gap", help="Go on where messages were deleted before they were archived.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", help="Folder or s3:// URI; default: [archive] uri.")
    ] = None,
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Write transactions, decisions and labels from Kafka to Parquet by event date, each exactly once."""
    from fraudstream.bus.kafka_tail import KafkaTail
    from fraudstream.bus.topics import meet_broker
    from fraudstream.stream.archiver import Archiver

    settings = settings_from(config, brokers, archive__uri=to)
    meet_broker(settings, "archive")
    halted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: halted.append(number))
    with progress() as advance:
        archiver = Archiver(settings, functools.partial(KafkaTail, settings, skip_gap=skip_gap), advance)
        try:
            while not halted and not (once and archiver.caught_up()):
                archiver.step()
            archiver.write()
            gone = archiver.compact(2) if compact else 0
            waiting = archiver.waiting()
        finally:
            archiver.close()
    result: dict[str, Any] = {
        "uri": archiver.uri,
        "waiting": waiting,
        "files_merged": gone,
        "topics": {
            topic: {"folder": shelf.kind.name, "rows": shelf.rows, "bad": shelf.bad}
            for topic, shelf in archiver.shelves.items()
        },
    }
    if as_json:
        print_json(result)
        return
    for topic, counts in result["topics"].items():
        print(f"{counts['rows']} messages of {topic} -> {archiver.uri}/{counts['folder']}")
