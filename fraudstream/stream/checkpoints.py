"""Snapshots of a worker's state, each stamped with the positions in the topics that it belongs to.

A snapshot is taken right after a commit: the state then holds what was served, and nothing else. A worker that
starts, or is given partitions, loads the one that leaves least to replay, and reads silently from its positions to
what was served last. One with more partitions than are wanted will do where all features are of the entity that the
key names: what the state holds of other partitions is then never looked at.

    {snapshots.folder}/{group}/{made_ms}-{partitions}.state
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import structlog

from fraudstream.bus.base import Positions
from fraudstream.clock import monotonic_s, now_ms
from fraudstream.errors import CheckpointError, ConfigError
from fraudstream.features import Catalog, FeatureEngine, new_engine, partial_features
from fraudstream.features import snapshot as snapshots
from fraudstream.features.engine import cases_of
from fraudstream.metrics import WorkerMetrics
from fraudstream.sections import Settings
from fraudstream.stream.runs import ranges
from fraudstream.stream.serve import Numbered

log = structlog.get_logger("worker")

SUFFIX = ".state"


class Stamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot belongs to.

    Attributes:
        topic: of the transactions; positions: the next offset to read of each partition.
        labels: the next offset to read of each partition of the labels.
        numbered: what the first decisions that the state remembers refer to.
        made_ms: when, Unix milliseconds.
    """

    topic: str
    positions: Positions
    labels: Positions
    numbered: Numbered
    made_ms: int


