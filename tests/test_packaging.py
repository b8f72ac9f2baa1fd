"""The container files name what is there. No engine is needed; with Docker's compose, it reads the file too."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from docs.generate import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("path", re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
def test_what_the_image_copies_is_there_and_not_ignored(path: str) -> None:
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    for name in path.split():
        assert (ROOT / name).exists()
        assert name in kept


def test_the_image_installs_by_hash_and_runs_as_nobody_special() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert DOCKERFILE.index("\nUSER fraudstream") < DOCKERFILE.index("\nENTRYPOINT")


def test_compose_reads_its_file() -> None:
    docker = shutil.which("docker")
    plugin = (
        docker
        and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    )
    if not plugin:
        assert "\t" not in COMPOSE  # all that can be said without it
        return
    read = subprocess.run(
        [str(docker), "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr
