"""How kernels are compiled: by one decorator, and never older than what they call."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numba
from numba.core.caching import _CacheLocator

compiled = numba.njit(cache=True, error_model="numpy", nogil=True)

_FOLDERS = ("features", "scoring")  # a kernel calls others of its own folder


def _forget_stale_kernels(folder: Path) -> None:
    """Drop a folder's cached kernels if any of its modules has changed since they were compiled.

    numba looks at the file of the kernel itself only, but kernels hold the code of those that they call.
    """
    cache = folder / "__pycache__"
    if numba.config.CACHE_DIR:  # NUMBA_CACHE_DIR
        cache = Path(numba.config.CACHE_DIR) / _CacheLocator.get_suitable_cache_subpath(
            str(folder / "kernel.py")
        )
    stamp = cache / "kernels.stamp"
    files = sorted(folder.glob("*.py"))
    now = " ".join(f"{file.name}:{(at := file.stat()).st_mtime_ns}:{at.st_size}" for file in files)
    with contextlib.suppress(OSError):  # a folder that cannot be written holds no cache
        if stamp.exists() and stamp.read_text("utf-8") == now:
            return
        for cached in cache.glob("*.nb[ic]"):
            cached.unlink(missing_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        stamp.write_text(now, "utf-8")


for _name in _FOLDERS:
    _forget_stale_kernels(Path(__file__).parent / _name)
