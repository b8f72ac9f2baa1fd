"""The model that all score with: 200 trees of 31 leaves on the features of the job, as text and as a bundle."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np

from benchmarks.scoring_models import MODELS, PARAMETERS, TRAINING_ROWS, observed
from fraudstream.clock import iso, now_ms
from fraudstream.features import build_catalog
from fraudstream.registry import Registry, write_bundle
from fraudstream.registry.bundle import Golden
from fraudstream.registry.promotions import promote_recorded
from fraudstream.scoring.model import ModelParts, points_knots
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.training.calibrate import calibrated

GOLDEN_ROWS = 256
SEED = 7


def train_model(config: Path, data: Path) -> ModelParts:
    """Train on a folder's transactions with the features of a settings' file; make it the champion of its registry.

    Trained on some rows, calibrated on the others; trees of their full size, as in `benchmarks.scoring`.
    """
    settings: Settings = load_settings(config, environment={})
    catalog = build_catalog(settings.features, settings.event)
    rows = observed(data, config, {})
    order = np.random.default_rng(SEED).permutation(len(rows.X))
    learnt, others = order[:TRAINING_ROWS], order[TRAINING_ROWS:][:TRAINING_ROWS]
    trees, leaves = MODELS["200x31"]
    given = lightgbm.Dataset(
        rows.X[learnt], rows.fraud[learnt].astype(np.float64), feature_name=catalog.names
    )
    text = lightgbm.train(PARAMETERS | {"num_leaves": leaves, "seed": SEED}, given, trees).model_to_string()
    booster = lightgbm.Booster(model_str=text)
    raw, fraud = booster.predict(rows.X[others], raw_score=True), rows.fraud[others]
    registry = Registry.of(settings.model)
    folder = registry.next_path()
    parts = ModelParts(
        version=f"{registry.name}/{folder.name}",
        booster_text=text,
        feature_names=tuple(catalog.names),
        feature_ids=tuple(feature.id for feature in catalog.features),
        calibration=calibrated(raw, fraud),
        points=points_knots(raw[~fraud]),
    )
    golden = Golden.of(parts, rows.X[others][:GOLDEN_ROWS], raw[:GOLDEN_ROWS])
    write_bundle(folder, parts, {"created_at": iso(now_ms()), "training": {}, "metrics": {}}, golden, {})
    promote_recorded(registry, folder.name, "first")
    return parts
