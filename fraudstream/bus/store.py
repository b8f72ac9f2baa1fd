"""A folder that files are put into whole: a directory, or an S3-compatible bucket by its URI.

A name is relative, with `/` between its parts. What is replaced is there as it was or as it is, never in between: in
a directory by a rename, in a bucket because an object appears when it is complete.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from fraudstream.bus.place import ObjectPath, Place, files_within, one_line, place_of
from fraudstream.errors import BusError

_WRITING = ".writing-"


class Store:
    """Files by name.

    Args:
        at: the folder; as text what `archive.uri` may be, see `place_of`.

    Raises:
        ConfigError: pyarrow does not know such a URI.
    """

    def __init__(self, at: str | Place) -> None:
        self.place: Place = place_of(at, "archive.uri") if isinstance(at, str) else at

    @property
    def uri(self) -> str:
        """Return where it is, without keys and parameters."""
        return str(self.place)

    def sub(self, name: str) -> Store:
        """Return the store of a folder within."""
        return Store(self.place / name)

    def read(self, name: str) -> bytes | None:
        """Return a whole file; None where there is none. Raises BusError."""
        if not self._tried(name, (self.place / name).is_file):
            return None
        with self.open(name) as file:
            content: bytes = self._tried(name, file.read)
            return content

    def open(self, name: str) -> Any:
        """Open a file to read parts of. Raises BusError."""
        return self._tried(name, lambda: (self.place / name).open("rb"))

    def replace(self, name: str, content: Any) -> None:
        """Write a file of these bytes; when this returns it outlasts a crash. Raises BusError."""
        place = self.place / name
        if isinstance(place, ObjectPath):
            place.write_bytes(content)
        else:
            self._tried(name, lambda: _replace(Path(str(place)), content))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises BusError."""
        place = self.place / name
        if self._tried(name, place.exists):
            self._tried(name, place.unlink)

    def names(self) -> list[str]:
        """Return the names of all files, sorted. Raises BusError."""
        found = self._tried("", lambda: files_within(self.place))
        return sorted(str(PurePosixPath(str(one)).relative_to(str(self.place))) for one in found)

    def lock(self) -> Any:
        """Keep others from writing here until what is returned is closed; None in a bucket, which cannot.

        What a process that was killed had begun to write is removed.

        Raises:
            BusError: another process has it.
        """
        if isinstance(self.place, ObjectPath):
            return None
        folder = Path(str(self.place))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = (folder / "_lock").open("a")
        except OSError as error:
            raise BusError(f"{self.uri}: cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            raise BusError(f"{self.uri}: another process is writing it; stop one of the two") from None
        for begun in folder.rglob(f"{_WRITING}*"):
            begun.unlink()
        return held

    def _tried(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise BusError(f"{self.uri}/{name}: {one_line(error)}") from None


def _replace(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_WRITING + path.name)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
