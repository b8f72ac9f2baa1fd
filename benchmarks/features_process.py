"""A benchmark's case in a process of its own, on one core: `features_process MODULE:FUNCTION JSON`."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

THREADS = ("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ONE_CORE = dict.fromkeys(THREADS, "1")


def run_case(case: str, **options: Any) -> dict[str, Any]:
    """Run `benchmarks.features_` + "module:function" with these options; return what it returns."""
    return run_function(f"benchmarks.features_{case}", **options)


def run_function(function: str, **options: Any) -> dict[str, Any]:
    """Run "module:function" with these options; return what it returns.

    A case that ends badly gives {"failed": why}: one that needs more memory than there is must not end the rest.
    """
    say(
        f"{function.removeprefix('benchmarks.')} {' '.join(f'{name}={value}' for name, value in options.items())}"
    )
    command = [sys.executable, "-m", "benchmarks.features_process", function, json.dumps(options)]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_CORE}, check=False
    )
    if ended.returncode < 0:
        return {"failed": f"killed by signal {-ended.returncode}: most likely no memory was left"}
    if ended.returncode > 0:
        return {"failed": f"ended with {ended.returncode}"}
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def say(what: str) -> None:
    """Tell a person what goes on."""
    print(f"benchmark: {what} ...", file=sys.stderr, flush=True)


def settle_memory() -> None:
    """Leave the collector nothing to look through that was made before the clock starts."""
    gc.collect()
    gc.freeze()


def main() -> None:
    with contextlib.suppress(OSError):  # where memory runs out, this process goes and nobody else's
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    module, function = sys.argv[1].split(":")
    found = getattr(importlib.import_module(module), function)
    print(json.dumps(found(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
