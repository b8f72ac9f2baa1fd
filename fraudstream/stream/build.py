"""Settings -> a worker on Kafka: warms the kernels and the state, waits for the broker, checks the model."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import structlog

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.bus.delivery import new_sink
from fraudstream.bus.files import read_transactions
from fraudstream.bus.kafka import KafkaReader, KafkaSource
from fraudstream.bus.place import Place, place_of
from fraudstream.bus.rights import rights_of
from fraudstream.bus.topics import wait_for_broker, wait_for_others_to_go
from fraudstream.clock import monotonic_s
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.features import Catalog, FeatureEngine, build_catalog, new_engine, partial_features
from fraudstream.features.labels import KnownLabel
from fraudstream.metrics import STAGES, WorkerMetrics
from fraudstream.registry import CHALLENGER, CHAMPION
from fraudstream.registry.nursery import Nursery
from fraudstream.registry.verify import Child, run_child
from fraudstream.scoring import Model, ModelParts, Pipeline, build_policy
from fraudstream.scoring.fingerprint import fingerprints
from fraudstream.sections import Settings
from fraudstream.stream.checkpoints import Checkpoints
from fraudstream.stream.models import ModelWatch
from fraudstream.stream.serve import absorb
from fraudstream.stream.worker import Ends, Worker

log = structlog.get_logger("worker")


def warm_kernels(catalog: Catalog, settings: Settings) -> None:
    """Compile (or load from the cache) every kernel on a few rows of a throw-away engine."""
    engine = new_engine(settings, catalog)
    rows = 4
    texts: list[str | None] = [str(row) for row in range(rows)]
    fields = settings.event.fields.items()
    batch = TransactionBatch(
        ids=[str(row) for row in range(rows)],
        time_ms=np.arange(rows, dtype=np.int64),
        measures={n: np.full(rows, MISSING) for n, f in fields if f.type not in ("id", "category")},
        texts={n: texts for n, f in fields if f.type in ("id", "category")},
        partition=np.zeros(rows, np.int64),
        offset=np.arange(rows, dtype=np.int64),
        source_row=np.arange(rows, dtype=np.int64),
    )
    engine.learn([KnownLabel("0", True, 0)])
    engine.recognise(batch)
    fingerprints(engine.observe(batch).X)
    engine.peek(batch)
    engine.absorb(batch)


def warmed_engine(settings: Settings, catalog: Catalog) -> FeatureEngine:
    """Return an engine that has seen the files of `worker.warm`."""
    engine = new_engine(settings, catalog)
    if settings.worker.warm:
        _absorb_files(engine, place_of(settings.worker.warm, "worker.warm"), settings)
    return engine


def build_worker(
    settings: Settings, parts: ModelParts, metrics: WorkerMetrics, stop: Callable[[], bool]
) -> Worker | None:
    """Return a worker on Kafka that is ready to step; None when stopped before.

    Args:
        parts: the model, as `load_model` gave it.
    """
    # First: by the time that transactions are read, it has imported all that it needs a core for.
    child: Child = Nursery(parts.booster_text) if settings.model.reload_ms else run_child
    catalog = build_catalog(settings.features, settings.event)
    policy = build_policy(settings)
    model = Model(parts, catalog)
    for stage in STAGES:
        metrics.stage_seconds.labels(stage).inc(0)
    wait_for_broker(settings, rights_of(settings, "worker"), stop)  # first: what it refuses is said at once
    if stop():
        return None
    warm_kernels(catalog, settings)
    log.info("kernels_warm", features=len(catalog), model=parts.version)
    partial = partial_features(catalog)
    if partial and settings.worker.several == "refuse":
        _refuse_to_be_several(settings, partial, stop)
    _spare_the_collector()
    _give_way_soon()
    checkpoints = Checkpoints(settings, catalog, metrics) if settings.snapshots.folder else None
    source = KafkaSource(settings)
    labelled = any(feature.label for feature in catalog.features)
    labels = KafkaReader(settings, settings.topics.labels) if labelled else None
    return Worker(
        settings,
        lambda: warmed_engine(settings, catalog),
        lambda engine: Pipeline(engine, model, policy),
        Ends(source, new_sink(settings, source), labels),
        metrics,
        watches=[
            ModelWatch(settings, catalog, CHAMPION, parts.version, child),
            ModelWatch(settings, catalog, CHALLENGER, child=child),
        ],
        checkpoints=checkpoints,
    )


def _refuse_to_be_several(settings: Settings, partial: list[str], stop: Callable[[], bool]) -> None:
    if other := wait_for_others_to_go(settings, stop):
        raise ConfigError(
            f'worker.several = "refuse": another worker ({other}) is in the group {settings.worker.group}, and '
            f"{len(partial)} features see only what comes to one worker: {', '.join(partial[:3])}, ... . Set "
            'worker.several = "allow" (decisions are flagged partial), or declare only features of '
            f"{settings.event.key}"
        )


def _spare_the_collector() -> None:
    """Let Python's cycle collector run rarely: messages make no cycles, but each counts towards a run.

    At its usual thresholds it took a seventh of a saturated loop's time (profiled).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def _give_way_soon() -> None:
    """Let threads beside the loop hold the interpreter for half a millisecond at once, not for five.

    While another model is made ready, each call of the loop that lets go of it may wait as long for its return.
    """
    sys.setswitchinterval(0.0005)


def _absorb_files(engine: FeatureEngine, path: Place, settings: Settings) -> None:
    started_s, rows = monotonic_s(), 0
    decoder = Decoder(settings.event, engine.catalog.fields_used)
    for batch, rejected in read_transactions(path, decoder):
        absorb(engine, batch)
        rows += len(batch)
        for bad in rejected:
            log.warning("history_row_skipped", file=bad.file, row=bad.row, error=str(bad.error))
    log.info("history_absorbed", transactions=rows, seconds=round(monotonic_s() - started_s, 2))
