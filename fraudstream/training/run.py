"""Training and replay as a person starts them: settings and paths in, files and a summary out."""

from __future__ import annotations

import dataclasses
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraudstream.bus.files import read_transactions
from fraudstream.bus.place import Place
from fraudstream.clock import iso, now_ms
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.features import Catalog, build_catalog, new_engine
from fraudstream.ledger import all_mature_ms, read_labels
from fraudstream.registry import Registry, write_bundle
from fraudstream.registry.promotions import promote_recorded
from fraudstream.scoring import Model, Pipeline, build_policy
from fraudstream.sections import Settings
from fraudstream.training.dataset import Sampling, dataset_as_of
from fraudstream.training.replay import Advance, ReplayPlan, replay_to_parquet
from fraudstream.training.train import Windows, train


def train_from_files(
    settings: Settings,
    transactions: Place,
    labels: Place,
    as_of_ms: int | None,
    promote: bool,
    advance: Advance,
    key: Ed25519PrivateKey | None = None,
) -> dict[str, Any]:
    """Train on files and write the bundle; return what a machine wants to know of it.

    Args:
        as_of_ms: nothing known later is used; None: now, or when the newest transaction is mature, if that
            was earlier.
        promote: make it the champion; the first model of a name always is, unless it lacks a needed signature.
        key: signs it.

    Raises:
        ModelError: there is too little to learn from, or no trusted key signed what was to be the champion.
    """
    catalog = build_catalog(settings.features, settings.event)
    engine = new_engine(settings, catalog)
    registry = Registry.of(settings.model)
    if as_of_ms is None:
        newest_ms = newest_transaction(transactions, catalog)
        as_of_ms = all_mature_ms(newest_ms, settings.labels.maturity_ms)
    windows = Windows.before(as_of_ms, settings.labels.maturity_ms, settings.training)
    known = read_labels(labels, settings.labels.ranks).as_of(as_of_ms)
    sampling = Sampling(settings.training.negatives_max, windows.validate, settings.training.seed)
    window = (windows.train, windows.end)
    silence_ms = settings.labels.silence_ms
    data = dataset_as_of(transactions, known, engine, window, advance, sampling, silence_ms)
    path = registry.next_path()
    version = f"{registry.name}/{path.name}"
    trained = train(data, catalog, windows, settings.training, version, advance)
    about = {
        "created_at": iso(now_ms()),
        "training": {"as_of": iso(as_of_ms), **trained.training},
        "metrics": trained.metrics,
    }
    write_bundle(path, trained.parts, about, trained.golden, trained.report, key)
    signed_enough = key is not None or not settings.model.require_signature
    champion = promote or (signed_enough and not registry.aliases())
    if champion:
        registry.read(path.name)
        promote_recorded(registry, path.name, "trained" if registry.aliases() else "first")
    return {
        "path": str(path),
        "model": version,
        "champion": champion,
        "as_of": iso(as_of_ms),
        "metrics": trained.metrics,
        "training": trained.training,
    }


def replay_files(settings: Settings, plan: ReplayPlan, advance: Advance) -> dict[str, Any]:
    """Score files with the settings' model and write one row a transaction.

    Raises:
        ConfigError: features are fed by labels and none are given, or the folder to write to is not there.
    """
    if not plan.output.parent.is_dir():
        raise ConfigError(f"--output = {plan.output}: the folder {plan.output.parent} does not exist")
    catalog, policy = build_catalog(settings.features, settings.event), build_policy(settings)
    fed = [feature.name for feature in catalog.features if feature.label]
    if fed and plan.labels is None:
        raise ConfigError(
            f"--labels: missing; features are fed by labels ({', '.join(fed[:3])}{' ...' * (len(fed) > 3)}): "
            "give the files of what became known"
        )
    labels = read_labels(plan.labels, settings.labels.ranks) if plan.labels is not None else None
    registry = Registry.of(settings.model)
    pipeline = Pipeline(
        new_engine(settings, catalog), Model(registry.find(settings.model.version), catalog), policy
    )
    challenger = Model(registry.find(plan.challenger), catalog) if plan.challenger else None
    plan = dataclasses.replace(plan, segment=settings.quality.segment)
    counts, examples = replay_to_parquet(plan, labels, pipeline, advance, challenger)
    return {
        "path": str(plan.output),
        "model": pipeline.model.parts.version,
        "challenger": challenger.parts.version if challenger is not None else None,
        "transactions": counts.transactions,
        "repeated": counts.repeated,
        "alerts": counts.alerts,
        "rejected": counts.rejected,
        "rejected_examples": [f"{bad.file} row {bad.row}: {bad.error}" for bad in examples],
    }


def newest_transaction(path: Place, catalog: Catalog) -> int:
    """Return the newest event time of the files, in Unix ms.

    Raises:
        ConfigError: they hold no transaction.
    """
    decoder = Decoder(catalog.event, set())
    newest = [int(batch.time_ms.max()) for batch, _ in read_transactions(path, decoder) if len(batch)]
    if not newest:
        raise ConfigError(f"{path}: holds no transaction")
    return max(newest)
