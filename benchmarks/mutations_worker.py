"""A worker that is given one damaged bundle after the other while it serves; a process of its own, as it may die.

It is the worker's own loop on a memory bus, with the reload that it has in production: the alias is promoted, the
watch notices, checks, loads in a child process, and the loop takes or refuses the model between two batches.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import structlog

from benchmarks.mutations_kinds import PLACES, Others, changes_of
from fraudstream.batch import Float64
from fraudstream.bus.memory import MemoryMessage, MemorySink, MemorySource
from fraudstream.features import build_catalog, new_engine
from fraudstream.metrics import WorkerMetrics
from fraudstream.records import Decision
from fraudstream.registry import CHAMPION, Registry
from fraudstream.registry.nursery import Nursery
from fraudstream.registry.verify import Ended, run_child
from fraudstream.scoring import Model, Pipeline
from fraudstream.scoring.decide import build_policy
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.stream.featurelog import column_names
from fraudstream.stream.models import Found, ModelWatch
from fraudstream.stream.worker import Ends, Worker

GOOD, DAMAGED = "0001", "0002"
ROWS = 4  # served before and after each decision on a model
WITHIN_S = 600.0
FRESH_EVERY = 100  # candidates of which one is loaded in a new process as in production, the others in forks
DAY_MS = 86_400_000


class Job(msgspec.Struct, frozen=True):
    """What a process is to do.

    Attributes:
        folder: holds `mode.toml`, `models/card_payment`, `base/0002`, `other/0002`, `live.json`.
        resealed: whether the hashes are made right again after the damage.
    """

    folder: str
    resealed: bool
    files: list[str]
    per_file: int
    seed: int
    start: int


class Mutation(msgspec.Struct, frozen=True):
    """One way of damaging one file."""

    number: int
    file: str
    kind: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of a mutation.

    Attributes:
        result: `refused`, `accepted`, `undecided`.
        named: whether the refusal names the file.
        wrong: decisions that are not what LightGBM and the bundle's own knots give.
        changed: whether the decisions differ from the undamaged model's.
    """

    mutation: Mutation
    result: str
    reason: str
    named: bool
    wrong: int
    changed: bool


def plan(job: Job) -> list[Mutation]:
    """Return all mutations of a job, in order: of each file every kind as often as the others, to one."""
    found = []
    for file in job.files:
        kinds = [*changes_of(file), *PLACES]
        random.Random(f"{job.seed} {file}").shuffle(kinds)
        found += [(file, kinds[i % len(kinds)]) for i in range(job.per_file)]
    return [Mutation(number, file, kind) for number, (file, kind) in enumerate(found)]


class _Watch(ModelWatch):
    """Keeps what it found last."""

    last: Found | None = None

    def newer(self) -> Found | None:
        found = super().newer()
        self.last = found or self.last
        return found


