"""A feature that knows the outcome is named and refused; a strong one that does not is let through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.batch import Float64
from fraudstream.errors import ModelError
from fraudstream.features import build_catalog
from fraudstream.sections import FeatureGroup
from fraudstream.training.leaks import check_leaks, single_auc
from fraudstream.training.run import train_from_files
from tests.strategies import card_event
from tests.worlds import LIVE_MS, TinyWorld, ignore, write_table

CATALOG = build_catalog(
    [
        FeatureGroup(entity="event", of="amount", aggregates=["value"]),
        FeatureGroup(entity="event", of="tip", aggregates=["value"]),
        FeatureGroup(entity="card", of="tip", windows=["1h"], aggregates=["mean"]),
    ],
    card_event(),
)
AMOUNT, TIP, MEAN = range(3)


def drawn(n: int = 4000) -> tuple[Float64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return features that know nothing, some missing, and outcomes."""
    chance = np.random.default_rng(4)
    X = chance.normal(0, 1, (n, 3))
    X[chance.random((n, 3)) < 0.3] = np.nan
    return X, chance.random(n) < 0.05


def test_features_that_know_nothing_and_strong_ones_are_let_through() -> None:
    X, fraud = drawn()
    check_leaks(X, fraud, CATALOG, 0.99)
    X[:, TIP] = fraud * 3.0 + np.random.default_rng(1).normal(0, 1, len(fraud))  # AUC 0.98
    X[:, AMOUNT] = fraud  # known beforehand
    X[:, MEAN] = np.where(
        fraud & (np.arange(len(fraud)) % 2 == 0), 1.0, np.nan
    )  # seen before: no field of its own
    check_leaks(X, fraud, CATALOG, 0.99)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("column", [TIP, MEAN])
def test_one_that_tells_the_outcome_alone_is_refused_by_name(column: int, sign: int) -> None:
    X, fraud = drawn()
    X[:, column] = sign * (fraud + np.random.default_rng(2).normal(0, 0.2, len(fraud)))
    with pytest.raises(
        ModelError, match=rf"^{CATALOG.names[column]} looks into the future: alone it has AUC 0.99"
    ):
        check_leaks(X, fraud, CATALOG, 0.99)
    check_leaks(X, fraud, CATALOG, 1.0)


def test_a_field_that_is_filled_in_for_fraud_alone_is_refused_even_where_it_often_is_not() -> None:
    X, fraud = drawn()
    X[:, TIP] = np.where(fraud & (np.arange(len(fraud)) % 4 == 0), 7.0, np.nan)
    with pytest.raises(
        ModelError, match=r"^tip looks into the future: it is there for (\d+) .* which \1 are fraud"
    ):
        check_leaks(X, fraud, CATALOG, 0.99)


def test_missing_values_stand_at_the_end_that_tells_more() -> None:
    fraud = np.array([True, True, False, False])
    assert single_auc(np.array([np.nan, np.nan, 1.0, 2.0]), fraud) == 1
    assert single_auc(np.array([1.0, 2.0, np.nan, np.nan]), fraud) == 1
    assert single_auc(np.array([np.nan, 1.0, np.nan, 1.0]), fraud) == 0.5


def test_training_refuses_a_planted_leak_and_leaves_no_bundle(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """The channel was overwritten by those who looked into the chargebacks."""
    transactions = pq.read_table(tiny_world.transactions)
    fraud = np.array([row in tiny_world.frauds for row in transactions["transaction_id"].to_pylist()])
    values = tiny_world.settings.event.fields["channel"].values
    column = transactions.schema.get_field_index("channel")
    overwritten = pa.array(np.where(fraud, values[0], values[1]))
    write_table(transactions.set_column(column, "channel", overwritten), tmp_path / "transactions")
    settings = tiny_world.settings_with(model__registry=str(tmp_path / "models"))
    with pytest.raises(ModelError, match=r"channel.* looks into the future") as refused:
        train_from_files(settings, tmp_path / "transactions", tiny_world.labels, LIVE_MS, False, ignore)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "models").exists()
