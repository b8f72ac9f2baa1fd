"""`--json`: the last line of stdout is one JSON object, whatever the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from fraudstream.cli import app
from tests.cli.running import fraudstream
from tests.cli.test_commands import commands
from tests.worlds import LIVE_MS, TinyWorld, write_rows

# Without a broker; {world} is the tiny world's folder, {to} one of this module's with scored.parquet.
ALONE = {
    "acls": "",
    "config check": "",
    "config show": "",
    "features list": "",
    "features explain": "card_count_1h",
    "models list": "",
    "models show": "",
    "models verify": "",
    "models history": "",
    "labels report": "--labels {world}/history/labels --transactions {world}/history/transactions",
    "labels import": "--labels {world}/history/labels --to {to}/ledger",
    "evaluate": "--labels {world}/history/labels --scored {to}/scored.parquet --resamples 20",
    "calibration": "--labels {world}/history/labels --scored {to}/scored.parquet",
    "quality": "--labels {world}/history/labels --scored {to}/scored.parquet",
    "sentinel": "--labels {world}/history/labels --decisions {to}/decisions.ndjson --as-of 2024-02-14",
    "simulate": "--to {to}/simulated --customers 10 --merchants 30 --days 2",
}
# With one, or changing what others use; read there with `last_object`.
ELSEWHERE = {
    "tests/cli": ["train", "replay", "retrain", "models promote", "models rollback",
                  "models challenge", "models keygen", "models sign"],
    "tests/e2e": ["demo"],
    "tests/kafka": ["topics create", "archive", "audit", "explain", "label", "alerts tail", "alerts list",
                    "alerts show", "dlq list", "dlq show", "dlq replay"],
}  # fmt: skip
NO_CONFIG = ("labels import",)


@pytest.fixture(scope="module")
def to(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    files = ("--transactions", tiny_world.live, "--labels", tiny_world.labels)
    ended = fraudstream("replay", "-c", tiny_world.config, *files, "-o", folder / "scored.parquet", "--json")
    assert ended.last_object()["transactions"] == len(tiny_world.rows)
    decided = {
        "transaction_id": "none",
        "event_time_ms": LIVE_MS,
        "outcome": "approve",
        "model": "card_payment/0001",
    }
    write_rows([decided], folder / "decisions.ndjson")
    return folder


@pytest.mark.parametrize("name", ALONE)
def test_the_last_line_is_one_object(name: str, tiny_world: TinyWorld, to: Path) -> None:
    arguments = ALONE[name].format(world=tiny_world.folder, to=to).split()
    config = () if name in NO_CONFIG else ("-c", tiny_world.config)
    ended = fraudstream(*name.split(), *arguments, *config, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert isinstance(ended.last_object(), dict)


def test_every_command_with_json_is_here_or_elsewhere() -> None:
    leaves = {}
    for path in commands(typer.main.get_command(app)):
        command = typer.main.get_command(app)
        for word in path:
            command = command.commands[word]  # type: ignore[attr-defined]
        if not hasattr(command, "commands"):
            leaves[" ".join(path)] = {option for each in command.params for option in each.opts}
    with_json = {name for name, options in leaves.items() if "--json" in options}
    assert leaves.keys() - with_json == {"worker"}
    assert with_json == {*ALONE, *(name for names in ELSEWHERE.values() for name in names)}
