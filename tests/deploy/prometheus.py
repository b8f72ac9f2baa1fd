"""A real Prometheus that scrapes what a test tells it to, once a second."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from docs.generate import ROOT


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def up(self) -> bool:
        """Tell whether it answers."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that a query gives now; fails on one that it cannot read."""
        return self._asked("query", {"query": expr})

    def ask_range(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """Return the series of a query over a time."""
        times = {"start": str(start_s), "end": str(end_s), "step": str(step_s)}
        return self._asked("query_range", {"query": expr, **times})

    def _asked(self, what: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from None
        found: list[dict[str, Any]] = told["data"]["result"]
        return found


@contextmanager
def prometheus(program: str, folder: Path, port: int, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run it with the alarms of the repository.

    Args:
        targets: the port of each job.
    """
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "5s"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "alarms.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            for job, target in targets.items()
        ],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    command = [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)
