"""The product's own commands as a person runs them, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
HANDBOOK = EXAMPLES / "handbook" / "fraudstream.toml"


def say(what: str) -> None:
    """Tell a person what goes on."""
    print(f"benchmark: {what} ...", file=sys.stderr, flush=True)


def environment_of(folder: Path, partitions: int) -> dict[str, str]:
    """Return this process's environment with settings for a run of its own: registry, topics, group, port.

    Of settings in the environment only those of `[training]` are kept.
    """
    own = re.compile(r"FRAUDSTREAM_(?!TRAINING__)\w+__")
    kept = {name: value for name, value in os.environ.items() if not own.match(name)}
    unique = f"handbook-{secrets.token_hex(4)}"
    topics = ("transactions", "labels", "decisions", "alerts", "dlq", "features")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "FRAUDSTREAM_MODEL__REGISTRY": str(folder / "models"),
        **{f"FRAUDSTREAM_TOPICS__{name.upper()}": f"{unique}.{name}" for name in topics},
        "FRAUDSTREAM_TOPICS__PARTITIONS": str(partitions),
        "FRAUDSTREAM_WORKER__GROUP": unique,
        "FRAUDSTREAM_WORKER__WEB_PORT": str(port),
        "FRAUDSTREAM_WORKER__WARM": str(folder / "log" / "0-warm"),
    }


def fraudstream(*arguments: str, environment: dict[str, str], config: Path = HANDBOOK) -> Any:
    """Run one command of the product with a configuration; return its JSON."""
    said = command(["-m", "fraudstream", *arguments, "-c", str(config), "--json"], environment)
    return json.loads(said.splitlines()[-1])


def command(arguments: list[str], environment: dict[str, str] | None = None) -> str:
    """Run Python with these arguments; return its standard output, or end with the last line of its errors."""
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or ["it said nothing"]
        raise SystemExit(f"benchmarks: {arguments[:3]}: {lines[-1]}")
    return ended.stdout
