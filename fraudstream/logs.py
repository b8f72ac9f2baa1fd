"""Logs are events with fields, on stderr: for people on a terminal, JSON elsewhere. Never card data."""

from __future__ import annotations

import logging
import sys

import structlog

from fraudstream.settings import log_format


class _Libraries(logging.Handler):
    """Writes what libraries log as events, too."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        structlog.get_logger().log(record.levelno, "library", logger=record.name, message=text)


def configure_logs() -> None:
    """Set structlog up once for this process, and let the warnings of libraries go there."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()])
    chosen = log_format() or ("text" if sys.stderr.isatty() else "json")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if chosen == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # what stderr is by then
        cache_logger_on_first_use=False,
    )
