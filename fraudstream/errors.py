"""Everything fraudstream raises on purpose. Each docstring is the operator's next action."""

from __future__ import annotations


class FraudstreamError(Exception):
    """Read the one line it carries; every subclass says what to do."""

    exit_code = 1


class ConfigError(FraudstreamError):
    """Correct the setting that the message names, then run `fraudstream config check`."""

    exit_code = 2


class RecordError(FraudstreamError):
    """Nothing to do: the message went to the dead letters with this reason, the worker goes on.

    Args:
        path: where in the message, as a JSON path (`$.amount`).
        reason: what is wrong and which form is accepted.
        kind: one of `kinds`, to count by.
    """

    kinds = ("json", "size", "key", "missing", "type", "value", "future", "schema")

    def __init__(self, path: str, reason: str, kind: str = "value") -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind


class DeadLetterLimitError(FraudstreamError):
    """Read the dead letters: a producer changed its format, or `[event]` is not what it sends."""


class BusError(FraudstreamError):
    """Check that the broker is reachable and that the topics exist and may be used; then restart."""


class RegistryAwayError(BusError):
    """The schema registry does not answer, or refuses: a worker waits and asks again; else mend it and run again."""


class FencedError(BusError):
    """Another worker runs under the same name: stop one of the two, or give each a `worker.instance` of its own."""


class CheckpointError(FraudstreamError):
    """The recorded position cannot be continued from; the message names the ways on."""


class FeatureError(FraudstreamError):
    """The catalogue and the model (or the state) do not fit; the message names the feature."""


class PromotionError(FraudstreamError):
    """The challenger stays what it is: read the reasons; `--force REASON` promotes it anyhow, and is recorded."""

    exit_code = 3


class ModelError(FraudstreamError):
    """The model cannot be used; run `fraudstream models verify`, then train or promote another."""
