"""`fraudstream labels`: what the label ledger holds and where it contradicts itself; and more into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsJson,
    Config,
    optional_instant,
    print_json,
    progress,
    read_from,
    settings_from,
    written_to,
)

_labels = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(
        _labels, name="labels", help="Look at the label ledger, and add to it.", no_args_is_help=True
    )


@_labels.command("report")
def labels_report(
    labels: Annotated[Place, read_from("The ledger: Parquet, NDJSON or CSV files of labels.")],
    transactions: Annotated[
        Place | None, read_from("Their transactions: also report orphans, coverage and silences.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Only what was known at this instant (ISO 8601); default: all.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Count labels by source, reversals, conflicts, labels of unknown transactions, and times without any label."""
    from fraudstream.training.labels import report_labels

    settings = settings_from(config)
    as_of_ms = optional_instant(as_of, "--as-of")
    with progress() as advance:
        found = report_labels(settings, labels, transactions, as_of_ms, advance)
    if as_json:
        print_json(found)
        return
    for kind in found.pop("sources"):
        print(f"{kind['source'] or '(no source)'}: {kind['label']} {kind['labels']}")
    for name, value in found.items():
        if not isinstance(value, list):
            print(f"{name.replace('_', ' ')}: {value}")
        for example in value if isinstance(value, list) else ():
            text = ", ".join(f"{k} {v}" for k, v in example.items()) if isinstance(example, dict) else example
            print(f"  {name.replace('_', ' ')}: {text}")


@_labels.command("import")
def labels_import(
    labels: Annotated[Place, read_from("Parquet, NDJSON or CSV files of labels.")],
    to: Annotated[Path, written_to("--to", help="The ledger's folder; made if it is not there.")],
    as_json: AsJson = False,
) -> None:
    """Append labels to a ledger as one more Parquet file; what it holds already is not added again."""
    from fraudstream.training.labels import import_labels

    found = import_labels(labels, to)
    if as_json:
        print_json(found)
        return
    print(f"{found['added']} added, {found['held']} held already, {found['backdated']} backdated")
