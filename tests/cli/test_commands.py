"""The commands: help, exit codes, one line for what is wrong, JSON for machines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pyarrow.parquet as pq
import pytest
import typer

from fraudstream import __version__
from fraudstream.bus.files import count_rows
from fraudstream.bus.place import Place
from fraudstream.cli import app
from fraudstream.features import build_catalog
from fraudstream.simulate import DAY_MS, World, WorldConfig, simulate
from tests.cli.running import environment, fraudstream, started
from tests.worlds import LIVE_MS, START_MS, TinyWorld, write_rows

NO_BROKER = "127.0.0.1:1"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group of commands."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


EVERY = list(commands(typer.main.get_command(app)))


def test_every_command_has_help() -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(EVERY, pool.map(lambda words: fraudstream(*words, "--help"), EVERY), strict=True))
    assert {("worker",), ("demo",), ("train",), ("replay",), ("simulate",), ("alerts", "tail")} <= set(EVERY)
    for words, one in ended.items():
        assert (one.code, one.err) == (0, ""), words
        assert "Usage:" in one.out
        assert len(one.out.splitlines()) > 5


def functions(of: typer.Typer) -> Iterator[Any]:
    """Yield the function of every command."""
    for command in of.registered_commands:
        yield command.callback
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from functions(group.typer_instance)


def test_no_option_that_names_files_to_read_is_a_path_which_would_spoil_the_slashes_of_a_bucket() -> None:
    read = {"transactions", "labels", "scored", "decisions", "alerts", "archive", "warm"}
    found = {
        (name, hint)
        for function in functions(app)
        for name, hint in get_type_hints(function).items()
        if name in read and hint is not int  # how many transactions
    }
    assert {name for name, _ in found} == read
    assert {hint for _, hint in found} <= {Place, Place | None, str | None}


def test_it_says_its_version() -> None:
    ended = fraudstream("--version")
    assert (ended.code, ended.out) == (0, f"fraudstream {__version__}\n")


def test_a_shell_completes_commands() -> None:
    asked = {
        "_FRAUDSTREAM_COMPLETE": "complete_bash",
        "COMP_WORDS": "fraudstream models pro",
        "COMP_CWORD": "2",
    }
    ended = subprocess.run(
        [Path(sys.executable).with_name("fraudstream")],
        env=environment(**asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout.split(), ended.stderr) == (["promote"], "")


@pytest.mark.parametrize(
    "words", [("nonsense",), ("models", "nonsense"), ("worker", "--nonsense"), ("replay",)]
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...]) -> None:
    ended = fraudstream(*words)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[worker]\nbatch_rows_max = "many"', ["worker.batch_rows_max", '"many"', "int"]),
        ("[worker]\nbatch_rows_max = 0", ["worker.batch_rows_max", "0", ">= 1"]),
        ("[worker]\nbatch_rows = 7", ["worker.batch_rows", "unknown"]),
        ('[labels]\nmaturity = "soon"', ["labels.maturity", '"soon"', '"24h"']),
        ("[event.fields.amount]\ntype = 'amount'", ["event.entities"]),
        ("[[outcomes]]\nname = 'a'\npoints_min = 1001", ["outcomes", "1001", "1000"]),
        (
            "[[features]]\nentity = 'planet'\naggregates = ['count']",
            ["features[0].entity", '"planet"', "card"],
        ),
        (
            "[[features]]\nentity = 'card'\nwindows = ['1y']\naggregates = ['count']",
            ["features[0].windows", "1y"],
        ),
        ("[worker", ["fraudstream.toml", "TOML"]),
        ("worker = 3", ["worker", "3"]),
    ],
)
def test_a_wrong_setting_ends_with_2_and_one_line_that_names_key_value_and_form(
    tmp_path: Path, toml: str, said: list[str]
) -> None:
    (tmp_path / "fraudstream.toml").write_text(toml, "utf-8")
    ended = fraudstream("config", "check", "-c", tmp_path / "fraudstream.toml")
    assert ended.code == 2
    assert ended.one_line().startswith("fraudstream: ")
    for word in said:
        assert word in ended.one_line()


def test_a_wrong_setting_stops_every_command_that_reads_settings(
    tmp_path: Path, tiny_world: TinyWorld
) -> None:
    (tmp_path / "fraudstream.toml").write_text("[worker]\nweb_port = 70000", "utf-8")
    reading = [
        ("config", "show"),
        ("features", "list"),
        ("models", "list"),
        ("topics", "create"),
        ("worker",),
        ("alerts", "tail"),
        ("train", "--transactions", str(tiny_world.transactions), "--labels", str(tiny_world.labels)),
        ("replay", "--transactions", str(tiny_world.live), "--output", str(tmp_path / "out.parquet")),
    ]
    for words in reading:
        ended = fraudstream(*words, cwd=tmp_path)
        assert ended.code == 2, words
        assert ended.one_line().startswith("fraudstream: worker.web_port = 70000:"), words


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for ended in (
        fraudstream("config", "check", "-c", tmp_path / "no.toml"),
        fraudstream("config", "check", FRAUDSTREAM_CONFIG=str(tmp_path / "no.toml")),
    ):
        assert ended.code == 2
        assert str(tmp_path / "no.toml") in ended.one_line()


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    ended = fraudstream("config", "check", cwd=tmp_path, FRAUDSTREAM_WORKER__WEB_PORT="here")
    assert ended.code == 2
    assert "worker.web_port" in ended.one_line()
    assert "here" in ended.one_line()


def test_the_built_in_settings_are_right(tmp_path: Path) -> None:
    ended = fraudstream("config", "check", "--json", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.last_object()["ok"] is True
    assert ended.last_object()["features"] >= 30


def test_the_settings_shown_are_those_in_force_with_secrets_hidden(tmp_path: Path) -> None:
    secrets = ["hunter2", "hunter3", "hunter4", "hunter5"]
    (tmp_path / "fraudstream.toml").write_text(
        '[worker]\ngroup = "from-file"\n[kafka]\n"sasl.username" = "hunter2"\n"sasl.password" = "hunter3"\n'
        '"ssl.key.password" = "hunter4"\n[kafka_producer]\n"sasl.oauthbearer.client.secret" = "hunter5"\n',
        "utf-8",
    )
    for as_json in (False, True):
        shown = fraudstream("config", "show", *["--json"] * as_json, cwd=tmp_path)
        assert shown.code == 0
        assert "from-file" in shown.out
        assert "sasl.password" in shown.out
        assert not any(secret in shown.out + shown.err for secret in secrets)


def test_the_features_listed_are_the_catalogues(tiny_world: TinyWorld) -> None:
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    listed = fraudstream("features", "list", "-c", tiny_world.config, "--json").last_object()["features"]
    assert [entry["name"] for entry in listed] == catalog.names
    assert all(entry["meaning"] and entry["unit"] for entry in listed)
    shown = fraudstream("features", "list", "-c", tiny_world.config)
    assert all(name in shown.out for name in catalog.names)


def test_a_worker_without_a_model_refuses_and_says_what_to_run(tiny_world: TinyWorld, tmp_path: Path) -> None:
    ended = fraudstream("worker", "-c", tiny_world.config, FRAUDSTREAM_MODEL__REGISTRY=str(tmp_path))
    assert ended.code == 1
    assert "card_payment/champion" in ended.one_line()
    assert "`fraudstream train`" in ended.one_line()


def test_a_worker_whose_model_needs_an_undeclared_feature_refuses_and_names_it(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    features = '[[features]]\nentity = "event"\nof = "amount"\naggregates = ["value"]\n'
    text = tiny_world.config.read_text("utf-8") + features
    (tmp_path / "other.toml").write_text(text, "utf-8")
    ended = fraudstream("worker", "-c", tmp_path / "other.toml", "--brokers", NO_BROKER)
    assert ended.code == 1
    assert "needs the feature channel" in ended.one_line()
    assert "`fraudstream train`" in ended.one_line()


def test_a_worker_with_a_damaged_model_refuses_and_names_the_file(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    with (tmp_path / "models" / "card_payment" / "0001" / "booster.txt").open("ab") as file:
        file.write(b" ")
    registry = {"FRAUDSTREAM_MODEL__REGISTRY": str(tmp_path / "models")}
    for words in (("worker",), ("models", "verify"), ("models", "promote", "0001"), ("models", "show")):
        ended = fraudstream(*words, "-c", tiny_world.config, **registry)
        assert ended.code == 1, words
        assert "booster.txt: is damaged" in ended.one_line()
    listed = fraudstream("models", "list", "-c", tiny_world.config, "--json", **registry)
    assert listed.code == 0
    assert "booster.txt" in listed.last_object()["models"][0]["problem"]


def test_training_ends_with_one_object_that_holds_the_new_versions_path(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    arguments = ("train", "-c", tiny_world.config, "--transactions", tiny_world.transactions, "--labels")
    registry = {"FRAUDSTREAM_MODEL__REGISTRY": str(tmp_path), "FRAUDSTREAM_TRAINING__TREES_MAX": "3"}
    first = fraudstream(*arguments, tiny_world.labels, "--as-of", "2024-02-10", "--json", **registry)
    assert (first.code, first.err) == (0, "")
    made = first.last_object()
    assert Path(made["path"]) == tmp_path / "card_payment" / "0001"
    assert (Path(made["path"]) / "booster.txt").is_file()
    assert (made["model"], made["champion"]) == ("card_payment/0001", True)
    assert made["metrics"]["auc"] > 0.8

    second = fraudstream(*arguments, tiny_world.labels, "--as-of", "2024-02-10T00:00Z", **registry)
    assert second.code == 0
    assert "# Model card_payment/0002" in second.out
    assert "champion" not in second.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--as-of", "tomorrow"), ['--as-of = "tomorrow"', "ISO 8601"]),
        (("--as-of", "2020-01-01"), ["no transaction between", "--as-of"]),
        (("--labels", "nowhere"), ["nowhere", "does not exist"]),
        (("--transactions", "nowhere"), ["nowhere", "does not exist"]),
    ],
)
def test_training_on_what_is_not_there_ends_with_2_and_one_line(
    tiny_world: TinyWorld, tmp_path: Path, extra: tuple[str, str], said: list[str]
) -> None:
    given = {"--transactions": str(tiny_world.transactions), "--labels": str(tiny_world.labels)}
    given[extra[0]] = extra[1]
    ended = fraudstream(
        "train", "-c", tiny_world.config, *(word for pair in given.items() for word in pair),
        FRAUDSTREAM_MODEL__REGISTRY=str(tmp_path),
    )  # fmt: skip
    assert ended.code == 2
    for word in said:
        assert word in ended.one_line()


def test_too_few_frauds_end_training_with_1_and_one_line(tiny_world: TinyWorld, tmp_path: Path) -> None:
    one = {"transaction_id": tiny_world.rows[0]["transaction_id"], "label": "fraud", "known_at": LIVE_MS}
    labels = write_rows([one], tmp_path / "labels.ndjson")
    ended = fraudstream(
        "train", "-c", tiny_world.config, "--transactions", tiny_world.transactions, "--labels", labels,
        "--as-of", "2024-02-10", "--registry", tmp_path / "models",
    )  # fmt: skip
    assert ended.code == 1
    assert "0 known frauds; at least 10" in ended.one_line()


def test_a_replay_writes_a_row_a_transaction(tiny_world: TinyWorld, tmp_path: Path) -> None:
    arguments = ("replay", "-c", tiny_world.config, *files_of(tiny_world), "--output")
    plain = fraudstream(*arguments, tmp_path / "plain.parquet", "--json")
    assert (plain.code, plain.err) == (0, "")
    assert plain.last_object()["transactions"] == len(tiny_world.rows)
    table = pq.read_table(tmp_path / "plain.parquet")
    assert table.column_names == [
        "transaction_id", "event_time_ms", "score", "risk_points", "outcome", "raw_score", "repeated",
            "rule", "expected_loss", "amount_major", "entity_card", "entity_merchant", "entity_device",
    ]  # fmt: skip
    assert not any(table["repeated"].to_pylist())
    assert table["transaction_id"].to_pylist() == [row["transaction_id"] for row in tiny_world.rows]

    with_features = fraudstream(*arguments, tmp_path / "x.parquet", "--features", "--from", "2024-02-11")
    assert with_features.code == 0
    wide = pq.read_table(tmp_path / "x.parquet")
    later = table.filter(table["event_time_ms"].to_numpy() >= LIVE_MS + DAY_MS)
    assert wide.select(later.column_names).equals(later)
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    assert wide.column_names[-len(catalog) :] == catalog.names


def test_a_replay_takes_a_bundles_folder_and_an_end(tiny_world: TinyWorld, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_world.folder / "models" / "card_payment" / "0001", tmp_path / "elsewhere")
    arguments = ("replay", "-c", tiny_world.config, *files_of(tiny_world), "--model")
    to = tmp_path / "scored.parquet"
    ended = fraudstream(*arguments, bundle, "--to", "2024-02-11", "-o", to, "--json")
    assert (ended.code, ended.err) == (0, "")
    times = pq.read_table(to)["event_time_ms"].to_numpy()
    assert 0 < len(times) < len(tiny_world.rows)
    assert times.max() < LIVE_MS + DAY_MS
    nowhere = fraudstream(*arguments, tmp_path / "nowhere", "-o", to)
    assert nowhere.code == 1
    assert str(tmp_path / "nowhere") in nowhere.one_line()
    turned = fraudstream(*arguments, bundle, "--from", "2024-02-12", "--to", "2024-02-11", "-o", to)
    assert turned.code == 2
    assert "--from 2024-02-12 --to 2024-02-11" in turned.one_line()


def files_of(world: TinyWorld) -> tuple[str | Path, ...]:
    return ("--transactions", world.live, "--labels", world.labels)


def test_a_replay_without_the_labels_that_features_need_ends_with_2_and_says_so(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    arguments = ("replay", "-c", tiny_world.config, "--transactions", tiny_world.live)
    ended = fraudstream(*arguments, "--output", tmp_path / "out.parquet")
    assert ended.code == 2
    assert ended.one_line().startswith("fraudstream: --labels: missing; ")
    assert "merchant_fraud_count_30d_lag7d" in ended.one_line()
    assert list(tmp_path.iterdir()) == []


def test_a_replay_names_the_rows_that_are_no_transactions(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = [tiny_world.rows[0], {**tiny_world.rows[1], "amount": -5}, tiny_world.rows[2]]
    source = write_rows(rows, tmp_path / "rows.ndjson")
    ended = fraudstream(
        "replay", "-c", tiny_world.config, "--transactions", source, "--labels", tiny_world.labels,
        "--output", tmp_path / "out.parquet",
    )  # fmt: skip
    assert ended.code == 0
    assert "2 transactions" in ended.out
    assert "1 rejected" in ended.out
    assert f"{source} row 1: $.amount: is negative" in ended.err


def test_a_replay_to_nowhere_ends_with_2(tiny_world: TinyWorld, tmp_path: Path) -> None:
    arguments = ("replay", "-c", tiny_world.config, *files_of(tiny_world), "--output")
    ended = fraudstream(*arguments, tmp_path / "no" / "out.parquet")
    assert ended.code == 2
    assert str(tmp_path / "no") in ended.one_line()


@pytest.fixture(scope="module")
def small_world() -> World:
    return simulate(
        WorldConfig(
            customers=20,
            merchants=40,
            start_ms=START_MS,
            days=5,
            transactions_per_customer_day=3.0,
            fraud_rate=0.02,
            seed=3,
            peak_day=2,
            new_pattern_day=4,
        )
    )


@pytest.mark.parametrize("file_format", ["parquet", "ndjson"])
def test_a_simulated_world_is_written_as_it_was_drawn(
    tmp_path: Path, small_world: World, file_format: str
) -> None:
    ended = fraudstream(
        *("simulate", "--to", tmp_path / "world", "--format", file_format, "--customers", "20"),
        *("--merchants", "40", "--days", "5", "--seed", "3", "--peak-day", "2", "--new-pattern-day", "4"),
        *("--start", "2024-01-01", "--per-customer-day", "3", "--fraud-rate", "0.02", "--json"),
    )
    assert (ended.code, ended.err) == (0, "")
    made = ended.last_object()
    assert made["transactions"] == len(small_world.transactions)
    for name in ("transactions", "labels", "truth"):
        folder = tmp_path / "world" / name
        assert count_rows(folder) == len(getattr(small_world, name))
        if file_format == "parquet":
            assert pq.read_table(folder).equals(getattr(small_world, name))
        else:
            lines = (folder / f"{name}.ndjson").read_bytes().splitlines()
            assert [msgspec.json.decode(line) for line in lines] == getattr(small_world, name).to_pylist()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--to"),
        (("--to", "x", "--format", "csv"), '--format = "csv"'),
        (("--to", "x", "--customers", "5"), "customers = 5"),
        (("--to", "x", "--start", "soon"), '--start = "soon"'),
        (("--kafka", "--rate", "5", "--speed", "5"), "--rate and --speed"),
    ],
)
def test_a_world_that_cannot_be_drawn_ends_with_2_and_one_line(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ended = fraudstream("simulate", *words, cwd=tmp_path)
    assert ended.code == 2
    assert said in ended.one_line()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    command = started("features", "list", "--json")
    assert command.stdout is not None
    assert command.stderr is not None
    with command:
        command.stdout.close()
        assert command.stderr.read() == ""
        assert command.wait(60) in (0, 1)


def test_the_version_is_a_version() -> None:
    from fraudstream import __version__

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", __version__)


def test_promises_are_compared_with_what_happened(tiny_world: TinyWorld, tmp_path: Path) -> None:
    to = tmp_path / "scored.parquet"
    labels = ("--labels", tiny_world.labels)
    replayed = fraudstream(
        "replay", "-c", tiny_world.config, "--transactions", tiny_world.live, *labels, "--output", to
    )
    assert replayed.code == 0
    arguments = (
        "calibration",
        "-c",
        tiny_world.config,
        "--scored",
        to,
        *labels,
        "--rate",
        "0.1",
        "--rate",
        "0.01",
    )
    ended = fraudstream(*arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = ended.last_object()
    assert found["all"]["mature"] == len(tiny_world.rows)
    assert [each["promised"] for each in found["all"]["false_positives"]] == [0.1, 0.01]
    shown = fraudstream(*arguments)
    assert shown.code == 0
    assert "10 % promised" in shown.out
    assert f"{len(tiny_world.rows):,} of {len(tiny_world.rows):,} transactions" in shown.out
    early = fraudstream(*arguments, "--as-of", "2024-02-14")
    assert early.code == 2
    assert "labels.maturity" in early.one_line()
