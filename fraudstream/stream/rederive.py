"""A decision derived again, from the features that were logged, by the model that made it; compared bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fraudstream.batch import Float64, TransactionBatch
from fraudstream.clock import iso
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError, ModelError
from fraudstream.features import Catalog, build_catalog
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.records import PATH, Alert, Decision
from fraudstream.registry import Registry, Trust
from fraudstream.scoring import Model, Policy, build_policy
from fraudstream.scoring.decide import expected_loss
from fraudstream.scoring.explain import Explainer, Explanation, Rows
from fraudstream.scoring.fingerprint import fingerprints
from fraudstream.sections import Settings
from fraudstream.stream.featurelog import column_names
from fraudstream.stream.served import Features, Served, Spoken, Spokens
from fraudstream.words import Words, read_words

_BITS = {name: bit for bit, name in FLAG_NAMES.items()}


class Missing(msgspec.Struct, frozen=True):
    """What is not there any more: why, and what to do."""

    what: str
    why: str
    do: str


class Check(msgspec.Struct, frozen=True):
    """One thing that was served, beside what it is now; the same where their JSON has the same bytes."""

    what: str
    served: Any
    now: Any
    same: bool


class Other(msgspec.Struct, frozen=True):
    """Another decision made of the same transaction id, when it came again after `state.repeat_horizon`."""

    sequence: int
    outcome: str
    risk_points: int
    run: str


class Part(msgspec.Struct, frozen=True):
    """One feature of the model, its value and its part of the raw score."""

    feature: str
    value: float | None
    contribution: float


class Threshold(msgspec.Struct, frozen=True):
    """One rule of the settings, and whether it decided."""

    outcome: str
    rule: str
    decided: bool


@dataclass(slots=True)
class Rederived:
    """What was found of a transaction.

    Attributes:
        transaction_id: that was asked for.
        decision: the first that was served; alert: with it, where there is one.
        others: the other decisions made of the same id.
        repeats, written_again: see `Spokens`.
        missing: what is not there; checks: what was compared.
        parts: of the model's features, the strongest first.
        why: derived now.
    """

    transaction_id: str
    decision: Decision | None = None
    alert: Alert | None = None
    position: tuple[int, int] | None = None
    run: str = ""
    repeats: int = 0
    written_again: int = 0
    others: list[Other] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    thresholds: list[Threshold] = field(default_factory=list)
    raw_score: float | None = None
    why: Explanation | None = None

    @property
    def ok(self) -> bool:
        """Tell whether nothing is missing and nothing differs."""
        return not self.missing and all(check.same for check in self.checks)

    def compare(self, what: str, served: Any, now: Any) -> None:
        """Note something served beside what it is now."""
        same = msgspec.json.encode(served) == msgspec.json.encode(now)
        plain = msgspec.to_builtins(served), msgspec.to_builtins(now)
        self.checks.append(Check(what, *plain, same))


def rederive(
    settings: Settings, served: Served, transaction_id: str, sequence: int | None = None
) -> Rederived:
    """Find what was served of a transaction, and derive it again.

    Args:
        sequence: of the decision, where several were made of the id; None: the first.

    Raises:
        BusError: something cannot be read.
        ConfigError: the settings do not hold together.
    """
    found, spokens = Rederived(transaction_id), served.decisions(transaction_id)
    spoken = spokens.of(sequence)
    found.others = [_other(one) for one in spokens.made if one is not spoken]
    if spoken is None:
        found.missing.append(_no_decision(settings, served, spokens, transaction_id))
        return found
    found.decision, found.position, found.run = spoken.decision, spoken.position, spoken.run
    found.repeats, found.written_again = spokens.repeats, spokens.written_again
    catalog, policy = build_catalog(settings.features, settings.event), build_policy(settings)
    if _may_alert(spoken.decision, policy):
        found.alert = served.alert(spoken)
    features = served.features(spoken)
    if features is None:
        found.missing.append(_no_features(served, spoken.decision))
    model = _model(settings, spoken.decision, catalog, found)
    decoder = Decoder(settings.event, catalog.fields_used | policy.fields_used)
    batch = served.transaction(spoken, decoder)
    if batch is None:
        found.missing.append(
            Missing(
                "transaction",
                f"the transaction itself is not in {served.places['transactions']}, so that its outcome cannot be "
                "derived",
                "give it as a file (--transactions), or lengthen the topic's retention",
            )
        )
    if features is not None and model is not None:
        _derive(settings, found, _Known(features, model, policy, batch))
    return found


@dataclass(frozen=True, slots=True)
class _Known:
    """What a decision is derived from; `batch` is the transaction, None where it is gone."""

    features: Features
    model: Model
    policy: Policy
    batch: TransactionBatch | None


def _derive(settings: Settings, found: Rederived, known: _Known) -> None:
    """Score, decide and explain again, and compare."""
    decision, alert, model = found.decision, found.alert, known.model
    assert decision is not None
    X = _row(known.features, model, found)
    if X is None:
        return
    if decision.features_hash:
        logged = np.array([[np.nan if v is None else v for v in known.features.values()]], np.float64)
        found.compare("features_hash", decision.features_hash, fingerprints(logged)[0])
    raw = model.raw_scores(X)
    points, probability = model.risk_points(raw), model.probabilities(raw)
    found.raw_score = float(raw[0])
    found.compare("score", decision.score, float(probability[0]))
    found.compare("risk_points", decision.risk_points, int(points[0]))
    if known.batch is not None:
        decided = int(known.policy.decide(known.batch, points, probability)[0])
        found.compare("outcome", decision.outcome, known.policy.names[decided])
        if decision.rule:
            found.compare("rule", decision.rule, known.policy.texts[decided])
        rules = zip(known.policy.names, known.policy.texts, strict=True)
        found.thresholds = [Threshold(*rule, decided=i == decided) for i, rule in enumerate(rules)]
    currency = alert.currency if alert is not None else _currency(settings, known.batch)
    flags = sum(_BITS.get(flag, 0) for flag in decision.flags)
    by_path = alert is not None and alert.method == PATH
    explainer = Explainer(model.catalog, _words(settings, alert), _reasons_max(settings, alert))
    (found.why,) = explainer.explain(model, Rows(X, np.array([flags], np.uint8), [currency]), by_path)
    found.parts = _parts(model, X, by_path)
    if alert is not None:
        _compare_alert(found, alert, found.why)
        if known.batch is not None:
            found.compare(
                "expected_loss",
                alert.expected_loss,
                float(expected_loss(known.batch, probability, settings.event)[0]),
            )


def _compare_alert(found: Rederived, alert: Alert, why: Explanation) -> None:
    found.compare("raw_score", alert.raw_score, found.raw_score)
    for what in ("base", "rest", "reasons", "groups", "method"):
        found.compare(what, getattr(alert, what), getattr(why, what))


def _row(features: Features, model: Model, found: Rederived) -> Float64 | None:
    """Return the row of X, [1, catalogue], that was logged; None where the model needs what was not."""
    columns = column_names(model.catalog)
    lacking = [columns[i] for i in model.columns.tolist() if columns[i] not in features]
    if lacking:
        found.missing.append(
            Missing(
                "features",
                f"the logged row has no {', '.join(lacking[:5])}, which {model.parts.version} needs",
                "give the settings (-c) that the worker had when it served",
            )
        )
        return None
    values = [features.get(column) for column in columns]
    return np.array([[np.nan if value is None else value for value in values]], np.float64)


def _parts(model: Model, X: Float64, by_path: bool) -> list[Part]:
    contributions = model.contributions(X, by_path)[0][:-1]
    values = model.select(X)[0]
    parts = [
        Part(name, None if np.isnan(value) else float(value), float(part))
        for name, value, part in zip(model.parts.feature_names, values, contributions, strict=True)
    ]
    return sorted(parts, key=lambda part: -abs(part.contribution))


def _model(settings: Settings, decision: Decision, catalog: Catalog, found: Rederived) -> Model | None:
    name, _, version = decision.model.partition("/")
    root = Path(settings.model.registry)
    try:
        return Model(Registry(root, name, Trust.of(settings.model)).read(version)[1], catalog)
    except ModelError as error:
        found.missing.append(
            Missing(
                "model",
                f"{decision.model}, which decided, cannot be loaded from {root}: {error}",
                f"put the bundle back into {root / name / version}, or give the settings (-c) that served",
            )
        )
        return None


def _may_alert(decision: Decision, policy: Policy) -> bool:
    """Tell whether the outcome alerts, or is not among those of the settings any more."""
    own = [rule.outcome.alert for rule in policy.rules if rule.outcome.name == decision.outcome]
    return any(own) or not (own or decision.outcome == policy.otherwise)


def _words(settings: Settings, alert: Alert | None) -> Words:
    """Return the words of the alert's language, of the settings' where it has none or it is gone."""
    language = alert.language if alert is not None and alert.language else settings.alerts.language
    try:
        return read_words(language, settings.alerts.words)
    except ConfigError:
        return read_words(settings.alerts.language, settings.alerts.words)


def _reasons_max(settings: Settings, alert: Alert | None) -> int:
    return len(alert.reasons) if alert is not None and alert.reasons else settings.worker.reasons_max


def _currency(settings: Settings, batch: TransactionBatch | None) -> str | None:
    return batch.texts[settings.event.currency][0] if batch is not None and settings.event.currency else None


def _other(spoken: Spoken) -> Other:
    decision = spoken.decision
    return Other(decision.sequence, decision.outcome, decision.risk_points, spoken.run)


def _no_decision(settings: Settings, served: Served, spokens: Spokens, transaction_id: str) -> Missing:
    if spokens.made:
        known = ", ".join(str(one.decision.sequence) for one in spokens.made)
        return Missing(
            "decision",
            f"no decision of {transaction_id} has this sequence number, but {known}",
            "leave --sequence out, or take it from the alert",
        )
    read = ""
    if spokens.oldest_ms is not None:
        read = f", {spokens.read:,} of which were read, the oldest of {iso(spokens.oldest_ms)}"
    return Missing(
        "decision",
        f"there is no decision of {transaction_id} among {served.places['decisions']}{read}",
        "check the id; older decisions are in an archive only (--decisions, --features); a message that could not be "
        f"read is in {settings.topics.dlq}",
    )


def _no_features(served: Served, decision: Decision) -> Missing:
    if "repeated" in decision.flags and not decision.features_hash:
        return Missing(
            "features",
            "this decision repeats an earlier one, which is no longer there; no features were scored for it",
            "read the earlier one from an archive (--decisions, --features)",
        )
    return Missing(
        "features",
        f"the features that were scored are not in {served.places['features']}",
        "set worker.feature_log = true for the future; for the past, `fraudstream replay --features` computes them "
        "again from the transactions, and --features reads its file",
    )
