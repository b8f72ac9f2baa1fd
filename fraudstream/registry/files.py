"""The bytes of a bundle: plain files only, each read once and never beyond its limit.

What is checked is what was read: everything behind this module works on the bytes, so that a file which changes
meanwhile changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from fraudstream.errors import ModelError

MIB = 1024 * 1024
REPORT = "report"
BYTES_MAX = {
    "bundle.json": 4 * MIB,
    "bundle.json.sha256": 1024,
    "bundle.json.sig": 1024,
    "booster.txt": 64 * MIB,
    "calibrator.json": 16 * MIB,
    "golden.parquet": 32 * MIB,
}
REPORT_BYTES_MAX = 4 * MIB
REPORT_FILES_MAX = 16
ALIASES_BYTES_MAX = 64 * 1024


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the bytes of a bundle's files by path.

    Raises:
        ModelError: naming what is no file of a bundle, too large, or cannot be read.
    """
    files = {}
    for name in _listed(folder):
        if name == REPORT:
            inner = _listed(folder / REPORT)
            if len(inner) > REPORT_FILES_MAX:
                raise ModelError(f"{folder / REPORT}: has more than {REPORT_FILES_MAX} files")
            for one in inner:
                files[f"{REPORT}/{one}"] = read_plain(folder / REPORT / one, REPORT_BYTES_MAX)
        elif name in BYTES_MAX:
            files[name] = read_plain(folder / name, BYTES_MAX[name])
        else:
            raise ModelError(f"{folder / name}: is not part of the bundle; remove it")
    return files


def read_plain(path: Path, bytes_max: int) -> bytes:
    """Return the bytes of a plain file; follows no link and waits for nobody, as a pipe would.

    Raises:
        ModelError: it is something else, too large, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        said = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise ModelError(f"{path}: {said}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is not a plain file")
        if status.st_size > bytes_max:
            raise ModelError(f"{path}: is larger than {bytes_max} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(status.st_size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(content) != status.st_size:
        raise ModelError(f"{path}: changed while it was read")
    return content


def _listed(folder: Path) -> list[str]:
    """Return the names in a folder, as many as a bundle may have and one more at most."""
    most = len(BYTES_MAX) + REPORT_FILES_MAX
    found: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == REPORT and not entry.is_dir(follow_symlinks=False):
                    raise ModelError(f"{folder / REPORT}: is not a folder")
                if not entry.name.isprintable():
                    raise ModelError(f"{folder}: {entry.name!r} is not part of the bundle; remove it")
                found.append(entry.name)
                if len(found) > most:
                    raise ModelError(f"{folder}: has more than {most} files")
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(found)
