"""Training learns from what was known at an instant, and from the same files learns the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraudstream.batch import Float64
from fraudstream.errors import ConfigError, ModelError
from fraudstream.features import build_catalog, new_engine
from fraudstream.features.keys import combine, hash_texts
from fraudstream.ledger import Labels, read_labels
from fraudstream.registry import Trust, verify_bundle
from fraudstream.registry.bundle import REFERENCE, read_bundle
from fraudstream.scoring import Model
from fraudstream.scoring.drift import SCORE, Drift, read_reference
from fraudstream.sections import Settings
from fraudstream.simulate import DAY_MS
from fraudstream.training.dataset import Dataset, Sampling, dataset_as_of
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files, train_from_files
from fraudstream.training.train import Windows
from tests.worlds import DAYS, LIVE_MS, START_MS, TinyWorld, ignore, write_rows, write_table

MATURITY_MS = 7 * DAY_MS


def train_on(
    world: TinyWorld,
    folder: Path,
    transactions: pa.Table | None = None,
    labels: pa.Table | None = None,
    as_of_ms: int | None = LIVE_MS,
    **overrides: Any,
) -> Path:
    """Train with the world's settings on its own or other tables; return the bundle's folder."""
    settings = world.settings_with(model__registry=str(folder / "models"), **overrides)
    paths = []
    for name, table, own in (
        ("transactions", transactions, world.transactions),
        ("labels", labels, world.labels),
    ):
        if table is not None:
            write_table(table, folder / name)
        paths.append(own if table is None else folder / name)
    made = train_from_files(settings, paths[0], paths[1], as_of_ms, False, ignore)
    return Path(made["path"])


def learned(bundle: Path) -> dict[str, bytes]:
    """Return the bytes of everything in a bundle that decides a score."""
    described = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return {
        **{
            name: (bundle / name).read_bytes()
            for name in ("booster.txt", "calibrator.json", "golden.parquet")
        },
        **{name: json.dumps(described[name]).encode() for name in ("features", "points", "metrics")},
    }


def described(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return found


def test_the_same_files_and_seed_give_the_same_model_byte_for_byte(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    first, second = train_on(tiny_world, tmp_path / "a"), train_on(tiny_world, tmp_path / "b")
    assert learned(first) == learned(second) == learned(tiny_world.bundle)
    assert verify_bundle(first, Trust()).problems == []


def test_another_seed_gives_another_model(tiny_world: TinyWorld, tmp_path: Path) -> None:
    other = train_on(tiny_world, tmp_path, training__seed=8)
    assert (other / "booster.txt").read_bytes() != (tiny_world.bundle / "booster.txt").read_bytes()


def test_what_is_older_by_the_half_life_counts_half(tiny_world: TinyWorld, tmp_path: Path) -> None:
    time_ms = np.array([20, 10, 0, 30]) * DAY_MS
    data = Dataset(np.zeros((4, 1)), np.zeros(4, np.bool_), time_ms, 0)
    weights = data.weights(10.0)
    assert weights is not None
    np.testing.assert_array_equal(weights, [0.5, 0.25, 0.125, 1.0])
    assert data.weights(0) is None
    alike = learned(train_on(tiny_world, tmp_path / "alike", training__half_life_days=0))
    assert learned(train_on(tiny_world, tmp_path / "newest", training__half_life_days=5)) != alike


def test_fewer_negatives_are_drawn_by_the_seed(tiny_world: TinyWorld, tmp_path: Path) -> None:
    first = train_on(tiny_world, tmp_path / "a", training__negatives_max=2000)
    second = train_on(tiny_world, tmp_path / "b", training__negatives_max=2000)
    rows, frauds = described(first)["training"]["rows"], described(first)["training"]["frauds"]
    assert learned(first) == learned(second) != learned(tiny_world.bundle)
    share = described(first)["training"]["negatives_share"]
    assert share in (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
    before, validation = rows["all"] - rows["validation"], rows["validation"] - frauds["validation"]
    assert 0 < before - (frauds["all"] - frauds["validation"]) <= 2000
    assert rows["sampled"] == before + frauds["validation"] + round(share * validation)


def test_what_is_sampled_follows_from_the_ids_alone(tiny_world: TinyWorld) -> None:
    known, window = read_labels(tiny_world.labels, {}).as_of(LIVE_MS), (START_MS, LIVE_MS)
    until_ms, most = LIVE_MS - 10 * DAY_MS, 500
    settings = tiny_world.settings
    engine = new_engine(settings, build_catalog(settings.features, settings.event))
    sampling = Sampling(most, until_ms, seed=3)
    sampled = dataset_as_of(tiny_world.transactions, known, engine, window, ignore, sampling)
    everything = dataset_of(tiny_world, window, known)
    ids = pq.read_table(tiny_world.transactions)["transaction_id"].to_pylist()[: len(everything.fraud)]
    draw = combine([hash_texts(ids), np.full(len(ids), 3, np.uint64)])
    open_to_chance = ~everything.fraud & (everything.time_ms < until_ms)
    halvings = 0
    while (open_to_chance & (draw < np.uint64((1 << 64 - halvings) - 1))).sum() > most:
        halvings += 1
    kept = ~open_to_chance | (draw < np.uint64((1 << 64 - halvings) - 1))
    assert sampled.share == 0.5**halvings < 1
    np.testing.assert_array_equal(sampled.X, everything.X[kept])
    np.testing.assert_array_equal(sampled.time_ms, everything.time_ms[kept])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_that_became_known_after_the_instant_changes_the_model(
    tiny_world: TinyWorld, tmp_path: Path, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    labels = pq.read_table(tiny_world.labels)
    transactions = pq.read_table(tiny_world.transactions)
    ids = transactions["transaction_id"].to_pylist()

    known = labels.filter(pc.less_equal(labels["known_at"], LIVE_MS))
    n = 3_000
    later = pa.table(
        {
            "transaction_id": chance.choice(ids, n).tolist(),
            "label": chance.choice(["fraud", "legit"], n).tolist(),
            "known_at": chance.integers(LIVE_MS + 1, LIVE_MS + 30 * DAY_MS, n),
            "source": ["chargeback"] * n,
        },
        labels.schema,
    )
    mixed = pa.concat_tables([later.slice(0, n // 2), known, later.slice(n // 2)])

    time_ms = transactions["event_time"].to_numpy()
    immature = time_ms >= LIVE_MS - MATURITY_MS
    amounts = np.where(immature, chance.random(len(ids)) * 1000, transactions["amount"].to_numpy())
    column = transactions.schema.get_field_index("amount")
    changed = transactions.set_column(column, "amount", pa.array(amounts))
    changed = changed.slice(0, int(immature.argmax()) + int(chance.integers(1, immature.sum())))

    assert learned(train_on(tiny_world, tmp_path, changed, mixed)) == learned(tiny_world.bundle)


def test_what_was_known_at_the_instant_does_change_the_model(tiny_world: TinyWorld, tmp_path: Path) -> None:
    labels = pq.read_table(tiny_world.labels)
    fewer = labels.filter(pc.greater(labels["known_at"], START_MS + 10 * DAY_MS))
    assert learned(train_on(tiny_world, tmp_path, None, fewer)) != learned(tiny_world.bundle)


def test_the_model_of_an_earlier_instant_needs_only_what_there_was(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    instant = LIVE_MS - 5 * DAY_MS
    transactions, labels = pq.read_table(tiny_world.transactions), pq.read_table(tiny_world.labels)
    past = transactions.filter(pc.less(transactions["event_time"], instant))
    known = labels.filter(pc.less_equal(labels["known_at"], instant))
    now = train_on(tiny_world, tmp_path / "then", past, known, instant)
    hindsight = train_on(tiny_world, tmp_path / "now", None, None, instant)
    assert learned(now) == learned(hindsight)


def test_immature_transactions_are_left_out_and_the_windows_stand_apart(tiny_world: TinyWorld) -> None:
    training = described(tiny_world.bundle)["training"]
    assert training["as_of"] == "2024-02-10T00:00:00.000Z"
    assert training["windows"] == {
        "train": "2024-01-02T00:00:00.000Z",
        "gap": "2024-01-20T00:00:00.000Z",
        "validate": "2024-01-22T00:00:00.000Z",
        "end": "2024-02-03T00:00:00.000Z",  # as of, less the maturity of 7 days
    }
    time_ms = pq.read_table(tiny_world.transactions)["event_time"].to_numpy()
    days = (time_ms - START_MS) / DAY_MS
    assert training["rows"]["training"] == ((days >= 1) & (days < 19)).sum()
    assert training["rows"]["validation"] == ((days >= 21) & (days < 33)).sum()


def test_without_an_instant_it_is_when_the_newest_transaction_is_mature(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    newest = pc.max(pq.read_table(tiny_world.transactions)["event_time"]).as_py()
    assert newest < START_MS + DAYS * DAY_MS
    default = train_on(tiny_world, tmp_path / "default", as_of_ms=None)
    named = train_on(tiny_world, tmp_path / "named", as_of_ms=newest + MATURITY_MS)
    assert learned(default) == learned(named)


def test_the_features_of_a_dataset_are_those_of_the_engine(tiny_world: TinyWorld) -> None:
    window = (START_MS + 20 * DAY_MS, START_MS + 22 * DAY_MS)
    known = read_labels(tiny_world.labels, {}).as_of(LIVE_MS)
    data = dataset_of(tiny_world, window, known)
    every = dataset_of(tiny_world, (START_MS, LIVE_MS), known)
    cut = every.between(*window)
    assert data.X.tobytes() == cut.X.tobytes()
    assert data.time_ms.tolist() == cut.time_ms.tolist()
    assert window[0] <= data.time_ms.min() <= data.time_ms.max() < window[1]


def dataset_of(world: TinyWorld, window_ms: tuple[int, int], labels: Labels) -> Dataset:
    catalog = build_catalog(world.settings.features, world.settings.event)
    engine = new_engine(world.settings, catalog)
    return dataset_as_of(world.transactions, labels, engine, window_ms, ignore)


def label(transaction_id: str, what: str, known_at: int) -> dict[str, Any]:
    return {"transaction_id": transaction_id, "label": what, "known_at": known_at}


def test_the_latest_label_known_at_the_instant_counts(tmp_path: Path) -> None:
    path = write_rows(
        [
            label("reversed", "legit", 30),
            label("reversed", "fraud", 10),
            label("reversed later", "fraud", 10),
            label("reversed later", "legit", 50),
            label("known later", "fraud", 41),
            label("known just then", "fraud", 40),
            label("twice", "legit", 5),
            label("twice", "fraud", 6),
        ],
        tmp_path / "labels.ndjson",
    )
    assert said(path, 40) == {
        "reversed": False,
        "reversed later": True,
        "known just then": True,
        "twice": True,
    }
    assert said(path, 50)["reversed later"] is False
    assert said(path, 4) == {}


def said(path: Path, instant_ms: int) -> dict[str, bool]:
    known = read_labels(path, {}).as_of(instant_ms)
    ids = sorted(set(known.ids.to_pylist()))
    fraud, labelled = known.outcomes().of(ids, np.zeros(len(ids), np.int64), {})
    assert labelled.all()
    return dict(zip(ids, fraud.tolist(), strict=True))


def test_a_reversed_fraud_is_legitimate_in_the_dataset(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = pq.read_table(tiny_world.transactions).slice(0, 3)["transaction_id"].to_pylist()
    path = write_rows(
        [label(rows[0], "fraud", 10), label(rows[1], "fraud", 10), label(rows[1], "legit", 20)],
        tmp_path / "labels.ndjson",
    )
    before = dataset_of(tiny_world, (START_MS, START_MS + DAY_MS), read_labels(path, {}).as_of(15))
    after = dataset_of(tiny_world, (START_MS, START_MS + DAY_MS), read_labels(path, {}).as_of(25))
    assert before.fraud[:3].tolist() == [True, True, False]
    assert after.fraud[:3].tolist() == [True, False, False]


def test_windows_end_where_labels_are_mature(tiny_world: TinyWorld) -> None:
    windows = Windows.before(100 * DAY_MS, 30 * DAY_MS, tiny_world.settings.training)
    assert windows == Windows(38 * DAY_MS, 56 * DAY_MS, 58 * DAY_MS, 70 * DAY_MS)


@pytest.mark.parametrize(("kept", "window"), [(START_MS + 21 * DAY_MS, "training"), (START_MS, "validation")])
def test_too_few_frauds_are_said_in_one_line_and_leave_no_bundle(
    tiny_world: TinyWorld, tmp_path: Path, kept: int, window: str
) -> None:
    known = frauds_of(tiny_world, kept, kept + 21 * DAY_MS)
    with pytest.raises(ModelError) as refused:
        train_on(tiny_world, tmp_path, None, known)
    said = str(refused.value)
    assert f"the {window} window" in said
    assert "0 known frauds; at least 10" in said
    assert "\n" not in said
    assert not (tmp_path / "models").exists()


def frauds_of(world: TinyWorld, start_ms: int, end_ms: int) -> pa.Table:
    """Return the labels of the transactions of [start, end)."""
    transactions, labels = pq.read_table(world.transactions), pq.read_table(world.labels)
    inside = pc.and_(
        pc.greater_equal(transactions["event_time"], start_ms), pc.less(transactions["event_time"], end_ms)
    )
    ids = transactions.filter(inside)["transaction_id"]
    return labels.filter(pc.is_in(labels["transaction_id"], ids.combine_chunks()))


def test_an_instant_before_all_transactions_is_said_in_one_line(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no transaction between 2023-.*later --as-of") as refused:
        train_on(tiny_world, tmp_path, as_of_ms=START_MS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([label("a", "Fraud", 1)], """label 'Fraud': give "fraud" or "legit\""""),
        ([{"transaction_id": "a", "label": "fraud"}], "has no column known_at"),
        ([{"transaction_id": "a", "label": "fraud", "known_at": "soon"}], "labels.ndjson"),
        ([label("a", "fraud", 1), {"transaction_id": "a", "label": None, "known_at": 1}], "None"),
        (
            [label("a", "fraud", 1), {"transaction_id": None, "label": "fraud", "known_at": 1}],
            "transaction_id",
        ),
        ([label("a", "fraud", 1), {"transaction_id": "a", "label": "fraud"}], "known_at"),
    ],
)
def test_labels_that_are_none_are_refused_by_file_and_value(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    path = write_rows(rows, tmp_path / "labels.ndjson")
    with pytest.raises(ConfigError) as refused:
        read_labels(path, {})
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_model_has_at_most_the_trees_and_leaves_that_are_allowed(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    bundle = train_on(tiny_world, tmp_path, training__trees_max=3, training__leaves_max=4)
    sizes = [
        int(line.removeprefix("num_leaves="))
        for line in (bundle / "booster.txt").read_text("utf-8").splitlines()
        if line.startswith("num_leaves=")
    ]
    assert 1 <= len(sizes) <= 3
    assert max(sizes) <= 4


def test_a_score_follows_a_feature_in_the_declared_direction_only(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    groups = [
        msgspec.structs.replace(group, monotone="falling") if group.of == "amount" else group
        for group in tiny_world.settings.features
    ]
    settings = msgspec.structs.replace(
        tiny_world.settings_with(model__registry=str(tmp_path)), features=groups
    )
    made = train_from_files(settings, tiny_world.transactions, tiny_world.labels, LIVE_MS, False, ignore)
    assert verify_bundle(Path(made["path"]), Trust()).problems == []
    for bundle, falls in ((Path(made["path"]), True), (tiny_world.bundle, False)):
        booster = lgb.Booster(model_str=(bundle / "booster.txt").read_text("utf-8"))
        rows = read_golden(bundle)[:50]
        rows = np.repeat(rows, 200, axis=0).reshape(50, 200, -1)
        rows[:, :, booster.feature_name().index("amount")] = np.linspace(0, 2000, 200)
        scores = booster.predict(rows.reshape(-1, rows.shape[2]), raw_score=True).reshape(50, 200)
        assert bool((np.diff(scores, axis=1) <= 0).all()) == falls


def read_golden(bundle: Path) -> Float64:
    """Return the features of a bundle's golden rows, in the booster's order."""
    table = pq.read_table(bundle / "golden.parquet")
    names = [feature["name"] for feature in described(bundle)["features"]]
    return np.column_stack([table[name].to_numpy() for name in names])


def test_rows_that_are_no_transactions_are_counted_and_not_learned_from(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    rows = pq.read_table(tiny_world.transactions).to_pylist()
    bad = [{**rows[100], "amount": -1.0}, {**rows[200], "card_id": None}]
    (tmp_path / "transactions").mkdir(parents=True)
    write_rows([*rows[:5000], *bad, *rows[5000:]], tmp_path / "transactions" / "part.ndjson")
    settings: Settings = tiny_world.settings_with(model__registry=str(tmp_path / "models"))
    result = train_from_files(settings, tmp_path / "transactions", tiny_world.labels, LIVE_MS, False, ignore)
    assert result["training"]["rejected_rows"] == 2
    assert learned(Path(result["path"])) == learned(tiny_world.bundle)


def test_the_first_model_is_champion_and_later_ones_only_when_promoted(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    settings = tiny_world.settings_with(model__registry=str(tmp_path), training__trees_max=2)
    results = [
        train_from_files(settings, tiny_world.transactions, tiny_world.labels, LIVE_MS, promote, ignore)
        for promote in (False, False, True)
    ]
    assert [result["champion"] for result in results] == [True, False, True]
    aliases = json.loads((tmp_path / "card_payment" / "aliases.json").read_text("utf-8"))
    assert aliases == {"champion": "0003", "previous": "0001"}


def test_a_time_without_any_label_is_no_time_of_legitimate_ones(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    #  day     0          8    10                          LIVE
    #  labels  (none known)    | | | || |  | ||| |  | ||  |
    connected_ms, window = START_MS + 10 * DAY_MS, (START_MS, LIVE_MS)
    transactions, labels = pq.read_table(tiny_world.transactions), pq.read_table(tiny_world.labels)
    later = transactions.filter(pc.greater_equal(transactions["event_time"], connected_ms))
    connected = labels.filter(pc.is_in(labels["transaction_id"], later["transaction_id"].combine_chunks()))
    write_table(connected, tmp_path / "labels")
    known = read_labels(tmp_path / "labels", {}).as_of(LIVE_MS)
    engine = new_engine(
        tiny_world.settings, build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    )
    data = dataset_as_of(tiny_world.transactions, known, engine, window, ignore, silence_ms=8 * DAY_MS)
    everything = dataset_of(tiny_world, window, known)
    first_ms = int(everything.time_ms[everything.fraud].min())
    assert data.silent == ((int(everything.time_ms[0]), first_ms),)
    assert first_ms >= connected_ms
    np.testing.assert_array_equal(data.time_ms, everything.time_ms[everything.time_ms >= first_ms])
    np.testing.assert_array_equal(data.X, everything.X[everything.time_ms >= first_ms])


def test_a_source_of_labels_that_failed_is_named_where_nothing_can_be_learned(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    labels, transactions = pq.read_table(tiny_world.labels), pq.read_table(tiny_world.transactions)
    before = transactions.filter(pc.less(transactions["event_time"], START_MS + 15 * DAY_MS))
    failed = labels.filter(pc.is_in(labels["transaction_id"], before["transaction_id"].combine_chunks()))
    with pytest.raises(ModelError, match=r"validation window .* left out by labels\.silence: 2024-01-1"):
        train_on(tiny_world, tmp_path, labels=failed)


def test_the_drift_reference_has_as_many_frauds_as_a_worker_sees(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    bundle = train_on(tiny_world, tmp_path, training__negatives_max=600)
    assert described(bundle)["training"]["negatives_share"] <= 1 / 8
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    path = bundle / "report" / REFERENCE
    drift = Drift(read_reference(path.read_bytes(), str(path)), catalog.names)
    window = (START_MS + 12 * DAY_MS, START_MS + 19 * DAY_MS)  # the last week: the features are hardly warm
    drift.count(dataset_of(tiny_world, window, read_labels(tiny_world.labels, {}).as_of(LIVE_MS)).X)
    shifts = {name: shift.psi or 0.0 for name, shift in drift.shifts().items()}
    assert max(shifts.values()) < 0.1, shifts


def test_a_searched_model_of_stable_features_is_served_like_any_other(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    bundle = train_on(
        tiny_world, tmp_path, training__features="stable", training__tune_trials=2, training__trees_max=40
    )
    about = described(bundle)["training"]
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    names = [feature["name"] for feature in described(bundle)["features"]]
    assert names == [name for name in catalog.names if name in names]
    assert 0 < about["features"] == len(names) < len(catalog)
    assert about["tuning"]["trials"] == 2
    assert all(about["parameters"][name] == value for name, value in about["tuning"]["parameters"].items())
    assert verify_bundle(bundle, Trust()).problems == []
    plan = ReplayPlan(tiny_world.transactions, tmp_path / "scored.parquet", tiny_world.labels)
    replay_files(tiny_world.settings_with(model__version=str(bundle)), plan, ignore)
    assert len(set(pq.read_table(plan.output)["score"].to_pylist())) > 10


def test_the_drift_reference_of_the_score_is_of_the_model_that_is_kept(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    bundle = train_on(tiny_world, tmp_path, training__trees_max=4)
    parts = read_bundle(bundle, Trust()).parts
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    windows = Windows.before(LIVE_MS, MATURITY_MS, tiny_world.settings.training)
    known = read_labels(tiny_world.labels, {}).as_of(LIVE_MS)
    validation = dataset_of(tiny_world, (windows.validate, windows.end), known)
    drift = Drift(parts.reference, [SCORE])
    drift.count(Model(parts, catalog).raw_scores(validation.X)[:, None])
    assert drift.shifts()[SCORE].psi == pytest.approx(0, abs=1e-9)
