"""Where files are read: a local path, or `s3://bucket/folder`; both answer to what is asked of them here."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Protocol, Self, TypeVar

from fraudstream.errors import BusError, ConfigError
from fraudstream.sections import shown_uri

# A read of an object is a request; and of an archive, all files of a date are read at once.
READ_AHEAD_BYTES = 1_048_576

T = TypeVar("T")


class Place(Protocol):
    """A file or a folder: a `pathlib.Path`, or an `ObjectPath` with the same names."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""

    @property
    def parent(self) -> Self:
        """The folder it is in."""

    def __truediv__(self, name: str) -> Self:
        """Return what has this name within; `/` between its parts."""

    def exists(self) -> bool:
        """Tell whether it is a file or a folder."""

    def is_file(self) -> bool:
        """Tell whether it is a file."""

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open a file to read, any part of it."""

    def unlink(self) -> None:
        """Remove a file."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object in a bucket, or a folder of them. What is asked of the store raises BusError where it fails.

    Attributes:
        path: bucket and key.
        scheme: of its URI.
        files: `pyarrow.fs.FileSystem`, which has the keys.
    """

    path: PurePosixPath
    scheme: str
    files: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"  # without keys and parameters

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.path / name, self.scheme, self.files)

    @property
    def name(self) -> str:
        """Return the last part."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """Return the end of the name from its last dot on."""
        return self.path.suffix

    @property
    def parent(self) -> Self:
        """Return the folder it is in."""
        return type(self)(self.path.parent, self.scheme, self.files)

    def exists(self) -> bool:
        """Tell whether it is an object or a folder of some."""
        return self._info().type.name != "NotFound"

    def is_file(self) -> bool:
        """Tell whether it is an object."""
        return bool(self._info().is_file)

    def is_dir(self) -> bool:
        """Tell whether objects are within."""
        return self._info().type.name == "Directory"

    def within(self) -> list[Self]:
        """Return all objects within."""
        from pyarrow.fs import FileSelector

        chosen = FileSelector(str(self.path), allow_not_found=True, recursive=True)
        found = self.tried(lambda: self.files.get_file_info(chosen))
        return [type(self)(PurePosixPath(o.path), self.scheme, self.files) for o in found if o.is_file]

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open an object to read, any part of it."""
        opened = self.tried(lambda: self.files.open_input_file(str(self.path)))
        return io.BufferedReader(_Opened(self, opened), READ_AHEAD_BYTES)

    def write_bytes(self, content: Any) -> None:
        """Put an object, in place of what was there; it appears when it is complete."""

        def put() -> None:
            with self.files.open_output_stream(str(self.path)) as stream:
                stream.write(content)

        self.tried(put)

    def unlink(self) -> None:
        """Remove an object."""
        self.tried(lambda: self.files.delete_file(str(self.path)))

    def tried(self, call: Callable[[], T]) -> T:
        """Return what a call of the store's returns. Raises BusError."""
        import pyarrow as pa  # here and below: `--help` needs none of it

        try:
            return call()
        except (pa.ArrowException, OSError) as error:
            raise BusError(f"{self}: {one_line(error)}") from None

    def _info(self) -> Any:
        return self.tried(lambda: self.files.get_file_info(str(self.path)))


def place_of(text: str, key: str = "") -> Path | ObjectPath:
    """Return the place that a path or a URI names.

    Args:
        text: a path, or `s3://bucket/folder` with pyarrow's parameters (`?region=...&endpoint_override=...`); keys
            come from the usual AWS variables and files.
        key: of the setting, for the error.

    Raises:
        ConfigError: pyarrow does not know such a URI.
        BusError: the bucket's region cannot be asked for.
    """
    if "://" not in text or text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    shown = f'{key} = "{shown_uri(text)}"' if key else shown_uri(text)
    try:
        files, path = FileSystem.from_uri(text)
    except pa.ArrowException as error:
        raise ConfigError(f"{shown}: give a folder, or s3://bucket/folder ({one_line(error)})") from None
    except OSError as error:
        raise BusError(f"{shown}: {one_line(error)}") from None
    if not path.strip("/"):
        raise ConfigError(f"{shown}: give a folder, or s3://bucket/folder (there is no bucket)")
    return ObjectPath(PurePosixPath(path), text.partition("://")[0], files)


def files_within(folder: Place) -> list[Place]:
    """Return the files within a folder, in the order of their names; none where there is no folder."""
    if isinstance(folder, ObjectPath):
        return [*sorted(folder.within(), key=lambda file: file.path)]
    return [*sorted(file for file in Path(str(folder)).rglob("*") if file.is_file())]


def source(file: Place) -> Any:
    """Return what pyarrow reads a file from."""
    return file if isinstance(file, Path) else file.open("rb")


class _Opened(io.RawIOBase):
    """An object that is read; whatever fails says so in our words, also in the midst of a file."""

    def __init__(self, place: ObjectPath, opened: Any) -> None:
        self._place, self._opened = place, opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def readinto(self, buffer: Any) -> int:
        return int(self._place.tried(lambda: self._opened.readinto(buffer)))


def one_line(error: Exception) -> str:
    """Return what an error says in one line, without keys."""
    return " ".join(shown_uri(str(error)).split())
