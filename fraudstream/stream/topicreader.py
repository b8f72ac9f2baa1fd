"""Reads the JSON of a batch, or says that it must wait: the schema registry is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from fraudstream.bus.formats import new_reader
from fraudstream.clock import Seldom
from fraudstream.decode import Value
from fraudstream.errors import RegistryAwayError
from fraudstream.sections import Settings

log = structlog.get_logger("worker")


class TopicReader:
    """Reads messages of the topic of transactions.

    Attributes:
        waits: the last messages could not be read, as a schema that they need cannot be had now.
    """

    def __init__(self, settings: Settings) -> None:
        self.waits = False
        self._read = new_reader(settings)
        self._seldom = Seldom()

    def read(self, messages: Sequence[Any]) -> list[Value] | None:
        """Return what the decoder takes; None: give the same messages again later."""
        try:
            values = self._read(messages)
        except RegistryAwayError as error:
            self.waits = True
            if self._seldom.now():
                log.warning(
                    "schema_registry_away", error=str(error), messages=len(messages), action="retrying"
                )
            return None
        self.waits = False
        return values
