"""The command that watches the champion and rolls it back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsIfNow,
    AsJson,
    Config,
    Labels,
    optional_instant,
    period_ms,
    print_json,
    progress,
    read_from,
    settings_from,
)
from fraudstream.errors import ConfigError, FraudstreamError
from fraudstream.sections import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sentinel")(sentinel)


def sentinel(
    decisions: Annotated[Place, read_from("Parquet, NDJSON or CSV files of decisions.")],
    labels: Labels,
    every: Annotated[
        str | None, typer.Option(help='Look again after this long ("5m"), until stopped; default: once.')
    ] = None,
    as_of: AsIfNow = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Roll back to the previous champion when alert rate or matured false-positive rate leave `[sentinel]`."""
    from fraudstream.clock import pause

    settings = settings_from(config)
    if every is not None and as_of is not None:
        raise ConfigError("--every and --as-of: give one of them")
    as_of_ms = optional_instant(as_of, "--as-of")
    every_ms = 0 if every is None else period_ms(every, "--every")
    while True:
        try:
            _look(settings, decisions, labels, as_of_ms, as_json)
        except FraudstreamError as error:
            if every is None:
                raise
            print(f"fraudstream: {error}", file=sys.stderr, flush=True)
        if every is None:
            return
        pause(every_ms / 1000)


def _look(settings: Settings, decisions: Place, labels: Place, as_of_ms: int | None, as_json: bool) -> None:
    from fraudstream.training.sentinel import watch

    with progress() as advance:
        found = watch(settings, decisions, labels, as_of_ms, advance)
    if as_json:
        print_json(found)
        return
    counted = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in found["counts"].items())
    done = f"rolled back: {'; '.join(found['reasons'])}" if found["rolled_back"] else "within its limits"
    print(f"champion {found['champion']}: {done} ({counted})", flush=True)
