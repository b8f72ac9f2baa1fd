"""What several commands share: their options, and how results and progress are shown."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fraudstream.bus.place import Place, place_of
from fraudstream.clock import now_ms
from fraudstream.console.progress import Advance, progress_on
from fraudstream.errors import ConfigError
from fraudstream.event import parse_duration_ms, parse_instant_ms
from fraudstream.sections import Settings, shown_uri
from fraudstream.settings import load_settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="TOML file; default: $FRAUDSTREAM_CONFIG, ./fraudstream.toml, built in."
    ),
]
Brokers = Annotated[str | None, typer.Option("--brokers", help="Kafka's host:port,host:port.")]


def read_from(what: str) -> Any:
    """Return an option for files to read, here or in a bucket; typer's own paths would spoil `s3://`."""
    return typer.Option(parser=place_of, metavar="<path>", help=what)


def written_to(*flags: str, help: str) -> Any:
    """Return an option for what is written, which is on this machine."""
    return typer.Option(*flags, parser=_local, metavar="<path>", help=help)


def _local(text: str) -> Path:
    if "://" in text:
        raise ConfigError(f"{shown_uri(text)}: is written to; give a path on this machine")
    return Path(text)


Labels = Annotated[Place, read_from("Parquet, NDJSON or CSV files of labels with known_at (Unix ms).")]
RegistryFolder = Annotated[
    Path | None, written_to("--registry", help="Folder of all models; default: [model] registry.")
]
AsIfNow = Annotated[str | None, typer.Option(help="As if it were this instant (ISO 8601); default: now.")]
JudgedAt = Annotated[
    str | None,
    typer.Option(help="Judge as if it were this instant (ISO 8601); default: now, or when all is mature."),
]
PERIOD_MIN_MS = 1000

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


def optional_instant(text: str | None, flag: str) -> int | None:
    """Read a flag's instant as `instant` does; None where it was not given."""
    return None if text is None else instant(text, flag)


def check_folder(path: Path | None, flag: str) -> None:
    """Check that a file can be written where a flag says. Raises ConfigError."""
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"{flag} = {path}: the folder {path.parent} does not exist")


def ago_or_instant(text: str | None, flag: str) -> int | None:
    """Read a flag's instant in Unix ms: ISO 8601, or a duration before now; None where it was not given.

    Raises:
        ConfigError: naming the flag and the accepted forms.
    """
    if text is None:
        return None
    try:
        return parse_instant_ms(text)
    except ValueError:
        pass
    try:
        return now_ms() - parse_duration_ms(text, flag)
    except ConfigError:
        raise ConfigError(
            f'{flag} = "{text}": give an ISO 8601 instant ("2026-08-08T12:00Z"), or how long ago ("24h")'
        ) from None


def period_ms(text: str, flag: str) -> int:
    """Read how often something is done again, in milliseconds.

    Raises:
        ConfigError: naming the flag and the accepted form.
    """
    if (every_ms := parse_duration_ms(text, flag)) < PERIOD_MIN_MS:
        raise ConfigError(f'{flag} = "{text}": give a second or more')
    return every_ms


def print_json(result: Any) -> None:
    """Print one JSON object on one line of stdout."""
    print(json.dumps(result), flush=True)


def out() -> Console:
    """Return the console of results; wide enough for a table when it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def progress() -> AbstractContextManager[Advance]:
    """Show progress bars on stderr while it is a terminal; yields what moves them on."""
    return progress_on(Console(stderr=True))
