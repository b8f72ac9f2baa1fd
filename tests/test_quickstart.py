"""The quick start's commands, run one after the other in an empty folder, print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.cli.running import REPOSITORY, environment

PAGE = (REPOSITORY / "docs" / "quickstart.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def plain(line: str) -> str:
    """Return a line without its figures, which another processor may have others of, and without its blanks."""
    return " ".join(re.sub(r"\d[\d.,]*", "#", line).split())


def test_the_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    (toml,) = [text for kind, text in BLOCKS if kind == "toml"]
    (tmp_path / "fraudstream.toml").write_text(toml, "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shown, ran = 0, 0
    for (kind, text), (next_kind, output) in zip(BLOCKS, [*BLOCKS[1:], ("end", "")], strict=True):
        if kind != "sh":
            continue
        ended = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment(PATH=path), capture_output=True, text=True
        )
        assert (ended.returncode, ended.stderr) == (0, ""), text
        ran += 1
        printed = {plain(line) for line in ended.stdout.splitlines()}
        if next_kind == "":
            shown += 1
            assert {plain(line) for line in output.splitlines() if line != "..."} <= printed, text
    assert (ran, shown) == (7, 6)
    heads = [text.splitlines() for kind, text in BLOCKS if kind == "csv"]
    for lines, name in zip(heads, ("payments.csv", "labels.csv"), strict=True):
        assert (tmp_path / name).read_text("utf-8").splitlines()[: len(lines)] == lines
