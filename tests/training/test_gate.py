"""The gate on models whose truth is known, and on the world's own files: what passes, and why the rest does not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import gate as worlds
from fraudstream.errors import ConfigError
from fraudstream.registry import Registry, write_bundle
from fraudstream.registry.bundle import Bundle
from fraudstream.scoring.drift import Shift
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import DAY_MS
from fraudstream.training.evaluate import Drawing
from fraudstream.training.evidence import Evidence, Said
from fraudstream.training.gate import Moment, Verdict, _tail, drifted, judge
from fraudstream.training.promote import gate_of_files
from tests.worlds import LIVE_MS, START_MS, TinyWorld, ignore

NOW_MS = LIVE_MS + 11 * DAY_MS  # seven days after the last transaction all are mature
SETTINGS = load_settings(environment={})
MOMENT = Moment(START_MS + 60 * DAY_MS, 30 * DAY_MS)


def test_a_better_challenger_passes_where_an_equal_and_a_poisoned_one_do_not() -> None:
    verdicts = {kind: verdict for kind, (verdict, _) in worlds.one_world(1, truthful=False).items()}
    assert verdicts["better"].reasons == []
    assert verdicts["better"].figures["gain_low"] > 0
    assert [reason.partition(":")[0] for reason in verdicts["equal"].reasons] == ["not surely better"]
    assert len(verdicts["poisoned"].reasons) > 1


def evidence(challenger_misses: str = "", wrong: int = 0, n: int = 4000) -> Evidence:
    """A champion that is right in most cases; a challenger that is better, but not everywhere.

    Every tenth row is fraud, of ten merchants in turn; each row is of a card of its own.
    """
    random = np.random.default_rng(5)
    fraud = np.arange(n) % 10 == 0
    merchant = np.arange(n) // 10 % 10
    champion = np.where(fraud, 1.0, -1.0) + random.normal(0, 0.8, n)
    challenger = np.where(fraud, 3.0, -1.0) + random.normal(0, 0.5, n)
    if challenger_misses:
        challenger[fraud & (merchant == int(challenger_misses))] = -3.0
    alerting = challenger > np.sort(challenger[~fraud])[-20]
    alerting[np.flatnonzero(~fraud)[:wrong]] = True
    return Evidence(
        time_ms=START_MS + np.arange(n) * (30 * DAY_MS // n),
        fraud=fraud,
        labelled=fraud,
        amount=np.ones(n),
        clusters={"card": np.arange(n), "merchant": merchant},
        entity_names={"card": [], "merchant": [f"m{i}" for i in range(10)]},
        said={
            "old": Said(champion, None, champion > np.sort(champion[~fraud])[-20]),
            "new": Said(challenger, None, alerting),
        },
        segments={"channel": merchant < 5},
        counts={},
    )


def judged(found: Evidence, moment: Moment = MOMENT, **limits: Any) -> Verdict:
    promotion = msgspec.structs.replace(SETTINGS.promotion, **({"resamples": 100} | limits))
    return judge(found, promotion, moment, Drawing("card", promotion.resamples, 1), ignore)


@pytest.mark.parametrize("objective", ["average_precision", "recall", "money"])
def test_what_is_better_everywhere_passes_by_each_objective(objective: str) -> None:
    assert judged(evidence(), objective=objective).reasons == []


def test_a_merchant_that_it_became_blind_at_is_named() -> None:
    (reason,) = judged(evidence(challenger_misses="3")).reasons
    assert reason.startswith("merchant m3: surely misses more fraud, on ")


def test_limits_on_alerts_hold_whatever_the_objective_says() -> None:
    found = judged(evidence(wrong=300)).reasons
    assert found[0] == "false-positive rate 8.8611%, promotion.fpr_max is 5.0000%"
    assert [reason.rpartition(",")[2] for reason in found[1:]] == [
        " more than 1.2 times the champion's 0.5278%",
        " more than 2 times the champion's 7.2",
        " more than 1.2 times the champion's 0.4444%",
    ]
    assert found[-1].startswith("channel: false-positive rate ")
    (alerts,) = judged(evidence(), alerts_a_day_max=3.0).reasons
    assert "promotion.alerts_a_day_max is 3" in alerts


def test_too_few_frauds_and_stale_data_are_refused_before_anything_is_drawn() -> None:
    (few,) = judged(evidence(n=200)).reasons
    assert few == "too little is known: 20 mature frauds after the training of both, 50 are needed"
    late = Moment(MOMENT.now_ms + 8 * DAY_MS, MOMENT.maturity_ms)
    (stale,) = judged(evidence(), late).reasons
    assert stale.startswith("the data are stale: the newest mature transaction is of 2024-01-30T")
    assert judged(evidence(), Moment(MOMENT.now_ms + 6 * DAY_MS, MOMENT.maturity_ms)).reasons == []


def test_a_shifted_feature_counts_by_its_weight_in_the_model() -> None:
    found = {"a": 0.9, "b": 0.9, "c": 0.1, "d": None}
    shifts = {name: Shift(psi, psi, 0.0, 0.0) for name, psi in found.items()}
    (reason,) = drifted(shifts, {"a": 0.5, "b": 0.001, "c": 0.4, "d": 0.1}, 0.25)
    assert reason == "a has shifted since its training: PSI 0.90, limit 0.25; it has 50% of the model's gain"
    assert drifted({}, {}, 0.25) == [
        "its bundle does not say what its features were in training; train it anew"
    ]


def test_the_tail_of_fair_coins() -> None:
    assert [_tail(0, 4), _tail(4, 4), _tail(3, 4)] == [1, 1 / 16, 5 / 16]


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Registry:
    """0001 of the tiny world, and 0002, which is the same model."""
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    found = Registry.of(settings_of(tiny_world, tmp_path).model)
    again(found, tiny_world.read())
    return found


def again(registry: Registry, bundle: Bundle, **training: Any) -> None:
    """Write the bundle as version 0002."""
    about = {name: getattr(bundle.described, name) for name in ("created_at", "training", "metrics")}
    report = {
        name.removeprefix("report/"): text.decode()
        for name, text in bundle.files.items()
        if name.startswith("report/")
    }
    shutil.rmtree(registry.folder / "0002", ignore_errors=True)
    parts = dataclasses.replace(bundle.parts, version="card_payment/0002")
    write_bundle(registry.folder / "0002", parts, about, bundle.golden(), report | training)


def settings_of(world: TinyWorld, folder: Path, **more: Any) -> Settings:
    return world.settings_with(model__registry=str(folder / "models"), promotion__frauds_min=5, **more)


def gated(world: TinyWorld, folder: Path, now_ms: int = NOW_MS, **more: Any) -> Verdict:
    table = pa.concat_tables([pq.read_table(world.transactions), pq.read_table(world.live)])
    pq.write_table(table, folder / "transactions.parquet")
    files = folder / "transactions.parquet", world.labels
    return gate_of_files(settings_of(world, folder, **more), "0002", files, now_ms, ignore)


def test_the_same_model_again_is_not_better(
    tiny_world: TinyWorld, registry: Registry, tmp_path: Path
) -> None:
    verdict = gated(tiny_world, tmp_path, promotion__drift_max=100.0)
    assert verdict.reasons == [
        "not surely better: average_precision is +0.0000, its interval +0.0000 to +0.0000"
    ]
    assert verdict.figures["models"] == {"champion": "card_payment/0001", "challenger": "card_payment/0002"}
    assert verdict.figures["from"] >= tiny_world.trained["training"]["windows"]["end"]


def test_a_stale_archive_is_refused(tiny_world: TinyWorld, registry: Registry, tmp_path: Path) -> None:
    (reason,) = gated(tiny_world, tmp_path, NOW_MS + 30 * DAY_MS, promotion__drift_max=100.0).reasons
    assert reason.startswith("the data are stale")


def test_a_shift_since_training_is_refused(tiny_world: TinyWorld, registry: Registry, tmp_path: Path) -> None:
    rows = pq.read_table(tiny_world.live)
    amounts = pc.multiply(rows["amount"].cast(pa.float64()), 40.0)
    shifted = rows.set_column(rows.column_names.index("amount"), "amount", pc.round(amounts, 2))
    table = pa.concat_tables([pq.read_table(tiny_world.transactions),
                              shifted.cast(pq.read_schema(tiny_world.transactions / "part.parquet"))])  # fmt: skip
    pq.write_table(table, tmp_path / "transactions.parquet")
    verdict = gate_of_files(
        settings_of(tiny_world, tmp_path),
        "0002",
        (tmp_path / "transactions.parquet", tiny_world.labels),
        NOW_MS,
        ignore,
    )
    assert any(
        "has shifted since its training" in reason and "amount" in reason for reason in verdict.reasons
    )


def test_a_challenger_of_other_features_is_refused(
    tiny_world: TinyWorld, registry: Registry, tmp_path: Path
) -> None:
    bundle = tiny_world.read()
    ids = ("0" * len(bundle.parts.feature_ids[0]), *bundle.parts.feature_ids[1:])
    again(registry, dataclasses.replace(bundle, parts=dataclasses.replace(bundle.parts, feature_ids=ids)))
    (reason,) = gated(tiny_world, tmp_path).reasons
    assert reason.startswith(
        "its features differ: model card_payment/0002 was trained with another definition of "
    )


def test_one_that_does_not_say_what_it_learned_from_is_refused(
    tiny_world: TinyWorld, registry: Registry, tmp_path: Path
) -> None:
    again(registry, tiny_world.read(), **{"reference.json": json.dumps({})})
    assert (
        "its bundle does not say what its features were in training; train it anew"
        in gated(tiny_world, tmp_path).reasons
    )


def test_nothing_mature_after_the_training_is_too_little(
    tiny_world: TinyWorld, registry: Registry, tmp_path: Path
) -> None:
    (reason,) = gated(tiny_world, tmp_path, LIVE_MS - DAY_MS).reasons
    assert reason.startswith("too little is known: ")
    with pytest.raises(ConfigError):
        gate_of_files(
            settings_of(tiny_world, tmp_path), "0002", (tmp_path / "no", tiny_world.labels), 0, ignore
        )
