"""What several commands share: their options, and how results and progress are shown."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fraudstream.console.progress import Advance, progress_on
from fraudstream.errors import ConfigError
from fraudstream.event import parse_instant_ms
from fraudstream.sections import Settings
from fraudstream.settings import load_settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="TOML file; default: $FRAUDSTREAM_CONFIG, ./fraudstream.toml, built in."
    ),
]
Brokers = Annotated[str | None, typer.Option("--brokers", help="Kafka's host:port,host:port.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines; the last line is one object.")]


def settings_from(config: Path | None, brokers: str | None = None, **overrides: Any) -> Settings:
    """Load the settings with flags on top; `worker__group="x"` sets `worker.group`."""
    flags = {name.replace("__", ".", 1): value for name, value in overrides.items()}
    return load_settings(config, {"kafka.bootstrap.servers": brokers, **flags})


def instant(text: str, flag: str) -> int:
    """Read a flag's ISO 8601 instant in Unix ms.

    Raises:
        ConfigError: naming the flag and the accepted form.
    """
    try:
        return parse_instant_ms(text)
    except ValueError:
        raise ConfigError(
            f'{flag} = "{text}": give an ISO 8601 instant, "2026-08-08" or "2026-08-08T12:00Z"'
        ) from None


def print_json(result: Any) -> None:
    """Print one JSON object on one line of stdout."""
    print(json.dumps(result), flush=True)


def out() -> Console:
    """Return the console of results; wide enough for a table when it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def progress() -> AbstractContextManager[Advance]:
    """Show progress bars on stderr while it is a terminal; yields what moves them on."""
    return progress_on(Console(stderr=True))
