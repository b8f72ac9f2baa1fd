"""Servers in Java that tests start: their jars by Maven, a process that ends with its parent, free ports."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from fraudstream.console.child import ending_with_parent

CACHE = Path(__file__).resolve().parents[1] / ".cache"
DOWNLOAD_TIMEOUT_S = 600.0

# Below the ranges from which Linux and macOS take the ports of outgoing connections: from there, a client
# that reconnects to a server that is down could be given the server's own port, and keep it from coming back.
_PORTS = range(20_000, 32_000)


class Unavailable(RuntimeError):  # noqa: N818 - no failure: tests skip on it
    """No server can run here: install what the message names, or name a server that runs."""


def skip_or_fail_without(command: Callable[[], object]) -> None:
    """Skip a test where a server that it needs cannot run; fail it on a build server (`CI=true`).

    Args:
        command: makes the server's command line, or raises Unavailable.
    """
    import pytest  # benchmarks start servers without it

    if (reason := _why_not(command)) is None:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@cache
def _why_not(command: Callable[[], object]) -> str | None:
    try:
        command()
    except Unavailable as reason:
        return str(reason)
    return None


def java(otherwise: str) -> str:
    """Return the path of Java. Raises Unavailable, with what to do otherwise."""
    found = shutil.which("java")
    if found is None:
        raise Unavailable(f"install Java 17 or later{otherwise}")
    return found


def jars(folder: Path, pom: Path, wanted: str, otherwise: str) -> Path:
    """Return a folder of jars; Maven fills it at the first call on a machine.

    Several processes may call it at once, and any may be interrupted: the folder appears when it is complete.

    Args:
        wanted: pattern of the jar that must be there.
        otherwise: what to do without Maven.

    Raises:
        Unavailable: there are no jars, and no Maven, or it does not get them.
    """
    if any(folder.glob(wanted)):
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"install Maven (mvn){otherwise}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(folder.glob(wanted)):  # else another process filled it while we waited
            _download(maven, folder, pom, wanted)
    return folder


def launched(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start Java; it ends with the thread that calls this, for whatever reason, on Linux."""
    with log.open("ab") as out:
        return subprocess.Popen(
            ending_with_parent(command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for us; we then end the server
        )


def free_ports(port: int | None, count: int) -> list[int]:
    """Return ports, first the given one, if any: free now, but not reserved."""
    found = [] if port is None else [port]
    chance = secrets.SystemRandom()  # not the seeded one: two test runs would choose alike
    for candidate in chance.sample(_PORTS, k=1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        if candidate not in found:
            found.append(candidate)
        if len(found) == count:
            return found
    raise RuntimeError(f"no free ports from {_PORTS.start} to {_PORTS.stop - 1}")


def _download(maven: str, folder: Path, pom: Path, wanted: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=folder.name + ".partial-") as partial:
        filled = Path(partial) / "jars"
        command = [maven, "-q", "-B", "-Dstyle.color=never", "-f", str(pom), "dependency:copy-dependencies"]
        command.append(f"-DoutputDirectory={filled}")
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"Maven took over {DOWNLOAD_TIMEOUT_S:g} s for the jars of {pom}") from error
        if ended.returncode != 0 or not any(filled.glob(wanted)):
            said = (ended.stdout + ended.stderr).strip().splitlines() or ["nothing"]
            raise Unavailable(f"Maven could not fetch the jars of {pom}; it says: {said[0]}")
        filled.rename(folder)
