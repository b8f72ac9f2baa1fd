"""A forked child gives the answers of a new process, whatever became of the process that forks it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraudstream.registry import Trust, verify_bundle
from fraudstream.registry.nursery import Nursery
from fraudstream.registry.verify import BundleReport, run_child
from tests.cli.running import environment
from tests.kafka.deployment import eventually
from tests.worlds import TinyWorld


@pytest.fixture
def bundle(tiny_world: TinyWorld) -> Path:
    return tiny_world.folder / "models" / "card_payment" / "0001"


@pytest.fixture
def nursery(bundle: Path) -> Iterator[Nursery]:
    made = Nursery((bundle / "booster.txt").read_text("utf-8"))
    yield made
    made.close()


def pid_of(nursery: Nursery) -> int:
    eventually(lambda: nursery._process is not None, 30, "the process is there")
    assert nursery._process is not None
    return nursery._process.pid


def verified(bundle: Path, nursery: Nursery) -> BundleReport:
    return verify_bundle(bundle, Trust(), "card_payment", nursery)


def test_its_answers_are_those_of_a_new_process(bundle: Path, nursery: Nursery) -> None:
    here = pid_of(nursery)
    for _ in range(2):
        assert verified(bundle, nursery) == verify_bundle(bundle, Trust(), "card_payment", run_child)
    assert verified(bundle, nursery).problems == []
    damaged = b"not a candidate"
    assert nursery(damaged).code == run_child(damaged).code == 1
    assert b"Error" in nursery(damaged).err
    assert pid_of(nursery) == here  # what a child dies of it outlives


def test_one_that_was_killed_is_replaced_and_the_candidate_loaded_all_the_same(
    bundle: Path, nursery: Nursery
) -> None:
    first = pid_of(nursery)
    os.kill(first, signal.SIGKILL)
    assert verified(bundle, nursery).problems == []
    assert pid_of(nursery) != first
    assert verified(bundle, nursery).problems == []


def test_it_ends_with_its_parent(bundle: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fraudstream.registry.nursery import Nursery\n"
        "made = Nursery(Path(sys.argv[1]).read_text())\n"
        "while made._process is None: time.sleep(0.01)\n"
        "print(made._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle / "booster.txt")], stdout=subprocess.PIPE, env=environment()
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 30, "it has ended")
    parent.stdout.close()
