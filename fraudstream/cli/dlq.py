"""`fraudstream dlq`: which messages could not be read, and why; and back with them once that is mended."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from fraudstream.cli.options import AsJson, Brokers, Config, out, print_json, progress, settings_from
from fraudstream.clock import iso
from fraudstream.errors import ConfigError

if TYPE_CHECKING:
    from fraudstream.stream.deadletters import Letter

KINDS_MAX = 1_000  # of different reasons that are counted apart

_dlq = typer.Typer()

Stage = Annotated[str, typer.Option(help="Only those of this stage: decode or label.")]
Path = Annotated[str, typer.Option(help="Only those in which this is wrong, as a JSON path: $.amount.")]
Reason = Annotated[str, typer.Option(help="Only those whose reason has this in it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_dlq, name="dlq", help="Look at dead letters, and replay them.", no_args_is_help=True)


@_dlq.command("list")
def dlq_list(
    config: Config = None,
    brokers: Brokers = None,
    stage: Stage = "",
    path: Path = "",
    reason: Reason = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the open dead letters by what is wrong, with the last one of each kind."""
    from fraudstream.stream.deadletters import DeadLetters, Filter

    chosen = Filter(stage, path, reason)
    kinds: dict[tuple[str, ...], dict[str, Any]] = {}
    settings = settings_from(config, brokers)
    with progress() as advance, closing(DeadLetters(settings, advance)) as letters:
        for letter in letters.read(everything):
            if chosen.takes(letter):
                _count(kinds, letter)
    found = sorted(kinds.values(), key=lambda kind: -kind["letters"])
    total = sum(kind["letters"] for kind in found)
    if as_json:
        print_json({"letters": total, "kinds": found})
        return
    table = Table("letters", "topic", "stage", "path", "reason", "last sent", "last one", box=None)
    for kind in found:
        names = (kind[name] for name in ("topic", "stage", "path", "reason", "last_sent", "last"))
        table.add_row(f"{kind['letters']:,}", *(escape(name) for name in names))
    out().print(table if found else "no open dead letters")


def _count(kinds: dict[tuple[str, ...], dict[str, Any]], letter: Letter) -> None:
    names = ("topic", "stage", "path", "reason")
    kind = tuple(letter.why.get(name, "") for name in names)
    if kind not in kinds and len(kinds) >= KINDS_MAX:
        kind = (*kind[:2], "", "(further reasons)")
    one = kinds.setdefault(kind, dict(zip(names, kind, strict=True)) | {"letters": 0})
    one["letters"] += 1
    one["last_sent"] = iso(letter.sent_ms)
    one["last"] = f"{letter.partition}/{letter.offset}"


@_dlq.command("show")
def dlq_show(
    position: Annotated[
        str, typer.Argument(help="Where it stands among the dead letters: PARTITION/OFFSET.")
    ],
    config: Config = None,
    brokers: Brokers = None,
    raw: Annotated[bool, typer.Option("--raw", help="Write the original's bytes, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why it is one, and the original."""
    from fraudstream.errors import BusError
    from fraudstream.stream.deadletters import DeadLetters

    match = re.fullmatch(r"(\d{1,9})/(\d{1,18})", position)
    if match is None:
        raise ConfigError(f'"{position}": give PARTITION/OFFSET, as `fraudstream dlq list` shows it: 0/42')
    settings = settings_from(config, brokers)
    with progress() as advance, closing(DeadLetters(settings, advance)) as letters:
        letter = letters.at(int(match[1]), int(match[2]))
    if letter is None:
        raise BusError(
            f"{settings.topics.dlq}: there is no dead letter at {position}; `fraudstream dlq list`"
        )
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    told = {
        "position": position,
        "sent": iso(letter.sent_ms),
        **letter.why,
        "key": _text(letter.key),
        "headers": [[name, _text(value)] for name, value in letter.headers],
        "value": _text(letter.value),
    }
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        out().print(f"{name:10} {escape(str(value))}", soft_wrap=True)


@_dlq.command("replay")
def dlq_replay(
    config: Config = None,
    brokers: Brokers = None,
    stage: Stage = "",
    path: Path = "",
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send open dead letters back to the topic they came from, each once; those not chosen stay open.

    Bytes, key and headers are the original's. One that is still bad becomes a dead letter again.
    """
    from fraudstream.stream.deadletters import DeadLetters, Filter, Replayed

    chosen, done, settings = Filter(stage, path, reason), Replayed(), settings_from(config, brokers)
    with progress() as advance, closing(DeadLetters(settings, advance, "dlq replay")) as letters:
        if dry_run:
            done.replayed = sum(letters.goes_back(letter, chosen) for letter in letters.read())
        else:
            done = letters.replay(chosen)
    told = {"dry_run": dry_run, "replayed": done.replayed, "kept": done.kept, "topics": done.topics}
    if as_json:
        print_json(told | {"foreign": done.foreign})
        return
    would = "would be sent" if dry_run else "sent"
    out().print(f"{done.replayed:,} dead letters {would} back; {done.kept:,} others stay open")
    if done.foreign:
        out().print(f"{done.foreign:,} of them come from topics that the settings do not name")


def _text(octets: bytes | None) -> str | None:
    """Return bytes as text; what is no UTF-8 is escaped."""
    return None if octets is None else octets.decode("utf-8", "backslashreplace")
