"""Each peer's own environment in `.cache/peers/`, made at the first run as a user would make it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "peers"


class NotInstalled(Exception):  # noqa: N818  # not an error: the others are measured
    """Why a peer is not measured."""


def python_of(environment: str) -> Path:
    """Return the interpreter of a virtual environment that has what `requirements/ENVIRONMENT.txt` pins."""
    pinned = HERE / "requirements" / f"{environment}.txt"
    folder = CACHE / environment
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != pinned.read_text("utf-8"):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pinned)])
        stamp.write_text(pinned.read_text("utf-8"), "utf-8")
    return python


def class_path() -> str:
    """Return the class path of the Kafka Streams peer, compiled with all it needs."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise NotInstalled(f"{program} is not there; Java 17 and Maven are needed")
    made = CACHE / "kafka_streams"
    _run(
        ["mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(HERE / "kafka_streams" / "pom.xml"),
         f"-Dmade={made}", "compile", "dependency:copy-dependencies"]
    )  # fmt: skip
    return f"{made / 'classes'}:{made / 'dependency' / '*'}"


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).strip().splitlines() or [f"{command[0]} failed"]
        raise NotInstalled(next((line for line in said if line.startswith(("ERROR", "[ERROR]"))), said[-1]))
