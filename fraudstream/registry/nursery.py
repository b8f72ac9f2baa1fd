"""Children that load a candidate at once: a process that has imported and compiled everything forks each of them.

What a child does is what `probe` does in a new process; only its imports are spared, some two seconds of a core that
a worker at full load does not have. The process itself never calls LightGBM, whose threads a fork would lose. It
ends with its parent, as its stdin does.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from typing import IO

import msgspec

from fraudstream.registry.probe import answer, go_first
from fraudstream.registry.verify import CHILD_TIMEOUT_S, Ended, last_of, run_child
from fraudstream.scoring.forest import compile_forest
from fraudstream.scoring.trees import read_trees
from fraudstream.scoring.treeshap import compile_treeshap

NICENESS = 19
STARTS_WITHIN_S = 10.0  # on cores that are full it may take much longer; a new process is quicker then

# A fork takes one thread along: libraries are not to start more while they are imported.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class Nursery:
    """The other end: a `Child`. Where the process has died, a new one loads the candidate, and another is started.

    Args:
        booster: text of a model that its kernels are compiled on.
    """

    def __init__(self, booster: str) -> None:
        self._booster = booster.encode()
        self._turn = threading.Lock()  # one candidate at a time
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def __call__(self, candidate: bytes) -> Ended:
        """Load a candidate in a process of its own."""
        if not self._turn.acquire(timeout=STARTS_WITHIN_S):
            return run_child(candidate)
        try:
            with suppress(OSError, EOFError):
                return self._asked(candidate)
            self._end()
        finally:
            self._turn.release()
        ended = run_child(candidate)
        self._start()
        return ended

    def close(self) -> None:
        """End it."""
        with self._turn:
            self._end()

    def _start(self) -> None:
        """Start the process; it takes a model's text when it has imported all, which nobody waits for here."""
        threading.Thread(target=self._begin, name="nursery", daemon=True).start()

    def _begin(self) -> None:
        with self._turn, suppress(OSError):
            if self._process is None:
                self._process = self._started()
                _write(self._process.stdin, self._booster)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraudstream.registry.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # a Ctrl-C is the worker's
        )
        os.setpriority(
            os.PRIO_PROCESS, process.pid, NICENESS
        )  # it starts when the worker has most to catch up with
        return process

    def _asked(self, candidate: bytes) -> Ended:
        """Let it load a candidate; raises OSError or EOFError where it is not there any more."""
        if self._process is None:
            raise EOFError
        _write(self._process.stdin, candidate)
        assert self._process.stdout is not None
        answered, _, _ = select.select([self._process.stdout], [], [], CHILD_TIMEOUT_S)
        if not answered:
            os.killpg(self._process.pid, signal.SIGKILL)  # the child, too
            return Ended(None, b"", b"")
        return msgspec.msgpack.decode(_read(self._process.stdout), type=Ended)


def serve() -> None:
    """Fork a child for each candidate on stdin, until that is closed; raises EOFError then."""
    go_first()
    trees = read_trees(_read(sys.stdin.buffer).decode())
    X = trees.probes(16)
    compile_forest(trees).raw_scores(X)
    treeshap = compile_treeshap(trees)
    treeshap.contributions(X[:1])
    treeshap.contributions(X)
    while True:
        _write(sys.stdout.buffer, msgspec.msgpack.encode(_forked(_read(sys.stdin.buffer))))


def _forked(candidate: bytes) -> Ended:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                answer(candidate)
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)  # RLIMIT_CPU ends one that does not end
        return Ended(os.waitstatus_to_exitcode(status), last_of(out), last_of(err))


def _write(to: IO[bytes] | None, content: bytes) -> None:
    assert to is not None
    to.write(struct.pack("<Q", len(content)))
    to.write(content)
    to.flush()


def _read(source: IO[bytes] | None) -> bytes:
    assert source is not None
    head = source.read(8)
    if len(head) < 8:
        raise EOFError
    return source.read(struct.unpack("<Q", head)[0])


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError):
        serve()
