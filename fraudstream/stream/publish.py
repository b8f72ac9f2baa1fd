"""Scored rows -> messages: decisions, alerts, dead letters, with their CloudEvents headers.

`ce_id` follows from the input's topic, partition and offset: what is sent twice after a crash has the same
id and can be dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.bus.base import Headers, Outgoing, Sink
from fraudstream.clock import iso
from fraudstream.decode import Rejected
from fraudstream.event import EventType
from fraudstream.features.cases import Case
from fraudstream.records import Alert, Challenger, Decision
from fraudstream.scoring import Policy, Scored
from fraudstream.scoring.explain import Explanation
from fraudstream.scoring.pipeline import FLAGS
from fraudstream.sections import TopicSettings

RUN_HEADER = "fraudstream-run"
DECODE_STAGE = "decode"
LABEL_STAGE = "label"
DLQ_PREFIX = "fraudstream.dlq."
PASSED_ON = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True)
class Serving:
    """How the rows of a batch were served.

    Attributes:
        features_hash: [n] fingerprints; empty where nothing was computed.
        sequence: of the first row; the others follow it.
        model: [n] numbers of the models that decided, in the publisher's list.
        challenger: [n] what the challenger says.
        shed: what was left out, of all rows.
    """

    features_hash: list[str]
    sequence: int
    model: Int64
    challenger: Sequence[Challenger | msgspec.UnsetType]
    shed: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Publisher:
    """Writes what was decided of a batch to the topics.

    Args:
        sink: takes the messages.
        topics: their names.
        event: the event type, for entities and currency in alerts.
        policy: names outcomes and rules.
        models: `name/version` of each model that decides.
    """

    def __init__(
        self,
        sink: Sink,
        topics: TopicSettings,
        event: EventType,
        policy: Policy,
        models: Sequence[str],
    ) -> None:
        self._sink = sink
        self._topics = topics
        self._event = event
        self._outcomes = policy.names
        self._rules = policy.texts
        self._models = list(models)
        self._run = ""
        self._encode = msgspec.json.Encoder().encode
        self.begin("")

    def begin(self, run: str) -> None:
        """Name the run that what follows belongs to."""
        self._run = run
        self._decision_headers = self._fixed("fraudstream.decision.v1", run)
        self._alert_headers = self._fixed("fraudstream.alert.v1", run)

    @property
    def models(self) -> list[str]:
        """Return the models that have decided, by their numbers."""
        return list(self._models)

    def recall(self, models: Sequence[str], deciding: str) -> int:
        """Number models as they were elsewhere; return the number of the one that decides."""
        self._models = list(models)
        return self.use(deciding)

    def use(self, model: str) -> int:
        """Return the number of a model that decides from now on."""
        if model not in self._models:
            self._models.append(model)
        self.begin(self._run)
        return self._models.index(model)

    def decisions(self, scored: Scored, serving: Serving, messages: Sequence[Any]) -> None:
        """Send one decision a row; `messages` are those that the batch was decoded from."""
        batch, topic, prefix = scored.batch, self._topics.decisions, f"{self._topics.transactions}/"
        fixed = self._decision_headers
        numbers = serving.model.tolist()
        decided = scored.decided.tolist()
        decisions = map(
            Decision,
            batch.ids,
            batch.time_ms.tolist(),
            [self._outcomes[i] for i in decided],
            scored.probability.tolist(),
            scored.points.tolist(),
            [self._models[number] for number in numbers],
            scored.flags(),
            serving.features_hash,
            range(serving.sequence, serving.sequence + len(batch)),
            [self._rules[i] for i in decided],
            serving.challenger,
            repeat(serving.shed),
        )
        values = map(self._encode, decisions)
        its_messages = [messages[source_row] for source_row in batch.source_row.tolist()]
        keys = self._keys(batch, range(len(batch)), its_messages)
        headers = [
            _headers(fixed[n], prefix, message) for n, message in zip(numbers, its_messages, strict=True)
        ]
        self._sink.send(topic, zip(values, keys, headers, strict=True))

    def alerts(
        self,
        scored: Scored,
        serving: Serving,
        explanations: Sequence[Explanation],
        cases: Sequence[Case],
        messages: Sequence[Any],
    ) -> None:
        """Send the alerting rows with their explanations and cases."""
        rows = scored.alerting.nonzero()[0].tolist()
        its_messages = [messages[int(scored.batch.source_row[row])] for row in rows]
        keys = self._keys(scored.batch, rows, its_messages)
        alerts: list[Outgoing] = []
        for row, why, case, message, key in zip(rows, explanations, cases, its_messages, keys, strict=True):
            value = self._encode(self._alert(scored, serving, row, why, case))
            fixed = self._alert_headers[int(serving.model[row])]
            alerts.append((value, key, _headers(fixed, f"{self._topics.transactions}/", message)))
        self._sink.send(self._topics.alerts, alerts)

    def _keys(
        self, batch: TransactionBatch, rows: Sequence[int], messages: Sequence[Any]
    ) -> list[bytes | None]:
        """Return the key of what is sent of rows: that of their messages, or the token that stands for it."""
        if not self._event.token_of_key:
            return [message.key() for message in messages]
        texts = batch.texts[self._event.token_of_key]
        return [None if (text := texts[row]) is None else text.encode() for row in rows]

    def dead_letters(self, rejected: Sequence[Rejected], messages: Sequence[Any], stage: str) -> None:
        """Send what could not be read: the original bytes, key and headers, and why."""
        topic = self._topics.labels if stage == LABEL_STAGE else self._topics.transactions
        letters: list[Outgoing] = []
        for bad in rejected:
            message = messages[bad.row]
            why = {
                "topic": topic,
                "partition": str(message.partition()),
                "offset": str(message.offset()),
                "stage": stage,
                "path": bad.error.path,
                "reason": bad.error.reason,
            }
            headers = list(message.headers() or [])
            headers += [(DLQ_PREFIX + name, text.encode()) for name, text in why.items()]
            letters.append((message.value(), message.key(), headers))
        self._sink.send(self._topics.dlq, letters)

    def _fixed(self, kind: str, run: str) -> list[Headers]:
        """Return the headers that all messages of each model have."""
        return [
            [
                ("ce_specversion", b"1.0"),
                ("ce_type", kind.encode()),
                ("ce_source", b"fraudstream"),
                ("content-type", b"application/json"),
                ("fraudstream-model", model.encode()),
                (RUN_HEADER, run.encode()),
            ]
            for model in self._models
        ]

    def _alert(self, scored: Scored, serving: Serving, row: int, why: Explanation, case: Case) -> Alert:
        batch, event = scored.batch, self._event
        entities = {}
        for name, declared in event.entities.items():
            if isinstance(declared, str) and (text := batch.texts[declared][row]) is not None:
                entities[name] = text
        time_ms, score = int(batch.time_ms[row]), float(scored.probability[row])
        amount = batch.measure_of(event.amount, row, event.fields[event.amount].digits)
        return Alert(
            transaction_id=batch.ids[row],
            event_time_ms=time_ms,
            event_time=iso(time_ms),
            outcome=self._outcomes[int(scored.decided[row])],
            score=score,
            risk_points=int(scored.points[row]),
            model=self._models[int(serving.model[row])],
            flags=FLAGS[int(scored.flag_bits[row])],
            entities=entities,
            amount=amount,
            currency=batch.texts[event.currency][row] if event.currency else None,
            raw_score=float(scored.raw[row]),
            base=why.base,
            rest=why.rest,
            reasons=why.reasons,
            features_hash=serving.features_hash[row],
            sequence=serving.sequence + row,
            rule=self._rules[int(scored.decided[row])],
            expected_loss=score * amount,
            groups=why.groups,
            method=why.method,
            language=why.language,
            case_id=case.case_id,
            case_alerts=case.alerts,
        )


def _headers(fixed: Headers, prefix: str, message: Any) -> Headers:
    identity = f"{prefix}{message.partition()}/{message.offset()}".encode()
    headers = [("ce_id", identity), *fixed]
    if carried := message.headers():
        headers += [(name, value) for name, value in carried if name in PASSED_ON]
    return headers
