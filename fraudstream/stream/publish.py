"""Scored rows -> messages: decisions, alerts, dead letters, with their CloudEvents headers.

`ce_id` follows from the input's topic, partition and offset: what is sent twice after a crash has the same
id and can be dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fraudstream.bus.base import Headers, Sink
from fraudstream.clock import iso
from fraudstream.decode import Rejected
from fraudstream.event import EventType
from fraudstream.records import Alert, Decision
from fraudstream.scoring import Scored
from fraudstream.scoring.explain import Explanation
from fraudstream.settings import TopicSettings

PASSED_ON = ("traceparent", "tracestate")


class Publisher:
    """Writes what was decided of a batch to the topics.

    Args:
        sink: takes the messages.
        topics: their names.
        event: the event type, for entities and currency in alerts.
        outcomes: names in the order of `Scored.decided`.
        model: `name/version` that scored.
    """

    def __init__(
        self, sink: Sink, topics: TopicSettings, event: EventType, outcomes: Sequence[str], model: str
    ) -> None:
        self._sink = sink
        self._topics = topics
        self._event = event
        self._outcomes = outcomes
        self._model = model
        self._encode = msgspec.json.Encoder().encode
        self._decision_headers = self._fixed("fraudstream.decision.v1")
        self._alert_headers = self._fixed("fraudstream.alert.v1")

    def decisions(self, scored: Scored, messages: Sequence[Any]) -> None:
        """Send one decision a row; `messages` are those that the batch was decoded from."""
        batch, topic, prefix = scored.batch, self._topics.decisions, f"{self._topics.transactions}/"
        encode, send, fixed, model = self._encode, self._sink.send, self._decision_headers, self._model
        rows = zip(
            batch.ids,
            batch.time_ms.tolist(),
            [self._outcomes[i] for i in scored.decided.tolist()],
            scored.probability.tolist(),
            scored.points.tolist(),
            scored.flags(),
            batch.source_row.tolist(),
            strict=True,
        )
        for transaction_id, time_ms, outcome, score, points, flags, source_row in rows:
            message = messages[source_row]
            value = encode(
                Decision(
                    transaction_id=transaction_id,
                    event_time_ms=time_ms,
                    outcome=outcome,
                    score=score,
                    risk_points=points,
                    model=model,
                    flags=flags,
                )
            )
            send(topic, value, message.key(), _headers(fixed, prefix, message))

    def alerts(self, scored: Scored, explanations: Sequence[Explanation], messages: Sequence[Any]) -> None:
        """Send the alerting rows with their explanations."""
        rows = scored.alerting.nonzero()[0].tolist()
        flags = scored.flags()
        for row, why in zip(rows, explanations, strict=True):
            message = messages[int(scored.batch.source_row[row])]
            value = self._encode(self._alert(scored, row, why, flags[row]))
            headers = _headers(self._alert_headers, f"{self._topics.transactions}/", message)
            self._sink.send(self._topics.alerts, value, message.key(), headers)

    def dead_letters(self, rejected: Sequence[Rejected], messages: Sequence[Any], stage: str) -> None:
        """Send what could not be scored: the original bytes, key and headers, and why."""
        for bad in rejected:
            message = messages[bad.row]
            why = {
                "topic": self._topics.transactions,
                "partition": str(message.partition()),
                "offset": str(message.offset()),
                "stage": stage,
                "path": bad.error.path,
                "reason": bad.error.reason,
            }
            headers = list(message.headers() or [])
            headers += [(f"fraudstream.dlq.{name}", text.encode()) for name, text in why.items()]
            self._sink.send(self._topics.dlq, message.value(), message.key(), headers)

    def _fixed(self, kind: str) -> Headers:
        return [
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", b"fraudstream"),
            ("content-type", b"application/json"),
            ("fraudstream-model", self._model.encode()),
        ]

    def _alert(self, scored: Scored, row: int, why: Explanation, flags: tuple[str, ...]) -> Alert:
        batch, event = scored.batch, self._event
        entities = {}
        for name, declared in event.entities.items():
            if isinstance(declared, str) and (text := batch.texts[declared][row]) is not None:
                entities[name] = text
        time_ms = int(batch.time_ms[row])
        return Alert(
            transaction_id=batch.ids[row],
            event_time_ms=time_ms,
            event_time=iso(time_ms),
            outcome=self._outcomes[int(scored.decided[row])],
            score=float(scored.probability[row]),
            risk_points=int(scored.points[row]),
            model=self._model,
            flags=flags,
            entities=entities,
            amount=batch.measure_of(event.amount, row, event.fields[event.amount].digits),
            currency=batch.texts[event.currency][row] if event.currency else None,
            raw_score=float(scored.raw[row]),
            base=why.base,
            rest=why.rest,
            reasons=why.reasons,
        )


def _headers(fixed: Headers, prefix: str, message: Any) -> Headers:
    identity = f"{prefix}{message.partition()}/{message.offset()}".encode()
    headers = [("ce_id", identity), *fixed]
    carried = message.headers()
    if carried:
        headers += [(name, value) for name, value in carried if name in PASSED_ON]
    return headers
