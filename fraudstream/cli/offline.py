"""Commands that work on files: simulate, train, replay, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsJson,
    Brokers,
    Config,
    JudgedAt,
    Labels,
    RegistryFolder,
    instant,
    optional_instant,
    out,
    print_json,
    progress,
    read_from,
    settings_from,
    written_to,
)
from fraudstream.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("simulate")(simulate)
    app.command("train")(train)
    app.command("replay")(replay)
    app.command("calibration")(calibration)


def simulate(
    to: Annotated[
        Path | None, written_to("--to", help="Folder for transactions/, labels/ and truth/.")
    ] = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Send to the topics instead of (or besides) files.")
    ] = False,
    file_format: Annotated[str, typer.Option("--format", help="parquet or ndjson.")] = "parquet",
    customers: Annotated[int, typer.Option(min=1, help="Number of cards.")] = 2000,
    merchants: Annotated[int, typer.Option(min=1, help="Number of merchants.")] = 400,
    days: Annotated[int, typer.Option(min=1, help="Days to simulate.")] = 60,
    start: Annotated[str, typer.Option(help="First day, ISO 8601.")] = "2025-01-01",
    per_day: Annotated[
        float, typer.Option("--per-customer-day", help="Mean transactions of a card a day.")
    ] = 2.0,
    fraud_rate: Annotated[float, typer.Option(help="Share of transactions that are fraud.")] = 0.006,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.")] = 7,
    peak_day: Annotated[
        int, typer.Option(help="Day (from 0) with about three times the volume; past the end: never.")
    ] = 50,
    new_pattern_day: Annotated[
        int, typer.Option(help="Day (from 0) on which a new fraud begins; past the end: never.")
    ] = 42,
    rate: Annotated[float | None, typer.Option(help="To Kafka: transactions a second.")] = None,
    speed: Annotated[float | None, typer.Option(help="To Kafka: seconds of event time a second.")] = None,
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Make a labelled world of transactions: to files, or to Kafka at a rate, at a speed, or at once."""
    from fraudstream import simulate as world
    from fraudstream.simulate.write import send_world, write_world

    if to is None and not kafka:
        raise ConfigError("simulate: give --to DIR, --kafka, or both")
    if file_format not in ("parquet", "ndjson"):
        raise ConfigError(f'--format = "{file_format}": give parquet or ndjson')
    if rate is not None and speed is not None:
        raise ConfigError("--rate and --speed: give one of them")
    made = world.simulate(
        world.WorldConfig(
            customers=customers,
            merchants=merchants,
            start_ms=instant(start, "--start"),
            days=days,
            transactions_per_customer_day=per_day,
            fraud_rate=fraud_rate,
            seed=seed,
            peak_day=peak_day,
            new_pattern_day=new_pattern_day,
        )
    )
    frauds = int(made.truth["is_fraud"].to_numpy(zero_copy_only=False).sum())
    result: dict[str, Any] = {
        "transactions": len(made.transactions),
        "frauds": frauds,
        "labels": len(made.labels),
    }
    if to is not None:
        write_world(made, to, file_format)
        result["path"] = str(to)
    if kafka:
        with progress() as advance:
            result["sent"] = send_world(made, settings_from(config, brokers), rate, speed, advance)
    if as_json:
        print_json(result)
    else:
        print(", ".join(f"{name} {value}" for name, value in result.items()))


def train(
    transactions: Annotated[Place, read_from("Parquet, NDJSON or CSV files of transactions.")],
    labels: Labels,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Train as if it were this instant (ISO 8601); default: now, or when all is mature."
        ),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it the champion; the first model always is.")
    ] = False,
    tune: Annotated[
        int | None,
        typer.Option(min=0, help="Try so many parameters (needs optuna); default: [training] tune_trials."),
    ] = None,
    registry: RegistryFolder = None,
    sign_key: Annotated[
        Path | None, typer.Option("--sign-key", help="Sign it with the private key in this file.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on what was known at an instant, and put it into the registry."""
    from fraudstream.registry.signing import read_private_key
    from fraudstream.training.run import train_from_files

    settings = settings_from(
        config, model__registry=None if registry is None else str(registry), training__tune_trials=tune
    )
    if promote and sign_key is None and settings.model.require_signature:
        raise ConfigError("--promote: needs --sign-key, since model.require_signature is on")
    key = None if sign_key is None else read_private_key(sign_key)
    as_of_ms = optional_instant(as_of, "--as-of")
    with progress() as advance:
        result = train_from_files(settings, transactions, labels, as_of_ms, promote, advance, key)
    if as_json:
        print_json(result)
        return
    print((Path(result["path"]) / "report" / "report.md").read_text("utf-8"))
    print(
        f"{result['model']} is in {result['path']}" + (" and is the champion" if result["champion"] else "")
    )


def replay(
    transactions: Annotated[Place, read_from("Parquet, NDJSON or CSV files of transactions, in log order.")],
    output: Annotated[Path, written_to("--output", "-o", help="Parquet file to write.")],
    labels: Annotated[
        Place | None,
        read_from(
            "Parquet, NDJSON or CSV files of labels with known_at (Unix ms), where features are fed by them."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Earlier transactions only warm the state (ISO 8601).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Transactions from here on are left out (ISO 8601).")
    ] = None,
    features: Annotated[bool, typer.Option("--features", help="Write the feature columns too.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A version, an alias, or a bundle's folder; default: [model] version.")
    ] = None,
    challenger: Annotated[str, typer.Option(help="Another model: write what it would decide too.")] = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Score files offline, through the same code as the worker."""
    from fraudstream.training.replay import ReplayPlan
    from fraudstream.training.run import replay_files

    settings = settings_from(config, model__version=model)
    from_ms = optional_instant(start, "--from")
    end_ms = optional_instant(end, "--to")
    if from_ms is not None and end_ms is not None and from_ms >= end_ms:
        raise ConfigError(f"--from {start} --to {end}: give an end after the start")
    plan = ReplayPlan(transactions, output, labels, from_ms, end_ms, features, challenger)
    with progress() as advance:
        result = replay_files(settings, plan, advance)
    if as_json:
        print_json(result)
        return
    counts = ", ".join(
        f"{result[name]} {name}" for name in ("transactions", "repeated", "alerts", "rejected")
    )
    print(f"{counts} -> {output}")
    for example in result["rejected_examples"][:10]:
        typer.echo(f"rejected: {example}", err=True)


def calibration(
    scored: Annotated[Place, read_from("What `fraudstream replay` wrote.")],
    labels: Labels,
    as_of: JudgedAt = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="A promised false-positive rate, 0.001 for 0.1 %; may be repeated. Default: 0.1, 0.5, 1 %."
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare promised false-positive rates and probabilities with what happened, week by week."""
    from fraudstream.console.promises import print_promises
    from fraudstream.training.promised import PROMISED, promises_of_files

    settings = settings_from(config)
    as_of_ms = optional_instant(as_of, "--as-of")
    with progress() as advance:
        result = promises_of_files(settings, scored, labels, as_of_ms, rate or PROMISED, advance)
    if as_json:
        print_json(result)
    else:
        print_promises(result, out())
