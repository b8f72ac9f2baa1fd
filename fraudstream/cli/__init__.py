"""argv -> settings -> objects -> run: the only place that wires things.

Every command says errors in one line on stderr and exits with 1, with 2 for wrong usage or configuration,
and with 3 for a refused promotion. What is meant for machines goes to stdout as JSON with `--json`.
"""

from __future__ import annotations

import os
import sys

import typer

from fraudstream.cli import (
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
)
from fraudstream.errors import FraudstreamError
from fraudstream.logs import configure_logs

app = typer.Typer(
    name="fraudstream",
    help="Real-time transaction fraud detection on Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
inspect.register(app)
features.register(app)
offline.register(app)
evaluate.register(app)
sentinel.register(app)
quality.register(app)
labels.register(app)
online.register(app)
audit.register(app)
explain.register(app)
dlq.register(app)
archive.register(app)
retrain.register(app)


def main() -> None:
    """Run the command line."""
    configure_logs()
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
