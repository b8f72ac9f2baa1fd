"""Faust hosts work that is done again and again in another process: its web server, signals and supervision."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import faust
import structlog
from faust.web import Request, Response, View
from mode import Service

from fraudstream.clock import monotonic_s, now_ms
from fraudstream.errors import FraudstreamError
from fraudstream.metrics import RetrainMetrics
from fraudstream.sections import Settings
from fraudstream.stream.host import new_app

log = structlog.get_logger("retrain")

Round = Callable[[threading.Event], dict[str, Any]]


class Schedule:
    """What `run_app` and the pages may know.

    Attributes:
        failure: None: a round that fails is counted, and the next one comes.
        halt: ends the round that is under way.
    """

    def __init__(self) -> None:
        self.metrics = RetrainMetrics()
        self.failure: BaseException | None = None
        self.halt = threading.Event()


def create_schedule(settings: Settings, every_s: float, work: Round) -> faust.App:
    """Return the Faust app that does a round at once and then every `every_s` seconds, counted from start to start.

    Args:
        work: does one round, in a thread; raises FraudstreamError or OSError where it failed.
    """
    schedule = Schedule()
    app = new_app("fraudstream-retrain", settings, schedule)

    @app.service
    class Rounds(Service):
        """One round after the other."""

        async def on_stop(self) -> None:
            schedule.halt.set()

        @Service.task
        async def _run(self) -> None:
            while not self.should_stop:
                began_s = monotonic_s()
                await asyncio.to_thread(_round, schedule, work)
                await self.sleep(max(0.0, every_s - (monotonic_s() - began_s)))

    @app.page("/livez")
    class Live(View):
        async def get(self, request: Request) -> Response:
            return self.text('{"live": true}\n', content_type="application/json")

    return app


def _round(schedule: Schedule, work: Round) -> None:
    began_s = monotonic_s()
    error: Exception | None = None
    try:
        result = work(schedule.halt)
    except (FraudstreamError, OSError) as raised:  # a full disk, a folder that is gone
        error = raised
    if schedule.halt.is_set():
        return
    schedule.metrics.ended(error is not None, monotonic_s() - began_s, now_ms())
    if error is not None:
        log.error("retrain_failed", error=str(error))
    else:
        log.info("retrained", model=result["model"], champion=result["champion"], gate=result["gate"])
