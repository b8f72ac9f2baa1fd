"""The log of promotions: which model took whose place, when, by whom and why. Lines are only ever added.

It stands beside the versions as `promotions.ndjson`.
"""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any, Literal

import msgspec

from fraudstream.clock import iso, now_ms
from fraudstream.errors import ModelError
from fraudstream.registry.registry import CHAMPION, Registry

LOG = "promotions.ndjson"

Act = Literal["first", "promoted", "refused", "forced", "rolled back", "trained"]


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        at: ISO 8601.
        by: who, on which machine.
        act: `refused` changed nothing; `trained` is `train --promote`, which no gate has seen.
        before, after: version of the champion; empty: there was none.
        reason: the person's, the sentinel's or the gate's.
        figures: what the gate or the sentinel measured.
    """

    at: str
    by: str
    act: Act
    before: str
    after: str
    reason: str = ""
    figures: dict[str, Any] = {}


def promote_recorded(
    registry: Registry, version: str, act: Act, reason: str = "", figures: dict[str, Any] | None = None
) -> dict[str, str]:
    """Make a version the champion and add the line; return the aliases.

    Raises:
        ModelError: there is no such version, or a file cannot be written.
    """
    chosen = registry.path_of(version).name
    before = registry.aliases().get(CHAMPION, "")
    aliases = registry.promote(chosen)
    record(registry, act, (before, chosen), reason, figures)
    return aliases


def record(
    registry: Registry,
    act: Act,
    champions: tuple[str, str],
    reason: str = "",
    figures: dict[str, Any] | None = None,
) -> None:
    """Add a line.

    Args:
        champions: before and after.

    Raises:
        ModelError: it cannot be written.
    """
    before, after = champions
    entry = Promotion(
        at=iso(now_ms()), by=_who(), act=act, before=before, after=after, reason=reason, figures=figures or {}
    )
    path = _path(registry)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from None


def history(registry: Registry) -> list[Promotion]:
    """Return the lines, oldest first.

    Raises:
        ModelError: one is none.
    """
    path = _path(registry)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=Promotion))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ModelError(f"{path} line {number}: {' '.join(str(error).split())}") from None
    return found


def _path(registry: Registry) -> Path:
    return registry.folder / LOG


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container's user may have no name
    return f"{user}@{socket.gethostname()}"
