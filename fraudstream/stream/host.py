"""Faust hosts the loop: it gives threads, signals, timers, supervision and the web server.

Transactions never pass through Faust's agents or tables (docs/decisions/0002): its Kafka side stays off.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Protocol

import faust
import structlog
from faust.app.base import BootStrategy
from faust.web import Request, Response, View
from mode import Service
from mode.threads import ServiceThread

from fraudstream.clock import monotonic_s
from fraudstream.errors import ConfigError, FraudstreamError
from fraudstream.metrics import RetrainMetrics, WorkerMetrics
from fraudstream.sections import Settings
from fraudstream.stream.guard import Guard
from fraudstream.stream.worker import Worker

log = structlog.get_logger("worker")

STALLED_AFTER_S = 60.0
STOPS_WITHIN_S = (
    9.0  # a supervisor kills after 10; what it has left its group by, that is: the snapshot comes then
)

Build = Callable[[WorkerMetrics, Callable[[], bool]], Worker | None]


class _Boot(BootStrategy):
    enable_kafka = False


class Hosted(Protocol):
    """What an app knows of the work that it hosts.

    Attributes:
        failure: what ended it.
    """

    failure: BaseException | None

    @property
    def metrics(self) -> WorkerMetrics | RetrainMetrics:
        """Return what `/metrics` shows."""


class HotThread:
    """What the web server may know of the thread that does the work."""

    def __init__(self) -> None:
        self.metrics = WorkerMetrics()
        self.worker: Worker | None = None
        self.failure: BaseException | None = None
        self.turned_s = monotonic_s()
        self.halt = threading.Event()
        self.left = threading.Event()

    def live(self) -> bool:
        """Tell whether the loop still turns; building counts, within the same limit after a start."""
        return self.failure is None and (
            self.worker is None or monotonic_s() - self.turned_s < STALLED_AFTER_S
        )

    def ready(self) -> bool:
        """Tell whether transactions are being decided."""
        worker = self.worker
        return (
            self.live()
            and worker is not None
            and worker.ready
            and not (worker.waits_for_broker or worker.waits_for_registry)
        )


def create_app(settings: Settings, build: Build) -> faust.App:
    """Return the Faust app that runs the worker which `build` makes.

    Args:
        build: called once in the hot thread with the metrics and a way to ask whether to stop; returns None
            when it was stopped before it was done.
    """
    hot = HotThread()
    app = new_app(settings.worker.group, settings, hot)
    _add_service(app, hot, build)
    _add_pages(app, hot)
    return app


def new_app(name: str, settings: Settings, hot: Hosted) -> faust.App:
    """Return a Faust app with its Kafka side off, for `run_app`; its one page is `/metrics`.

    Raises:
        ConfigError: certificate or token of the web port cannot be used.
    """
    guard = Guard(settings.worker)
    app = faust.App(
        name,
        broker="kafka://" + str(settings.kafka["bootstrap.servers"]).split(",", maxsplit=1)[0],
        store="memory://",
        datadir=os.path.join(tempfile.gettempdir(), f"fraudstream-faust-{os.getuid()}"),  # stays empty
        web_host=settings.worker.web_host,
        web_bind=settings.worker.web_host,
        web_port=settings.worker.web_port or 1,  # Faust takes no 0; the server is off then
        web_enabled=settings.worker.web_port > 0,
        web_ssl_context=guard.context,
        web_router_enabled=False,  # Faust's own pages
        web_tables_enabled=False,
        autodiscover=False,
    )
    app.BootStrategy = _Boot
    app.boot_strategy = _Boot(app)
    app.hot = hot

    @app.page("/metrics")
    class Metrics(View):
        async def get(self, request: Request) -> Response:
            guard.renew()
            if not guard.admits(request.headers.get("Authorization", "")):
                wanted = {"WWW-Authenticate": "Bearer"}
                return self.text(
                    "the token of worker.web_token_file is missing\n", status=401, headers=wanted
                )
            return self.bytes(hot.metrics.exposition(), content_type="text/plain")

    return app


def _add_service(app: faust.App, hot: HotThread, build: Build) -> None:
    @app.service
    class Loop(ServiceThread):
        """The hot thread."""

        async def stop(self) -> None:
            hot.halt.set()
            limit = threading.Timer(STOPS_WITHIN_S, _give_up, [hot])
            limit.daemon = True
            limit.start()
            await super().stop()

        async def _keepalive2(self) -> None:
            """Say nothing where mode would complain of a loop that is busy; `live` tells of one that stands still."""

        @Service.task
        async def _run(self) -> None:
            worker = None
            try:
                worker = build(hot.metrics, hot.halt.is_set)
                hot.worker = worker
                announced = False
                while worker is not None and not hot.halt.is_set():
                    worker.step()
                    hot.turned_s = monotonic_s()
                    if worker.ready != announced:
                        announced = worker.ready
                        if announced:
                            log.info("worker_ready", **worker.warmth())
                        else:
                            log.info("worker_rebuilding")
                    await asyncio.sleep(0)  # lets the thread hear that it shall stop
            except Exception as error:  # whatever it is, the process must end, and say why
                self._failed(error)
            finally:
                if worker is not None:
                    self._finish(worker)
                hot.left.set()

        def _finish(self, worker: Worker) -> None:
            try:
                worker.leave()
                hot.left.set()
                worker.save()
            except FraudstreamError as error:
                if hot.failure is None:
                    self._failed(error)
            else:
                log.info("worker_stopped", lag=None if hot.failure else 0)

        def _failed(self, error: Exception) -> None:
            hot.failure = error
            if isinstance(error, FraudstreamError):
                log.error("worker_failed", error=str(error))
            else:
                log.exception("worker_failed", error=repr(error))
            root = self.beacon.root
            if root is not None:
                root.data.crash_reason = error  # Faust's worker then exits with 1
            os.kill(os.getpid(), signal.SIGTERM)


def _give_up(hot: HotThread) -> None:
    """End the process where it cannot leave in time: a call to a broker that is away may take longer."""
    if not hot.left.is_set():
        log.error(
            "stop_given_up",
            after_s=STOPS_WITHIN_S,
            action="what was not committed is served again at the next start",
        )
        os._exit(1)


def _add_pages(app: faust.App, hot: HotThread) -> None:
    def answer(view: View, healthy: bool, body: dict[str, Any]) -> Response:
        return view.text(
            json.dumps(body) + "\n", content_type="application/json", status=200 if healthy else 503
        )

    @app.page("/livez")
    class Live(View):
        async def get(self, request: Request) -> Response:
            return answer(self, hot.live(), {"live": hot.live()})

    @app.page("/readyz")
    class Ready(View):
        async def get(self, request: Request) -> Response:
            state: dict[str, Any] = {"ready": hot.ready(), "live": hot.live()}
            if hot.worker is not None:
                state |= hot.worker.progress()
            return answer(self, hot.ready(), state)


def run_app(app: faust.App, settings: Settings) -> int:
    """Run the app as Faust's own command line would; return the exit code.

    Raises:
        ConfigError: the web port is taken.
    """
    if settings.worker.web_port:
        _check_port(settings.worker.web_host, settings.worker.web_port)
    worker = faust.Worker(app, loglevel="WARN", quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # it would write its escape codes to stdout
    code: object = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:  # Faust ends so, whatever the reason
        code = ended.code
    if app.hot.failure is not None:
        return getattr(app.hot.failure, "exit_code", 1)
    return code if isinstance(code, int) else 1


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"worker.web_port = {port}: cannot listen on {host} ({error.strerror}); "
                "give a free port, or 0 for none"
            ) from None
