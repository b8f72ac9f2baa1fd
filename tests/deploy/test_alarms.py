"""The alarms: promtool accepts them, each fires on its cause and no sooner, and each can be looked up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from docs import generate
from fraudstream.metrics import RetrainMetrics, WorkerMetrics

FOLDER = generate.ROOT / "deploy" / "prometheus"
ALARMS = {alarm["alert"]: alarm for alarm in generate.alarms()}


@pytest.fixture(scope="module")
def promtool() -> str:
    """Where Prometheus' own checker is. Skips without it; fails if `CI=true`."""
    return installed("promtool")


def installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not on the PATH (Debian's package prometheus has it)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_promtool_accepts_the_configuration_and_its_rules(promtool: str) -> None:
    assert f"{len(ALARMS)} rules found" in run(promtool, "check", "config", "prometheus.yml")


def test_each_alarm_fires_on_its_cause_and_no_sooner(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", "alarms.test.yml")


def test_each_alarm_is_tried() -> None:
    tried = yaml.safe_load((FOLDER / "alarms.test.yml").read_text("utf-8"))["tests"]
    expected = {
        re.search(r'alertname="(\w+)"', sample["labels"])[1]  # type: ignore[index]
        for test in tried
        for asked in test["promql_expr_test"]
        for sample in asked["exp_samples"]
    }
    assert expected == set(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_each_alarm_says_what_it_means_and_what_to_do(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["labels"]["severity"] in ("page", "ticket")
    assert alarm["annotations"].keys() == {"summary", "runbook"}
    page = (generate.ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"| `{name}` |" in page
    assert alarm["annotations"]["runbook"] in page


def test_the_docs_name_no_alarm_that_is_gone() -> None:
    pages = [path.read_text("utf-8") for path in generate.ROOT.glob("docs/**/*.md")]
    assert {name for page in pages for name in re.findall(r"\bFraudstream[A-Z]\w+", page)} - {
        kind.__name__ for kind in generate.error_classes()
    } == set(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_each_alarm_asks_for_metrics_that_there_are(name: str) -> None:
    asked = set(re.findall(r"\bfraudstream_\w+", ALARMS[name]["expr"]))
    there = {metric for kind in (WorkerMetrics, RetrainMetrics) for metric, *_ in generate.metrics(kind)}
    assert {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in asked} <= there
