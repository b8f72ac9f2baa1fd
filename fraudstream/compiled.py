"""How kernels are compiled: by one decorator, kept in numba's cache, and never older than what they call."""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CacheImpl

from fraudstream.errors import ConfigError

_names: Counter[tuple[str, str]] = Counter()
_FOLDERS = ("features", "scoring")  # a kernel calls others of its own folder


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel, and keep it in numba's cache."""
    function.__qualname__ = _name_apart(function.__module__, function.__qualname__)
    dispatcher = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    file = getattr(dispatcher._cache, "_cache_file", None)
    if file is not None:
        lock = Path(file._index_path).parent / "kernels.lock"
        file.load, file.save = _alone(file.load, lock), _alone(file.save, lock)
    return dispatcher


def _name_apart(module: str, name: str) -> str:
    """Return a name that no other kernel has, the same in every process; a function may make several of one name.

    numba names machine code after the kernel and a number, by which it counts what this process has compiled. So one
    that is loaded from the cache and one that is compiled now may have the same number; if they had the same name,
    too, the linker would take the first of them for both.
    """
    number = _names[module, name]
    _names[module, name] += 1
    return f"{name}_{number}" if number else name


def _alone(function: Callable[..., Any], lock: Path) -> Callable[..., Any]:
    """Let one process at a time use the cache.

    numba replaces each file as a whole, but an index and the code that it names one after the other: of two processes
    that compile at once, one could run code that was made for the arguments of the other.
    """

    def locked(*arguments: Any) -> Any:
        with _held(lock):
            return function(*arguments)

    return locked


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    try:
        file = lock.open("ab")
    except OSError:  # a folder that cannot be written holds no cache
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_stale_kernels(folder: Path) -> None:
    """Drop a folder's cached kernels if any of its modules, or this one, has changed since they were compiled.

    numba looks at the file of the kernel itself only, but kernels hold the code of those that they call.
    """
    cache = _cache_of(folder)
    stamp = cache / "kernels.stamp"
    files = [Path(__file__), *sorted(folder.glob("*.py"))]
    now = " ".join(f"{file.name}:{(at := file.stat()).st_mtime_ns}:{at.st_size}" for file in files)
    with _held(cache / "kernels.lock"):
        if stamp.exists() and stamp.read_text("utf-8") == now:
            return
        for cached in cache.glob("*.nb[ic]"):
            cached.unlink(missing_ok=True)
        stamp.write_text(now, "utf-8")


def _cache_of(folder: Path) -> Path:
    """Return where numba keeps the kernels of a folder's modules: the first of its places that can be written.

    Raises:
        ConfigError: there is none.
    """
    for place in CacheImpl._locator_classes:
        if (found := place.from_function(compiled, str(folder / "__init__.py"))) is not None:
            return Path(found.get_cache_path())
    raise ConfigError(
        f"the compiled kernels can be kept nowhere: neither {folder / '__pycache__'} nor the user's cache folder can "
        f"be written; set NUMBA_CACHE_DIR to a folder that can (now {numba.config.CACHE_DIR!r})"
    )


for _name in _FOLDERS:
    _forget_stale_kernels(Path(__file__).parent / _name)
