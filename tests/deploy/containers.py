"""What compose file and Kubernetes base have in common to be checked."""

from __future__ import annotations

from collections.abc import Sequence

from typer.testing import CliRunner

from fraudstream.cli import app


def accepted(words: Sequence[str]) -> bool:
    """Tell whether the command line has this command with these options."""
    ended = CliRunner().invoke(app, [*words, "--help"])
    return ended.exit_code == 0 and f"Usage: fraudstream {' '.join(words[:1])}" in ended.output
