"""The long run, guided by what code the inputs reach: `make fuzz`, or

    python -m tests.fuzz config --minutes 10

Needs atheris, which is no part of the lock: it has wheels for few machines. Prints one JSON object at the end; an
input that brings something else than a refusal is written to `crash-...` in the current folder, and ends it with 77.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import atheris  # type: ignore[import-untyped, unused-ignore]

# What parses. The kernels are compiled from their own bytecode, which must stay as it is.
PARSERS = (
    *(
        "decode",
        "bus.schemas",
        "bus.parsers",
        "event",
        "settings",
        "sections",
        "ledger",
        "features.where",
        "features.declare",
        "features.snapshot",
    ),
    *(
        "registry.bundle",
        "registry.files",
        "scoring.wellformed",
        "scoring.trees",
        "scoring.drift",
        "scoring.decide",
    ),
)
with atheris.instrument_imports(include=[f"fraudstream.{name}" for name in PARSERS]):
    from tests.cli.running import REPOSITORY
    from tests.fuzz.targets import TARGETS, target_and_seeds


def main() -> None:
    """Feed one target until the time is over."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("target", choices=TARGETS)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fraudstream-fuzz-"))
    target, seeds = target_and_seeds(chosen.target, lambda: made_bundle(folder), folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    counts = {"inputs": 0, "taken": 0}
    began_s = time.monotonic()

    def one(data: bytes) -> None:
        counts["inputs"] += 1
        counts["taken"] += target(data, folder)
        if (seconds := time.monotonic() - began_s) > chosen.minutes * 60:
            print(
                json.dumps({"fuzz": chosen.target, **counts, "crashes": 0, "seconds": round(seconds)}),
                flush=True,
            )
            shutil.rmtree(folder)
            os._exit(0)  # libFuzzer has no other end

    atheris.Setup(
        [
            sys.argv[0],
            f"-seed={chosen.seed}",
            f"-max_len={2 * max(len(seed) for seed in seeds)}",
            "-timeout=10",
            "-len_control=0",
            "-rss_limit_mb=4096",
            str(corpus),
        ],
        one,
    )
    atheris.Fuzz()


def made_bundle(folder: Path) -> Path:
    """Make a bundle elsewhere: the kernels cannot be compiled with what is instrumented here."""
    making = (
        f"from pathlib import Path; from tests.worlds import make_world; make_world(Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", making], cwd=REPOSITORY, check=True)
    return folder / "models" / "card_payment" / "0001"


if __name__ == "__main__":
    main()
