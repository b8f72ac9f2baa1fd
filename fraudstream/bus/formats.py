"""Messages of the topic of transactions -> the JSON that `decode` takes.

Avro and Protobuf are read where the topic is; behind it everything is JSON, the archive too, which so needs no schema
registry. What reads them (extra `registry`) is loaded for these formats only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fraudstream.decode import Value
from fraudstream.errors import ConfigError
from fraudstream.sections import Settings

Read = Callable[[Sequence[Any]], list[Value]]


def new_reader(settings: Settings) -> Read:
    """Return what gives the JSON of messages of the topic of transactions, or why one cannot be read.

    What is returned raises `RegistryAwayError` where a schema cannot be had; nothing was read then.

    Raises:
        ConfigError: `[schema_registry]` cannot be used, or the extra is not installed.
    """
    if settings.event.format == "json":
        return values_of
    try:
        from fraudstream.bus.schemas import SchemaReader
    except ImportError as error:
        raise ConfigError(
            f'event.format = "{settings.event.format}": needs `pip install "fraudstream[registry]"` ({error})'
        ) from None
    return SchemaReader(settings).read


def values_of(messages: Sequence[Any]) -> list[Value]:
    """Return the values of messages that are JSON already."""
    return [message.value() for message in messages]
