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

import pyarrow as pa
import pyarrow.fs as pf

from fraudstream.errors import BusError, ConfigError
from fraudstream.sections import shown_uri

_WRITING = ".writing-"


class Store:
    """Files by name.

    Args:
        uri: a path, or `s3://bucket/folder` with pyarrow's parameters (`?region=...&endpoint_override=...`); keys
            come from the usual AWS variables and files.

    Raises:
        ConfigError: pyarrow does not know such a URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.folder: Path | None = None
        try:
            if "://" in uri and not uri.startswith("file://"):
                self._files, self._root = pf.FileSystem.from_uri(uri)
                self.uri = f"{uri.partition('://')[0]}://{self._root}"  # without keys and parameters
                return
            self.folder = Path(uri.removeprefix("file://"))
            self._files, self._root = pf.LocalFileSystem(), str(self.folder)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(
                f'archive.uri = "{shown_uri(uri)}": give a folder, or s3://bucket/folder ({_line(error)})'
            ) from None

    def sub(self, name: str) -> Store:
        """Return the store of a folder within."""
        inner = object.__new__(Store)
        inner.uri, inner._files, inner._root = f"{self.uri}/{name}", self._files, f"{self._root}/{name}"
        inner.folder = None if self.folder is None else self.folder / name
        return inner

    def read(self, name: str) -> bytes | None:
        """Return a whole file; None where there is none. Raises BusError."""

        def read() -> bytes | None:
            if self._files.get_file_info(self._path(name)).type == pf.FileType.NotFound:
                return None
            with self._files.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())

        return self._tried(name, read)

    def open(self, name: str) -> Any:
        """Open a file to read parts of. Raises BusError."""
        return self._tried(name, lambda: self._files.open_input_file(self._path(name)))

    def replace(self, name: str, content: Any) -> None:
        """Write a file of these bytes; when this returns it outlasts a crash. Raises BusError."""

        def put() -> None:
            with self._files.open_output_stream(self._path(name)) as stream:
                stream.write(content)

        self._tried(name, put if self.folder is None else lambda: self._replace_local(name, content))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises BusError."""

        def remove() -> None:
            if self._files.get_file_info(self._path(name)).type != pf.FileType.NotFound:
                self._files.delete_file(self._path(name))

        self._tried(name, remove)

    def names(self) -> list[str]:
        """Return the names of all files, sorted. Raises BusError."""
        chosen = pf.FileSelector(self._root, allow_not_found=True, recursive=True)
        found = self._tried("", lambda: self._files.get_file_info(chosen))
        return sorted(
            str(PurePosixPath(one.path).relative_to(self._root))
            for one in found
            if one.type == pf.FileType.File
        )

    def lock(self) -> Any:
        """Keep others from writing here until what is returned is closed; None in a bucket, which cannot.

        What a process that was killed had begun to write is removed.

        Raises:
            BusError: another process has it.
        """
        if self.folder is None:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = (self.folder / "_lock").open("a")
        except OSError as error:
            raise BusError(f"{self.uri}: cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            raise BusError(f"{self.uri}: another process is writing it; stop one of the two") from None
        for begun in self.folder.rglob(f"{_WRITING}*"):
            begun.unlink()
        return held

    def _replace_local(self, name: str, content: Any) -> None:
        assert self.folder is not None
        path = self.folder / name
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

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _tried(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (pa.ArrowException, OSError) as error:
            raise BusError(f"{self.uri}/{name}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(shown_uri(str(error)).split())
