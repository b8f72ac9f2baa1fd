"""Child processes by the hundred: a process that has imported and compiled everything forks one for each candidate.

What a child does is what `fraudstream.registry.probe` does in a new process; only its imports are spared, a second or
two each. This process itself never calls LightGBM, whose threads a fork would lose.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO

import msgspec

from fraudstream.registry.probe import answer
from fraudstream.registry.verify import Ended
from fraudstream.scoring.forest import compile_forest
from fraudstream.scoring.trees import read_trees
from fraudstream.scoring.treeshap import compile_treeshap


class Nursery:
    """The other end: a `Child` for `ModelWatch`.

    Args:
        booster: a model text that its kernels are compiled on.
    """

    def __init__(self, booster: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.mutations_nursery", str(booster)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, candidate: bytes) -> Ended:
        """Load a candidate in a process of its own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _write(self._process.stdin, candidate)
        return msgspec.msgpack.decode(_read(self._process.stdout), type=Ended)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve(booster: Path) -> None:
    """Fork a child for each candidate on stdin, until there are no more."""
    trees = read_trees(booster.read_text("utf-8"))
    X = trees.probes(16)
    compile_forest(trees).raw_scores(X)
    treeshap = compile_treeshap(trees)
    treeshap.contributions(X[:1])
    treeshap.contributions(X)
    while candidate := _read(sys.stdin.buffer):
        _write(sys.stdout.buffer, msgspec.msgpack.encode(_forked(candidate)))


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
        out.seek(0)
        err.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), out.read(), err.read()[-4096:])


def _write(to: IO[bytes], content: bytes) -> None:
    to.write(struct.pack("<Q", len(content)))
    to.write(content)
    to.flush()


def _read(source: IO[bytes]) -> bytes:
    head = source.read(8)
    return source.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
