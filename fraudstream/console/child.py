"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def ends_with_parent() -> Callable[[], None] | None:
    """Return a `preexec_fn` whose process gets SIGTERM when its parent ends, however that is; None: not on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after a fork little is safe

    def set_signal() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return set_signal
