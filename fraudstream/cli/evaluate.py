"""The command that judges models on later outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsJson,
    Config,
    JudgedAt,
    Labels,
    check_folder,
    optional_instant,
    out,
    print_json,
    progress,
    read_from,
    settings_from,
)
from fraudstream.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    labels: Labels,
    transactions: Annotated[
        Place | None, read_from("Parquet, NDJSON or CSV files of transactions, in log order.")
    ] = None,
    scored: Annotated[
        Place | None, read_from("Instead of transactions: what `fraudstream replay` wrote.")
    ] = None,
    model: Annotated[str, typer.Option(help="A version, an alias, or a bundle's folder.")] = "champion",
    against: Annotated[
        list[str] | None, typer.Option(help="Another one on the same transactions; may be repeated.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Judge transactions from here on (ISO 8601); default: after the models' own windows.",
        ),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Judge those before this instant.")] = None,
    as_of: JudgedAt = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            help="A field, or a filter such as 'channel = \"online\" and amount >= 100'; may be repeated."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Cards a day of card precision@k.")] = 100,
    resamples: Annotated[
        int, typer.Option(min=20, max=100_000, help="Draws of the bootstrap, for the intervals.")
    ] = 200,
    baselines: Annotated[bool, typer.Option(help="Also judge simple scores that need no model.")] = True,
    report: Annotated[Path | None, typer.Option(help="Also write a report to this HTML file.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Judge models on mature transactions, beside each other and simple baselines, week by week."""
    from fraudstream.console.evaluation import print_evaluation
    from fraudstream.console.report import report_of
    from fraudstream.training.judge import Request, evaluate_files

    if (transactions is None) == (scored is None):
        raise ConfigError("evaluate: give either --transactions or --scored")
    if scored is not None and (against or segment or model != "champion"):
        raise ConfigError("--scored: --model, --against and --segment need --transactions instead")
    check_folder(report, "--report")
    request = Request(
        labels=labels,
        transactions=transactions,
        scored=scored,
        models=[model, *(against or [])],
        from_ms=optional_instant(start, "--from"),
        to_ms=optional_instant(end, "--to"),
        as_of_ms=optional_instant(as_of, "--as-of"),
        segments=segment or [],
        cards_a_day=k,
        resamples=resamples,
        baselines=baselines,
    )
    with progress() as advance:
        found = evaluate_files(settings_from(config), request, advance)
    if report is not None:
        report.write_text(report_of(found), "utf-8")
    if as_json:
        print_json(found)
    else:
        print_evaluation(found, out())
