"""Logs are events with fields, on stderr: for people on a terminal, JSON elsewhere. Never card data."""

from __future__ import annotations

import logging
import os
import sys

import structlog


def configure_logs() -> None:
    """Set structlog up once for this process; FRAUDSTREAM_LOG=json or text chooses by hand."""
    chosen = os.environ.get("FRAUDSTREAM_LOG", "text" if sys.stderr.isatty() else "json")
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
