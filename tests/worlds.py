"""A tiny world with a tiny trained model, for the tests that need both; made once a session.

The model comes out of the product's own training on a simulated history; `live` are the days after it.
Nothing here is random beyond the seed of the world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.registry import Trust, read_bundle
from fraudstream.registry.bundle import Bundle
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import DAY_MS, WorldConfig, simulate
from fraudstream.training.run import train_from_files

START_MS = 1_704_067_200_000  # 2024-01-01: all of it is past, whenever the tests run
DAYS, LIVE_DAYS = 44, 4
LIVE_MS = START_MS + (DAYS - LIVE_DAYS) * DAY_MS
CONFIG = WorldConfig(
    customers=150,
    merchants=60,
    start_ms=START_MS,
    days=DAYS,
    transactions_per_customer_day=3.0,
    fraud_rate=0.03,
    seed=11,
    peak_day=None,
    new_pattern_day=20,
)
TOML = """
[decisions]
otherwise = "approve"

[[outcomes]]
name = "decline"
points_min = 950
alert = true

[[outcomes]]
name = "review"
points_min = 860
alert = true

[model]
registry = "{registry}"

[state]
complete_from = "start"

[labels]
maturity = "7d"

[training]
days = 18
gap_days = 2
validation_days = 12
trees_max = 12
leaves_max = 8
learning_rate = 0.2

"""


@dataclass(frozen=True)
class TinyWorld:
    """A history, the model trained on it, and what comes after it.

    Attributes:
        folder: holds `history/transactions`, `history/labels`, `live`, `models` and the settings' file.
        config: that file; `settings` is what it says.
        rows: the live transactions in event order, as plain data.
        frauds: ids of all fraudulent transactions.
        trained: what `train_from_files` returned.
        own: sections of the settings beyond those of every tiny world.
    """

    folder: Path
    config: Path
    settings: Settings
    rows: list[dict[str, Any]]
    frauds: set[str]
    trained: dict[str, Any]
    own: str = ""

    def __repr__(self) -> str:  # short, for pytest's and Hypothesis' reports
        return f"TinyWorld({self.folder})"

    @property
    def transactions(self) -> Path:
        return self.folder / "history" / "transactions"

    @property
    def labels(self) -> Path:
        return self.folder / "history" / "labels"

    @property
    def live(self) -> Path:
        return self.folder / "live"

    @property
    def bundle(self) -> Path:
        return Path(self.trained["path"])

    def read(self) -> Bundle:
        """Read the model's bundle."""
        return read_bundle(self.bundle, Trust())

    def toml_with(self, sections: str) -> str:
        """Return the text of the settings' file with further sections."""
        return TOML.format(registry=self.folder / "models") + self.own + sections

    def settings_with(self, **overrides: Any) -> Settings:
        """Return the settings with some replaced; `worker__group="x"` replaces `worker.group`."""
        flags = {name.replace("__", ".", 1): value for name, value in overrides.items()}
        return load_settings(self.config, flags, environment={})


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """The session's tiny world. Leave its files as they are; copy what a test changes."""
    return make_world(tmp_path_factory.mktemp("tiny-world"))


def make_world(folder: Path, own: str = "") -> TinyWorld:
    """Simulate, write the files, train; under ten seconds.

    Args:
        own: further sections of the settings.
    """
    made = simulate(CONFIG)
    times = made.transactions["event_time"].to_numpy()
    first_live = int((times < LIVE_MS).sum())
    live = made.transactions.slice(first_live)
    write_table(made.transactions.slice(0, first_live), folder / "history" / "transactions")
    write_table(made.labels, folder / "history" / "labels")
    write_table(live, folder / "live")
    config = folder / "fraudstream.toml"
    config.write_text(TOML.format(registry=folder / "models") + own, "utf-8")
    settings = load_settings(config, environment={})
    trained = train_from_files(
        settings, folder / "history" / "transactions", folder / "history" / "labels", LIVE_MS, True, ignore
    )
    frauds = made.truth.filter(made.truth["is_fraud"])["transaction_id"].to_pylist()
    return TinyWorld(folder, config, settings, live.to_pylist(), set(frauds), trained, own)


def write_table(table: pa.Table, folder: Path) -> None:
    """Write a table as the one Parquet file of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "part.parquet")


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as NDJSON."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def ignore(what: str, more: int, total: int | None) -> None:
    """Show no progress."""
