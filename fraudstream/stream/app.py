"""The Faust app for `faust -A fraudstream.stream.app worker`; settings as for `fraudstream worker`."""

from __future__ import annotations

from collections.abc import Callable

from fraudstream.features import build_catalog
from fraudstream.logs import configure_logs
from fraudstream.metrics import WorkerMetrics
from fraudstream.settings import load_settings
from fraudstream.stream.build import build_worker
from fraudstream.stream.host import create_app
from fraudstream.stream.models import load_model
from fraudstream.stream.worker import Worker

configure_logs()
_settings = load_settings()


def _build(metrics: WorkerMetrics, stop: Callable[[], bool]) -> Worker | None:
    catalog = build_catalog(_settings.features, _settings.event)
    return build_worker(_settings, load_model(_settings, catalog, _settings.model.version), metrics, stop)


app = create_app(_settings, _build)
