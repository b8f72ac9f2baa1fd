"""What a result was measured on, and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def about_machine(*also: str) -> dict[str, object]:
    """Return processor, cores, versions (of these packages too) and commit, for a row of results."""
    names = ("confluent-kafka", "lightgbm", "numba", "numpy", "msgspec", *also)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "commit": _commit(),
    }


def with_machine(result: dict[str, Any], *also: str) -> dict[str, Any]:
    """Return a result with the commit and the machine behind it."""
    machine = about_machine(*also)
    return result | {"commit": machine.pop("commit"), "machine": machine}


def record(name: str, result: dict[str, Any]) -> None:
    """Append a row to results/NAME.jsonl."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(result) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    root = Path(__file__).parent
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