class Attack:
    """A serving worker, and the bundle that is damaged beside it."""

    def __init__(self, job: Job, told: IO[str]) -> None:
        self._told = told
        self._job = job
        self._folder = Path(job.folder)
        self._settings: Settings = load_settings(self._folder / "mode.toml", environment={})
        self._registry = Registry.of(self._settings.model)
        self._target = self._registry.folder / DAMAGED
        self._others = Others(self._folder / "other" / DAMAGED, self._folder / "base" / DAMAGED)
        self._nursery = Nursery((self._registry.folder / GOOD / "booster.txt").read_text("utf-8"))
        self._asked = 0
        self._rows = json.loads((self._folder / "live.json").read_text("utf-8"))
        self._sent = 0
        self._source, self._sink = MemorySource([]), MemorySink()
        self._catalog = build_catalog(self._settings.features, self._settings.event)
        parts = self._registry.load(CHAMPION)
        model, policy = Model(parts, self._catalog), build_policy(self._settings)
        self._watch = _Watch(self._settings, self._catalog, CHAMPION, parts.version, self._child)
        self._worker = Worker(
            self._settings,
            lambda: new_engine(self._settings, self._catalog),
            lambda engine: Pipeline(engine, model, policy),
            Ends(self._source, self._sink),
            WorkerMetrics(),
            lambda partitions: "1704067200000-01234567/0",
            [self._watch],
        )

    def _child(self, candidate: bytes) -> Ended:
        self._asked += 1
        return run_child(candidate) if self._asked % FRESH_EVERY == 0 else self._nursery(candidate)

    def run(self) -> Iterator[Outcome]:
        """Damage and serve, mutation by mutation; announces each, since it may be the last."""
        for mutation in plan(self._job)[self._job.start :]:
            print(json.dumps({"begin": mutation.number}), file=self._told, flush=True)
            if self._damage(mutation):
                yield self._suffer(mutation)
        self._nursery.close()

    def _damage(self, mutation: Mutation) -> bool:
        """Make the bundle anew and damage it; False where the damage came out as what was there."""
        shutil.rmtree(self._target, ignore_errors=True)
        shutil.copytree(self._others.base, self._target)
        path = self._target / mutation.file
        chance = random.Random(f"{self._job.seed} {self._job.resealed} {mutation.number}")
        if mutation.kind in PLACES:
            PLACES[mutation.kind](path, chance, self._others)
        else:
            whole = path.read_bytes()
            for _ in range(10):
                damaged = changes_of(mutation.file)[mutation.kind](whole, chance)
                if damaged != whole:
                    break
            else:
                return False
            path.write_bytes(damaged)
        if _plain(path) and path.read_bytes() == (self._others.base / mutation.file).read_bytes():
            return mutation.kind == "extra"
        if self._job.resealed:
            _reseal(self._target, mutation.file)
        return True

    def _suffer(self, mutation: Mutation) -> Outcome:
        """Promote the damaged version, serve until it is decided on, and go back to the good one."""
        self._registry.promote(DAMAGED)
        wrong, _ = self._serve(GOOD)
        found = self._decided()
        reason = found.refused if found is not None else ""
        result = "undecided" if found is None else "refused" if found.refused else "accepted"
        after, changed = self._serve(DAMAGED if result == "accepted" else GOOD)
        self._registry.promote(GOOD)
        if result == "accepted":
            assert self._decided() is not None
        return Outcome(mutation, result, reason, _names(reason, mutation), wrong + after, changed)

    def _decided(self) -> Found | None:
        self._watch.last = None
        deadline_s = time.monotonic() + WITHIN_S
        while self._watch.last is None and time.monotonic() < deadline_s:
            self._worker.step()
            time.sleep(0.0005)
        return self._watch.last

    def _serve(self, version: str) -> tuple[int, bool]:
        """Serve a few rows; return how many decisions are wrong, and whether they differ from the good model's."""
        self._sink.sent.clear()
        self._source.messages = [self._next_message() for _ in range(ROWS)]
        self._source._next = 0
        self._worker.step()
        topics = self._settings.topics
        sent = self._sink.sent.get(topics.decisions, [])
        decisions = [msgspec.json.decode(m.value() or b"", type=Decision) for m in sent]
        tables = [pa.ipc.open_stream(m.value()).read_all() for m in self._sink.sent.get(topics.features, [])]
        logged = pa.concat_tables(tables)
        X = np.column_stack([logged[name].to_numpy() for name in column_names(self._catalog)])
        expected, plain = self._scores(version, X), self._scores(GOOD, X)
        found = [(d.score, d.risk_points, d.model) for d in decisions]
        wrong = sum(a != b for a, b in zip(found, expected, strict=True)) + abs(ROWS - len(found))
        return wrong, [row[:2] for row in expected] != [row[:2] for row in plain]

    def _scores(self, version: str, X: Float64) -> list[tuple[float, int, str]]:
        """Return what LightGBM itself and a bundle's knots give, worked out the slow way."""
        folder = self._registry.folder / version
        described = json.loads((folder / "bundle.json").read_bytes())
        knots = json.loads((folder / "calibrator.json").read_bytes())
        column = {name: i for i, name in enumerate(self._catalog.names)}
        chosen = np.ascontiguousarray(X[:, [column[f["name"]] for f in described["features"]]])
        booster = lgb.Booster(model_str=(folder / "booster.txt").read_text("utf-8"))
        raw = booster.predict(chosen, raw_score=True, num_threads=1)
        probability = np.interp(raw, knots["x"], knots["y"])
        points = [_points(described["points"], float(score)) for score in raw]
        return [(float(p), n, f"card_payment/{version}") for p, n in zip(probability, points, strict=True)]

    def _next_message(self) -> MemoryMessage:
        turn, at = divmod(self._sent, len(self._rows))
        row = self._rows[at]
        row = row | {
            "transaction_id": f"{row['transaction_id']}-{turn}",
            "event_time": row["event_time"] + turn * 5 * DAY_MS,
        }
        self._sent += 1
        key = row["card_id"].encode()
        return MemoryMessage(json.dumps(row).encode(), key, None, 0, self._sent - 1, row["event_time"])


def _points(knots: dict[str, Sequence[float]], raw: float) -> int:
    ahead = [y for x, y in zip(knots["x"], knots["y"], strict=True) if x > raw]
    points = int(np.floor(np.interp(raw, knots["x"], knots["y"])))
    return max(min(points, int(ahead[0]) - 1), 0) if ahead else points


def _names(reason: str, mutation: Mutation) -> bool:
    """Tell whether a refusal names the damaged file, or the one put beside it."""
    if "\n" in reason:
        return False
    if mutation.kind == "extra":
        return "is not part of the bundle" in reason or "is no file of a bundle" in reason
    if not mutation.file.startswith("bundle.json"):
        return mutation.file in reason or "bundle.json: was changed after it was signed" in reason
    # A description and what it describes vouch for each other: that they do not fit is all there is to say.
    return any(
        said in reason for said in ("bundle.json", "is not the recorded one", "model card_payment/0002")
    )


def _plain(path: Path) -> bool:
    """Tell whether there is a file that can be read whole."""
    if not os.path.lexists(path):
        return False
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size < 1 << 28


def _reseal(bundle: Path, damaged: str) -> None:
    """Make the hashes right again, as far as there is something to hash."""
    if damaged.startswith("bundle.json."):
        return
    description = bundle / "bundle.json"
    if damaged != "bundle.json":
        described = json.loads(description.read_bytes())
        listed = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*")}
        described["files"] = {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in listed.items()
            if _plain(path) and not name.startswith("bundle.json")
        }
        description.write_text(json.dumps(described), "utf-8")
    if _plain(description):
        digest = hashlib.sha256(description.read_bytes()).hexdigest()
        (bundle / "bundle.json.sha256").write_text(f"{digest}  bundle.json\n", "utf-8")


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what LightGBM prints is no line of ours
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    for outcome in Attack(job, told).run():
        print(msgspec.json.encode(outcome).decode(), file=told, flush=True)


if __name__ == "__main__":
    main()
