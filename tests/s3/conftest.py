"""Fixtures for tests on a real S3-compatible server: one a session, a fresh bucket a test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem

from fraudstream.bus.place import ObjectPath, place_of
from tests.java import skip_or_fail_without
from tests.s3.server import KEYS, S3Server, s3_command

Put = Callable[[Path, str], str]
"""Copies a folder to a name in the test's bucket; returns its URI."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this folder in one process: they share a server."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("s3"))


def pytest_runtest_setup() -> None:
    """Skip the tests of this folder where no server can run; fail them if `CI=true`."""
    skip_or_fail_without(s3_command)


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    """The session's server, its key in the environment of this process and those that it starts."""
    with S3Server() as started, pytest.MonkeyPatch.context() as patched:
        for name, value in KEYS.items():
            patched.setenv(name, value)
        yield started


@pytest.fixture
def bucket(server: S3Server) -> str:
    """The name of a new bucket of this test's."""
    return made_bucket(server)


@pytest.fixture
def put(server: S3Server, bucket: str) -> Put:
    """Copies folders to the test's bucket."""

    def copy(folder: Path, name: str) -> str:
        to = place_of(server.uri(f"{bucket}/{name}"))
        assert isinstance(to, ObjectPath)
        for file in folder.rglob("*"):
            if file.is_file():
                (to / str(file.relative_to(folder))).write_bytes(file.read_bytes())
        return server.uri(f"{bucket}/{name}")

    return copy


def made_bucket(server: S3Server) -> str:
    """Make a bucket and return its name."""
    name = f"bucket-{secrets.token_hex(4)}"
    files, path = FileSystem.from_uri(server.uri(name) + "&allow_bucket_creation=true")
    files.create_dir(path)
    return name
