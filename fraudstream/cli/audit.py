"""`fraudstream audit`: training and serving, compared."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from fraudstream.cli.options import AsJson, Brokers, Config, out, print_json, progress, settings_from

if TYPE_CHECKING:
    from fraudstream.stream.audit import Audit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(config: Config = None, brokers: Brokers = None, as_json: AsJson = False) -> None:
    """Replay what was served, and compare its features; exit 1 if any differs or is missing."""
    from fraudstream.bus.kafka_log import KafkaLog
    from fraudstream.bus.topics import meet_broker
    from fraudstream.features import build_catalog
    from fraudstream.stream.audit import audit as compare
    from fraudstream.stream.build import warmed_engine

    settings = settings_from(config, brokers)
    meet_broker(settings, "audit")
    catalog = build_catalog(settings.features, settings.event)
    with progress() as advance, closing(KafkaLog(settings, advance)) as log:
        found = compare(
            settings,
            lambda: warmed_engine(settings, catalog),
            log.scan,
            lambda more: advance("comparing decisions", more, None),
        )
    if as_json:
        print_json(_plain(found))
    else:
        _show(found)
    sys.exit(0 if found.clean else 1)


def _plain(found: Audit) -> dict[str, object]:
    counts = ("matched", "mismatched", "missing")
    features = [
        {"name": name, **dict(zip(counts, values, strict=True))} for name, values in found.features.items()
    ]
    return {"ok": found.clean, **asdict(found), "features": features}


def _show(found: Audit) -> None:
    console = out()
    table = Table("", "matched", "mismatched", "missing", box=None)
    table.add_row("decisions", *(f"{n:,}" for n in (found.matched, found.mismatched, found.missing)))
    for name, counts in found.features.items():
        table.add_row(name, *(f"{n:,}" for n in counts))
    console.print(table)
    console.print(
        f"{found.runs} runs; {found.repeated:,} repeated, {found.superseded:,} superseded, {found.before:,} "
        f"transactions before the first decision, {found.waiting:,} waiting"
    )
    for example in found.examples:
        where = f"partition {example['partition']} offset {example['offset']}"
        console.print(f"{example['what']}: {where} {example['run']}")