class Checkpoints:
    """Takes, finds and loads the snapshots of one worker.

    Args:
        settings: `snapshots.folder` names the folder; several workers share it.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, settings: Settings, catalog: Catalog, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._catalog = catalog
        self._metrics = metrics
        self._topic = settings.topics.transactions
        self._folder = Path(settings.snapshots.folder) / settings.worker.group
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f'snapshots.folder = "{settings.snapshots.folder}": cannot be used ({error.strerror}); '
                "give a folder that the worker may write to"
            ) from None
        self._apart = not partial_features(
            catalog
        )  # the rows of one partition matter to no other one's features
        self._child = snapshots.Snapshotter()
        self._began_s = monotonic_s()
        self._due_s = self._began_s + settings.snapshots.interval_ms / 1000
        self._path = self._folder
        for result in ("taken", "failed"):
            metrics.snapshots.labels(result)

    def empty_engine(self) -> FeatureEngine | None:
        """Return an engine that waits for a snapshot; None where there is none."""
        return new_engine(self._settings, self._catalog) if self._stamped() else None

    @property
    def due(self) -> bool:
        """Tell whether it is time for another one."""
        return not self._child.busy and monotonic_s() >= self._due_s

    def restore(self, oldest: Positions, served: Positions) -> tuple[FeatureEngine, Stamp] | None:
        """Return the state that leaves least to replay; None where no snapshot can be used.

        Args:
            oldest: the first offset kept of each partition.
            served: the first that was not served before.
        """
        usable = [
            (sum(served[p] - stamp.positions[p] for p in served), path, stamp)
            for path, stamp in self._stamped()
            if self._fits(path, stamp, oldest, served)
        ]
        for replay, path, stamp in sorted(usable, key=lambda one: one[0]):
            began_s = monotonic_s()
            try:
                engine = snapshots.load(
                    path,
                    self._catalog,
                    self._settings.state,
                    self._settings.labels.grace_ms,
                    self._settings.quality.tracked_days(self._settings.labels),
                    cases_of(self._settings),
                )
            except CheckpointError as error:
                log.warning("snapshot_unusable", error=str(error), action="trying another one")
                continue
            took_s = round(monotonic_s() - began_s, 3)
            log.info("snapshot_loaded", path=str(path), made_ms=stamp.made_ms, replay=replay, seconds=took_s)
            return engine, stamp
        return None

    def start(
        self,
        engine: FeatureEngine,
        positions: Positions,
        labels: Positions,
        numbered: Numbered,
    ) -> None:
        """Begin a snapshot of a state that holds exactly what lies before the positions.

        Args:
            labels: positions of the labels.
            numbered: what first decisions in the state refer to.
        """
        newest_ms = max(map(_made_ms, self._folder.glob(f"*{SUFFIX}")), default=0)
        # A clock that was set back must not make it the first to be deleted.
        made_ms = max(now_ms(), newest_ms + 1)
        stamp = Stamp(self._topic, dict(positions), dict(labels), numbered, made_ms)
        self._path = self._folder / f"{stamp.made_ms}-{ranges(positions)}{SUFFIX}"
        self._began_s = monotonic_s()
        self._due_s = self._began_s + self._settings.snapshots.interval_ms / 1000
        try:
            self._child.start(engine, self._path, msgspec.to_builtins(stamp, str_keys=True))
        except OSError as error:
            self._tell_failed(f"no process for it ({error.strerror})")
        self._metrics.snapshot_stall_seconds.set(monotonic_s() - self._began_s)

    def look(self, wait: bool = False) -> None:
        """Note the end of a snapshot, if one is being taken; wait for it if asked to."""
        if not self._child.busy:
            return
        try:
            if not self._child.done(wait):
                return
        except CheckpointError as error:
            self._tell_failed(str(error))
            return
        took_s = monotonic_s() - self._began_s
        self._metrics.snapshots.labels("taken").inc()
        self._metrics.snapshot_seconds.set(took_s)
        self._metrics.snapshot_made.set_to_current_time()
        log.info("snapshot_taken", path=str(self._path), seconds=round(took_s, 3))
        self._prune()

    def _tell_failed(self, why: str) -> None:
        self._metrics.snapshots.labels("failed").inc()
        log.error("snapshot_failed", error=why, action="the one before is kept; trying again later")

    def _fits(self, path: Path, stamp: Stamp, oldest: Positions, served: Positions) -> bool:
        """Tell whether a snapshot can be gone on from; say so where somebody might want to know."""
        partitions = stamp.positions.keys()
        enough = served.keys() == partitions or (self._apart and served.keys() <= partitions)
        if stamp.topic != self._topic or not enough:
            return False
        for partition, offset in stamp.positions.items():
            if partition not in served:
                continue
            if offset < oldest[partition]:
                gap = f"{self._topic}/{partition} is kept from {oldest[partition]} on, it ends at {offset}"
                log.warning("snapshot_unusable", path=str(path), error=f"older than the topic: {gap}")
                return False
            if offset > served[partition]:
                ahead = f"{self._topic}/{partition} was served up to {served[partition]}, it is at {offset}"
                log.warning("snapshot_unusable", path=str(path), error=f"ahead of what was served: {ahead}")
                return False
        return True

    def _stamped(self) -> list[tuple[Path, Stamp]]:
        """Return all snapshots whose heads can be read, the newest first."""
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            try:
                found.append((path, msgspec.convert(snapshots.about(path), Stamp, str_keys=True)))
            except (CheckpointError, msgspec.ValidationError) as error:
                log.warning("snapshot_unusable", path=str(path), error=str(error))
        return sorted(found, key=lambda one: one[1].made_ms, reverse=True)

    def _prune(self) -> None:
        """Delete what is beyond `snapshots.kept` of this set of partitions, and what was left half-written."""
        mine = self._path.stem.partition("-")[2]
        ours = sorted(self._folder.glob(f"*-{mine}{SUFFIX}"), key=_made_ms, reverse=True)
        parts = [part for part in self._folder.glob(f".*-{mine}{SUFFIX}.part") if not self._child.busy]
        for path in [*ours[self._settings.snapshots.kept :], *parts]:
            with contextlib.suppress(OSError):
                path.unlink()


def _made_ms(path: Path) -> Any:
    return int(path.name.partition("-")[0]) if path.name.partition("-")[0].isdigit() else 0
