"""Evaluation as a person starts it: settings and paths in, everything that a report tells out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from fraudstream.bus.files import columns_of, read_table
from fraudstream.bus.place import Place
from fraudstream.clock import iso
from fraudstream.errors import ConfigError
from fraudstream.event import parse_instant_ms
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import all_mature_ms, newest_mature_ms, read_labels
from fraudstream.registry import Registry
from fraudstream.registry.bundle import Bundle
from fraudstream.scoring import Model, Pipeline, build_policy
from fraudstream.sections import Settings
from fraudstream.training.evaluate import Drawing, evaluation_of
from fraudstream.training.evidence import FOREVER_MS, Evidence, Panel, Question, Said, gather
from fraudstream.training.replay import ENTITY_COLUMN, Advance, entity_columns, known_of_scored
from fraudstream.training.run import newest_transaction
from fraudstream.training.segments import codes_of

TOP_FEATURES = 25


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of `fraudstream evaluate`.

    Attributes:
        models: versions, aliases or folders; the first is compared with the others.
        from_ms: None: where the windows end that the models were made with.
        as_of_ms: nothing known later is used; None: now, or when the newest transaction is mature, if that was
            earlier.
        segments: fields and filters.
        cards_a_day: k of card precision@k.
        resamples: sets that the bootstrap draws.
    """

    labels: Place
    transactions: Place | None = None
    scored: Place | None = None
    models: Sequence[str] = ("champion",)
    from_ms: int | None = None
    to_ms: int | None = None
    as_of_ms: int | None = None
    segments: Sequence[str] = ()
    cards_a_day: int = 100
    resamples: int = 200
    baselines: bool = True


def evaluate_files(settings: Settings, request: Request, advance: Advance) -> dict[str, Any]:
    """Judge models on transactions, or a replay's scores, by the labels.

    Raises:
        ConfigError: nothing can be judged; says why.
        ModelError: a model cannot be used.
    """
    if request.scored is not None:
        evidence, as_of_ms = _of_scored(settings, request.scored, request)
        cards: dict[str, Any] = {}
    else:
        bundles = read_bundles(Registry.of(settings.model), request.models)
        evidence, as_of_ms = evidence_of(settings, bundles, request, advance)
        cards = {name: model_card(bundle) for name, bundle in bundles.items()}
    drawing = Drawing(settings.event.key, request.resamples, settings.training.seed)
    found = evaluation_of(evidence, drawing, request.cards_a_day, advance)
    about = {
        "as_of": iso(as_of_ms),
        "from": iso(int(evidence.time_ms.min())),
        "to": iso(int(evidence.time_ms.max())),
        "maturity": settings.labels.maturity,
        "clusters": drawing.key,
        "resamples": drawing.count,
        "seed": drawing.seed,
    }
    in_sample = [
        n for n, c in cards.items() if parse_instant_ms(c["made_with_until"]) > evidence.time_ms.min()
    ]
    return about | found | {"cards": cards, "in_sample": in_sample}


def read_bundles(registry: Registry, models: Sequence[str]) -> dict[str, Bundle]:
    """Return the bundles of versions, aliases or folders, by the name of the model; one named twice once."""
    found = {}
    for model in models:
        bundle = registry.bundle(model)
        found[bundle.parts.version] = bundle
    return found


def evidence_of(
    settings: Settings, bundles: dict[str, Bundle], request: Request, advance: Advance
) -> tuple[Evidence, int]:
    """Return what the models say of the transactions, and the instant that they are judged at."""
    assert request.transactions is not None
    catalog = build_catalog(settings.features, settings.event)
    models = {name: Model(bundle.parts, catalog) for name, bundle in bundles.items()}
    pipeline = Pipeline(new_engine(settings, catalog), next(iter(models.values())), build_policy(settings))
    maturity_ms = settings.labels.maturity_ms
    as_of_ms = request.as_of_ms
    if as_of_ms is None:
        as_of_ms = all_mature_ms(newest_transaction(request.transactions, catalog), maturity_ms)
    from_ms = request.from_ms
    if from_ms is None:
        from_ms = max(made_until_ms(bundle) for bundle in bundles.values())
    question = Question(
        from_ms=from_ms,
        to_ms=FOREVER_MS if request.to_ms is None else request.to_ms,
        as_of_ms=as_of_ms,
        maturity_ms=maturity_ms,
        segments=list(dict.fromkeys([*settings.evaluation.segments, *request.segments])),
        baselines=request.baselines,
    )
    panel = Panel(pipeline, models)
    labels = read_labels(request.labels, settings.labels.ranks)
    return gather(request.transactions, labels, panel, question, advance), as_of_ms


def made_until_ms(bundle: Bundle) -> int:
    """Return the end of the last window that a model was made with, training or validation."""
    return parse_instant_ms(bundle.described.training["windows"]["end"])


