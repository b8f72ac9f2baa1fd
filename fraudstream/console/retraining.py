"""A round of retraining in a process of its own, at low priority and with a limit on its memory.

It can neither slow a worker nor take its memory, and whatever becomes of it, its parent says so in one line. It ends
with its parent: the pipe that its order comes through stays open for as long as that lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from typing import Any

import msgspec
from rich.console import Console

from fraudstream.console.progress import progress_on
from fraudstream.errors import FraudstreamError, ModelError
from fraudstream.training.retrain import Order, retrain

NICENESS = 10
_LOOK_S = 0.2


def retrain_apart(order: Order, halt: threading.Event) -> dict[str, Any]:
    """Do a round in a process of its own; its progress goes to stderr.

    Args:
        halt: ends it when it is set.

    Raises:
        ModelError: it failed, was out of memory, or was ended.
    """
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, "-m", "fraudstream.console.retraining"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as child:
            try:
                assert child.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # its end is told below
                    child.stdin.write(msgspec.json.encode(order) + b"\n")
                    child.stdin.flush()
                while child.poll() is None and not halt.wait(_LOOK_S):
                    pass
            finally:
                child.terminate()
        out.seek(0)
        said = out.read()
    if halt.is_set():
        raise ModelError("retraining was stopped; the champion is as it was")
    return _answer(said, child.returncode, order)


def _answer(said: bytes, code: int, order: Order) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        limit = f" (its limit is --memory-mb {order.memory_mb})" if order.memory_mb else ""
        raise ModelError(
            f"retraining ended with {code}, the reason stands above; where nothing does it was killed, or out of "
            f"memory{limit}; the champion is as it was"
        ) from None
    if "error" in answer:
        raise ModelError(f"retraining failed: {answer['error']}")
    return answer


def main() -> int:
    """Read the order, do the round, print the answer; return the exit code."""
    os.nice(NICENESS)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if order.memory_mb:
        octets = order.memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (octets, octets))
    try:
        with progress_on(Console(stderr=True)) as advance:
            answer = retrain(order, advance)
    except FraudstreamError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    except MemoryError:
        said = f"training needs more memory than --memory-mb {order.memory_mb}; the champion is as it was"
        print(json.dumps({"error": said}))
        return 1
    print(json.dumps(answer))
    return 0


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # a thread in `sys.stdin` would disturb Python's own end
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
