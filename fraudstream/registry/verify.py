"""What has passed the checks of its files is loaded in a child process: a damaged model can kill that one only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fraudstream.errors import ModelError
from fraudstream.registry.bundle import (
    BOOSTER,
    CALIBRATOR,
    DESCRIPTION,
    GOLDEN,
    Bundle,
    check_files,
    read_bundle,
)
from fraudstream.registry.files import read_folder
from fraudstream.registry.signing import Signed, Trust

CHILD_NICENESS = 5
CHILD_TIMEOUT_S = 300  # the first one on a machine compiles the kernels
_LAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child process ended.

    Attributes:
        code: its exit code, below 0 a signal; None: it took too long.
        out, err: the last of what it printed.
    """

    code: int | None
    out: bytes
    err: bytes


Child = Callable[[bytes], Ended]  # loads a candidate in a process of its own


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was checked of one file.

    Attributes:
        passed: `size`, `sha256`, `signature`, `form`, `loaded`, `golden rows`.
        problem: why it was refused; empty.
    """

    path: str
    bytes: int
    passed: list[str]
    problem: str


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a verification found.

    Attributes:
        version: `name/version`; the folder's name where it could not be read.
        signed: see `Signed`; status `refused` where the signature is the problem.
        problems: one line each, naming the file; empty for a good bundle.
    """

    path: str
    version: str
    signed: Signed
    golden_rows: int
    files: list[FileReport]
    problems: list[str]


def run_child(candidate: bytes) -> Ended:
    """Load a candidate in a new process; a second or two."""
    command = [sys.executable, "-m", "fraudstream.registry.probe"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err) as child:
            os.setpriority(os.PRIO_PROCESS, child.pid, CHILD_NICENESS)  # decisions go first
            try:
                child.communicate(candidate, timeout=CHILD_TIMEOUT_S)
                code: int | None = child.returncode
            except subprocess.TimeoutExpired:
                child.kill()
                code = None
        return Ended(code, last_of(out), last_of(err))


def load_bundle(folder: Path, trust: Trust, name: str = "", child: Child = run_child) -> Bundle:
    """Return a bundle that has passed every check, of its files and in a child process.

    Raises:
        ModelError: naming the file.
    """
    bundle = read_bundle(folder, trust, name)
    _, problems = _probed(bundle, child)
    if problems:
        raise ModelError(problems[0])
    return bundle


def verify_bundle(folder: Path, trust: Trust, name: str = "", child: Child = run_child) -> BundleReport:
    """Check a bundle as a worker does before it scores with it, and tell of every file.

    A child that dies (a damaged model text aborts it) is a problem like any other: this process lives on.
    """
    files: dict[str, bytes] = {}
    passed: dict[str, list[str]] = {}
    version, signed, golden_rows = folder.name, Signed("refused"), 0
    try:
        files = read_folder(folder)
        signed = trust.check(folder, files)
        bundle = check_files(folder, files, trust, name, passed)
        version = bundle.parts.version
        golden_rows, problems = _probed(bundle, child)
    except ModelError as error:
        problems = [str(error)]
    return BundleReport(
        str(folder),
        version,
        signed,
        golden_rows,
        [
            FileReport(name, len(content), passed.get(name, []), _problem_of(folder / name, problems))
            for name, content in sorted(files.items())
        ],
        problems,
    )


def _problem_of(path: Path, problems: list[str]) -> str:
    return next((line for line in problems if line.startswith(f"{path}: ")), "")


def _probed(bundle: Bundle, child: Child) -> tuple[int, list[str]]:
    """Let a child process load a bundle; return its golden rows and what is wrong."""
    wanted = (DESCRIPTION, f"{DESCRIPTION}.sha256", *bundle.described.files)
    candidate = {"folder": str(bundle.folder), "files": {name: bundle.files[name] for name in wanted}}
    ended = child(msgspec.msgpack.encode(candidate))
    at, found = BOOSTER, None
    for line in ended.out.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # half a line: the child died of it
        told: dict[str, Any] = json.loads(line)
        at = told.get("at", at)
        found = told if "problems" in told else None
    if ended.code is None:
        return 0, [f"{bundle.folder / at}: took longer than {CHILD_TIMEOUT_S} s to load"]
    if ended.code != 0 or found is None:
        return 0, [f"{bundle.folder / at}: cannot be loaded ({_why(ended)})"]
    if not found["problems"]:
        bundle.passed[BOOSTER].append("loaded")
        for name in (BOOSTER, CALIBRATOR, GOLDEN, DESCRIPTION):
            bundle.passed[name].append("golden rows")
    return int(found["golden_rows"]), list(found["problems"])


def _why(ended: Ended) -> str:
    """Say in one line how a child process died."""
    assert ended.code is not None
    died = f"exit {ended.code}" if ended.code >= 0 else signal.Signals(-ended.code).name
    lines = ended.err.decode("utf-8", "replace").strip().splitlines()  # LightGBM prints whatever it finds
    last = "".join(c if c.isprintable() else "?" for c in (lines or ["no message"])[-1])
    return f"{died}: {last[:200]}"


def last_of(file: Any) -> bytes:
    """Return the end of what was written to a file."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _LAST_BYTES))
    return bytes(file.read())
