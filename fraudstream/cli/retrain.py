"""The command that trains again: retrain."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from fraudstream.cli.options import (
    AsJson,
    Config,
    RegistryFolder,
    optional_instant,
    period_ms,
    print_json,
    settings_from,
)
from fraudstream.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("retrain")(retrain)


def retrain(
    every: Annotated[
        str | None, typer.Option(help='Again after this long ("1d"), until stopped; default: once.')
    ] = None,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="First let the promotion gate judge the challenger that is there."),
    ] = False,
    archive: Annotated[
        str | None, typer.Option(help="Folder or s3:// URI of the archive; default: [archive] uri.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="The label ledger; default: the archive's labels.")
    ] = None,
    registry: RegistryFolder = None,
    as_of: Annotated[
        str | None, typer.Option(help="Train as if it were this instant (ISO 8601); default: now.")
    ] = None,
    sign_key: Annotated[
        Path | None, typer.Option("--sign-key", help="Sign the model with the private key in this file.")
    ] = None,
    memory_mb: Annotated[
        int, typer.Option(min=0, help="Limit on the memory of the process that trains; 0: none.")
    ] = 0,
    textfile: Annotated[
        Path | None, typer.Option(help="Once: write the metrics to this file, for node_exporter's collector.")
    ] = None,
    web_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="With --every: port of /metrics and /livez; 0: none.")
    ] = 6067,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Train on the archive in a process of its own, and make the model the challenger. The champion stays."""
    from fraudstream.bus.place import place_of
    from fraudstream.console.retraining import retrain_apart
    from fraudstream.registry.signing import read_private_key
    from fraudstream.training.retrain import Order

    if every is not None and (as_of is not None or textfile is not None or as_json):
        raise ConfigError(
            "--every: goes with none of --as-of, --textfile, --json; the log and /metrics say how it ended"
        )
    settings = settings_from(
        config,
        archive__uri=archive,
        model__registry=None if registry is None else str(registry),
        worker__web_port=web_port,
    )
    place_of(settings.archive.uri, "archive.uri")  # what is wrong is said at once
    if labels is not None:
        place_of(labels, "--labels")
    if sign_key is not None:
        read_private_key(sign_key)
    order = Order(
        settings=settings,
        labels=labels or "",
        as_of_ms=optional_instant(as_of, "--as-of"),
        promote=promote,
        sign_key="" if sign_key is None else str(sign_key),
        memory_mb=memory_mb,
    )
    if every is not None:
        from fraudstream.stream.host import run_app
        from fraudstream.stream.schedule import create_schedule

        every_s = period_ms(every, "--every") / 1000
        work = functools.partial(retrain_apart, order)
        sys.exit(run_app(create_schedule(settings, every_s, work), settings))
    halt = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: halt.set())
    result = _measured(functools.partial(retrain_apart, order, halt), textfile)
    if as_json:
        print_json(result)
    else:
        _tell(result, settings.model.name)


def _tell(result: dict[str, Any], name: str) -> None:
    gate = result["gate"]
    if gate is not None:
        said = "is the champion" if gate["promoted"] else f"is not promoted: {'; '.join(gate['reasons'])}"
        print(f"{name}/{gate['version']} {said}")
    print(
        f"{result['model']} is in {result['path']}, the {'champion' if result['champion'] else 'challenger'}"
    )


def _measured(work: Any, textfile: Path | None) -> dict[str, Any]:
    """Do the work; write how it ended where that is asked for."""
    from fraudstream.clock import monotonic_s, now_ms
    from fraudstream.metrics import RetrainMetrics

    began_s, failed, metrics = monotonic_s(), True, RetrainMetrics()
    if textfile is not None and not textfile.parent.is_dir():
        raise ConfigError(f"--textfile = {textfile}: the folder {textfile.parent} does not exist")
    try:
        result: dict[str, Any] = work()
        failed = False
    finally:
        if textfile is not None:
            metrics.ended(failed, monotonic_s() - began_s, now_ms())
            temporary = textfile.with_name(f".{textfile.name}.part")
            temporary.write_bytes(metrics.exposition())
            temporary.replace(textfile)
    return result
