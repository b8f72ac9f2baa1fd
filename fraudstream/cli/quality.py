"""The command that tracks the false-positive rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsIfNow,
    AsJson,
    Config,
    Labels,
    check_folder,
    optional_instant,
    out,
    print_json,
    progress,
    read_from,
    settings_from,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quality")(quality)


def quality(
    scored: Annotated[Place, read_from("What `fraudstream replay` wrote.")],
    labels: Labels,
    as_of: AsIfNow = None,
    report: Annotated[Path | None, typer.Option(help="Also write one HTML file with charts.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Track the false-positive rate by day: counted where labels are in, estimated where they are to come."""
    from fraudstream.console.quality import print_quality
    from fraudstream.console.quality_report import quality_report_of
    from fraudstream.training.tracked import quality_of_files

    settings = settings_from(config)
    as_of_ms = optional_instant(as_of, "--as-of")
    check_folder(report, "--report")
    with progress() as advance:
        found = quality_of_files(settings, scored, labels, as_of_ms, advance)
    if report is not None:
        report.write_text(quality_report_of(found), "utf-8")
    if as_json:
        print_json(found)
    else:
        print_quality(found, out())
