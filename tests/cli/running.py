"""The command line as a person runs it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def last_object(self) -> Any:
        """Return the last line of stdout, read as JSON."""
        return json.loads(self.out.strip().splitlines()[-1])

    def one_line(self) -> str:
        """Return the only line of stderr; fails when there are more, or when stdout has any."""
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def environment(**variables: str) -> Mapping[str, str]:
    """Return this process's environment without what would choose settings, and with some variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRAUDSTREAM_")}
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TERM": "dumb", **variables}


def started(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start `python -m fraudstream` with pipes for its output; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "fraudstream", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fraudstream(
    *arguments: str | Path, cwd: str | Path | None = None, given: str = "", **variables: str
) -> Ended:
    """Run `python -m fraudstream` and wait for its end.

    Args:
        given: what it reads from stdin.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "fraudstream", *map(str, arguments)],
        cwd=cwd or REPOSITORY,
        env=environment(**variables),
        input=given,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
