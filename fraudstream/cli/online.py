"""Commands that run: worker, demo."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudstream.cli.options import AsJson, Brokers, Config, print_json, settings_from


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("worker")(worker)
    app.command("demo")(demo)


def worker(
    config: Config = None,
    brokers: Brokers = None,
    model: Annotated[
        str | None, typer.Option(help="A version or an alias; default: [model] version.")
    ] = None,
    warm: Annotated[
        str | None, typer.Option(help="Files of earlier transactions that the state starts from.")
    ] = None,
    web_port: Annotated[int | None, typer.Option(help="Port of /metrics, /livez, /readyz; 0: none.")] = None,
) -> None:
    """Score transactions from Kafka until stopped (SIGTERM, Ctrl-C)."""
    from fraudstream.features import build_catalog
    from fraudstream.stream.build import build_worker
    from fraudstream.stream.host import create_app, run_app
    from fraudstream.stream.models import load_model

    settings = settings_from(
        config, brokers, model__version=model, worker__warm=warm, worker__web_port=web_port
    )
    catalog = build_catalog(settings.features, settings.event)
    parts = load_model(settings, catalog, settings.model.version)  # here: what is wrong is said at once
    sys.exit(run_app(create_app(settings, functools.partial(build_worker, settings, parts)), settings))


def demo(
    brokers: Annotated[
        str | None, typer.Option("--brokers", help="Run on this Kafka instead of the built-in broker.")
    ] = None,
    transactions: Annotated[int, typer.Option(min=1000, help="Live transactions to play.")] = 30_000,
    rate: Annotated[float, typer.Option(min=10, help="Live transactions a second.")] = 1500.0,
    seed: Annotated[int, typer.Option(help="The same seed plays the same world.")] = 7,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep data, model and settings in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole way on this machine: history, training, a live worker under attack, alerts with reasons."""
    from fraudstream.console.demo import DemoPlan, run_demo

    result = run_demo(DemoPlan(brokers, transactions, rate, seed, keep), quiet=as_json)
    if as_json:
        print_json(result)
