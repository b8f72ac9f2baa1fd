"""A child that is asked to ends when its parent is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.cli.running import environment
from tests.kafka.deployment import eventually

PARENT = """
import shutil, signal, subprocess, sys, time
from fraudstream.console.child import ending_with_parent
command = [shutil.which("sleep"), "60"]
if sys.argv[1] == "asked":
    command = ending_with_parent(command, signal.SIGTERM)
print(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[0] != b"Z"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_a_killed_parent_takes_its_child_along() -> None:
    children = []
    for way in ("asked", "left"):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, way], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert parent.stdout is not None
        children.append(int(parent.stdout.readline()))
        parent.kill()
        parent.communicate()
    asked, left = children
    try:
        eventually(lambda: not alive(asked), 10, "the child has ended")
        assert alive(left)  # it is the signal that did it
    finally:
        os.kill(left, 9)
