"""Kernels in numba's cache, which processes share that have compiled different ones."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core.dispatcher import Dispatcher

import fraudstream.features
import fraudstream.scoring


def kernels() -> Iterator[Any]:
    """Yield all kernels, those too that only others know."""
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for package in (fraudstream.features, fraudstream.scoring)
        for found in pkgutil.iter_modules(package.__path__)
    ]
    left = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    seen = set()
    while left:
        kernel = left.pop()
        if id(kernel) in seen:
            continue
        seen.add(id(kernel))
        yield kernel.py_func
        cells = [cell.cell_contents for cell in kernel.py_func.__closure__ or ()]
        left += [value for value in cells if isinstance(value, Dispatcher)]


def names() -> list[str]:
    """Return what tells kernels apart in machine code."""
    return sorted(f"{kernel.__module__}.{kernel.__qualname__}" for kernel in kernels())


def test_no_two_kernels_have_one_name() -> None:
    found = names()
    assert len([name for name in found if "<locals>" in name]) > 20
    assert len(set(found)) == len(found)


def test_kernels_have_the_same_names_in_every_process() -> None:
    script = "import json; from tests.test_compiled import names; print(json.dumps(names()))"
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(elsewhere.stdout) == names()


def test_nowhere_to_keep_kernels_is_one_line(tmp_path: Path) -> None:
    package = Path(fraudstream.features.__file__).parents[1]
    shutil.copytree(package, tmp_path / "fraudstream", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("features", "scoring"):  # a file in the folder's place: not even root can write into it
        (tmp_path / "fraudstream" / folder / "__pycache__").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    ended = subprocess.run(
        [sys.executable, "-m", "fraudstream", "features", "list"],
        cwd=tmp_path,
        env=environment | {"HOME": "/proc/nobody", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in ended.stderr