def model_card(bundle: Bundle) -> dict[str, Any]:
    """Return what a person asks of a model: what it is made of, what it is for, and where its limits are."""
    training, parts = bundle.described.training, bundle.parts
    return {
        "model": parts.version,
        "created_at": bundle.described.created_at,
        "trained_as_of": training.get("as_of"),
        "made_with_until": iso(made_until_ms(bundle)),
        "windows": training["windows"],
        "rows": training.get("rows"),
        "frauds": training.get("frauds"),
        "trees": training.get("trees"),
        "parameters": training.get("parameters"),
        "validation": bundle.described.metrics,
        "features": len(parts.feature_names),
        "top_features": top_features(bundle),
        "intended_use": "Ranks transactions of the event type it was trained on by their risk of fraud, for review "
        "or decline by the declared outcomes, with a person who can be asked. It is no proof of fraud by anybody.",
        "limits": [
            "A transaction that nobody reported counts as legitimate: fraud that stays unknown is learned as such.",
            "Kinds of fraud that began after the training window are unknown to it.",
            "Who is declined is never known to be legitimate: outcomes change the labels that come after them.",
        ],
    }


def top_features(bundle: Bundle, every: bool = False) -> list[dict[str, Any]]:
    """Return the features by their share of the trees' gain, the largest first."""
    gains = lgb.Booster(model_str=bundle.parts.booster_text).feature_importance("gain")
    total = float(gains.sum()) or 1.0
    order = np.argsort(-gains, kind="stable")[: None if every else TOP_FEATURES]
    return [{"feature": bundle.parts.feature_names[i], "share": float(gains[i] / total)} for i in order]


def _of_scored(settings: Settings, scored: Place, request: Request) -> tuple[Evidence, int]:
    """Return what a replay's file says, and the instant that it is judged at."""
    present = columns_of(scored)
    columns = {
        "transaction_id": pa.large_string(),
        "event_time_ms": pa.int64(),
        "raw_score": pa.float64(),
        "score": pa.float64(),
        "outcome": pa.string(),
        "repeated": pa.bool_(),
        "amount_major": pa.float64(),
        **dict.fromkeys(entity_columns(settings.event), pa.large_string()),
    }
    if challenged := "challenger_raw_score" in present:
        columns |= {f"challenger_{name}": columns[name] for name in ("raw_score", "score", "outcome")}
    table = read_table(scored, columns)
    repeated = int(table["repeated"].to_numpy().sum())
    table = table.filter(pa.array(~table["repeated"].to_numpy()))
    time_ms = table["event_time_ms"].to_numpy()
    inside = (time_ms >= (request.from_ms or -FOREVER_MS)) & (time_ms < (request.to_ms or FOREVER_MS))
    as_of_ms, maturity_ms = request.as_of_ms, settings.labels.maturity_ms
    if as_of_ms is None:
        as_of_ms = all_mature_ms(int(time_ms.max(initial=0)), maturity_ms)
    mature = inside & (time_ms <= newest_mature_ms(as_of_ms, maturity_ms))
    if not mature.any():
        raise ConfigError(
            f"{scored}: none of {int(inside.sum())} transactions is mature at {iso(as_of_ms)}; "
            "give earlier ones, a later --as-of, or a shorter labels.maturity"
        )
    counts = {
        "transactions": int(inside.sum()),
        "repeated": repeated,
        "newest_ms": int(time_ms[inside].max()),
    }
    table = table.filter(pa.array(mature))
    known = read_labels(request.labels, settings.labels.ranks).as_of(as_of_ms)
    fraud, labelled, _ = known_of_scored(table, known, settings.event)
    alerts = [outcome.name for outcome in settings.outcomes if outcome.alert]
    said = {}
    for name, prefix in (("champion", ""), ("challenger", "challenger_"))[: 1 + challenged]:
        outcome = table[f"{prefix}outcome"].to_numpy(zero_copy_only=False)
        raw, probability = (table[prefix + column].to_numpy() for column in ("raw_score", "score"))
        said[name] = Said(raw, probability, np.isin(outcome, alerts))
    amount = table["amount_major"].to_numpy()
    if request.baselines:
        said["amount"] = Said(np.nan_to_num(amount))
    codes = {
        column.removeprefix(ENTITY_COLUMN): codes_of(table[column])
        for column in entity_columns(settings.event)
    }
    evidence = Evidence(
        time_ms=table["event_time_ms"].to_numpy(),
        fraud=fraud,
        labelled=labelled,
        amount=amount,
        clusters={name: code for name, (code, _) in codes.items()},
        entity_names={name: texts for name, (_, texts) in codes.items()},
        said=said,
        segments={},
        counts=counts | {"mature": len(fraud), "labelled": int(labelled.sum()), "frauds": int(fraud.sum())},
    )
    return evidence, as_of_ms
