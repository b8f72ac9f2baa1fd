"""argv -> settings -> objects -> run: the only place that wires things.

Every command says errors in one line on stderr and exits with 1, with 2 for wrong usage or configuration,
and with 3 for a refused promotion. What is meant for machines goes to stdout as JSON with `--json`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fraudstream.cli import (
    acls,
    alerts,
    archive,
    audit,
    dlq,
    evaluate,
    explain,
    features,
    inspect,
    labels,
    offline,
    online,
    quality,
    retrain,
    sentinel,
    verdict,
)
from fraudstream.errors import FraudstreamError

app = typer.Typer(
    name="fraudstream",
    help="Real-time transaction fraud detection on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take `[sentinel]` for a style; and plain help is twice as quick
    context_settings={"max_content_width": 118},
)
inspect.register(app)
acls.register(app)
features.register(app)
offline.register(app)
evaluate.register(app)
sentinel.register(app)
quality.register(app)
labels.register(app)
online.register(app)
alerts.register(app)
verdict.register(app)
audit.register(app)
explain.register(app)
dlq.register(app)
archive.register(app)
retrain.register(app)


def _version(asked: bool) -> None:
    if asked:
        from fraudstream import __version__

        print(f"fraudstream {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    from fraudstream.logs import configure_logs  # not for --help, nor for each word that a shell completes

    configure_logs()


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FraudstreamError as error:
        print(f"fraudstream: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone, as `head` does
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
