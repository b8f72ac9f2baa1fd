"""A process that does not outlive the one that started it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# It asks Linux for the signal and becomes the command. A `preexec_fn` could do the same, but code between fork and
# exec may deadlock in a process that has threads (librdkafka's), and Python 3.12 warns of it. The parent is compared
# in case it has died before.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]))  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""


def ending_with_parent(command: Sequence[str], by: signal.Signals) -> list[str]:
    """Return a command line for a process that gets a signal when the thread that starts it ends; only Linux can.

    Args:
        command: its first word is a path.
        by: the signal.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(int(by)), *command]
