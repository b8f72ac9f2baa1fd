"""The gate as a person starts it: a version, files of what came after its training, and the champion that stands."""

from __future__ import annotations

import numpy as np

from fraudstream.bus.place import Place
from fraudstream.errors import ModelError
from fraudstream.features import build_catalog
from fraudstream.registry import Registry
from fraudstream.registry.registry import CHAMPION
from fraudstream.scoring.drift import CALENDAR
from fraudstream.scoring.model import bind
from fraudstream.sections import Settings
from fraudstream.training.evaluate import Drawing
from fraudstream.training.evidence import NothingMatureError
from fraudstream.training.gate import Moment, Verdict, drifted, judge
from fraudstream.training.judge import Request, evidence_of, read_bundles, top_features
from fraudstream.training.promised import WEEK_MS
from fraudstream.training.replay import Advance


def gate_of_files(
    settings: Settings,
    version: str,
    files: tuple[Place, Place],
    now_ms: int,
    advance: Advance,
) -> Verdict:
    """Judge a version against the champion.

    Args:
        version: or an alias; not the champion itself.
        files: of transactions and of labels.
        now_ms: the instant that maturity and staleness are measured at.

    Raises:
        ConfigError: the files cannot be read.
        ModelError: a bundle is damaged.
    """
    transactions, labels = files
    bundles = read_bundles(Registry.of(settings.model), (CHAMPION, version))
    champion, challenger = bundles
    catalog = build_catalog(settings.features, settings.event)
    try:
        bind(bundles[challenger].parts, catalog)
    except ModelError as error:
        return Verdict([f"its features differ: {error}"], {})
    request = Request(
        labels=labels,
        transactions=transactions,
        as_of_ms=now_ms,
        baselines=False,
    )
    try:
        evidence, _ = evidence_of(settings, bundles, request, advance)
    except NothingMatureError as error:
        return Verdict([f"too little is known: {error}"], {})
    limits = settings.promotion
    drawing = Drawing(settings.event.key, limits.resamples, settings.training.seed)
    verdict = judge(evidence, limits, Moment(now_ms, settings.labels.maturity_ms), drawing, advance)
    gains = {each["feature"]: each["share"] for each in top_features(bundles[challenger], every=True)}
    if int(np.ptp(evidence.time_ms)) < WEEK_MS:
        gains |= {feature.name: 0.0 for feature in catalog.features if feature.aggregate in CALENDAR}
    moved = drifted(evidence.drift.get(challenger, {}), gains, limits.drift_max)
    models = {"models": {"champion": champion, "challenger": challenger}}
    return Verdict(verdict.reasons + moved, models | verdict.figures)
