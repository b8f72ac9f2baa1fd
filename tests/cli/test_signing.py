"""Models are signed and checked from the command line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cli.running import Ended, fraudstream
from tests.worlds import TinyWorld


def test_a_worker_that_requires_signatures_takes_a_signed_model_only(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    made = fraudstream("models", "keygen", tmp_path / "key", "--json").last_object()
    assert (made["private"], made["public"]) == (str(tmp_path / "key"), str(tmp_path / "key.pub"))
    toml = tiny_world.config.read_text("utf-8").replace(str(tiny_world.folder), str(tmp_path))
    trusting = f'require_signature = true\ntrusted_keys = ["{made["trusted_key"]}"]\n'
    (tmp_path / "config.toml").write_text(toml.replace("[model]\n", f"[model]\n{trusting}"), "utf-8")

    def run(*words: str | Path) -> Ended:
        return fraudstream(*words, "-c", tmp_path / "config.toml")

    to = (
        "--transactions",
        tiny_world.live,
        "--output",
        tmp_path / "scores.parquet",
        "--labels",
        tiny_world.labels,
    )
    for words in (
        ("worker",),
        ("models", "verify"),
        ("models", "promote", "0001"),
        ("models", "show"),
        ("replay", *to),
    ):
        ended = run(*words)
        assert ended.code == 1, words
        assert "0001/bundle.json.sig: is missing, and model.require_signature is on" in ended.one_line()
    refused = fraudstream("models", "verify", "-c", tmp_path / "config.toml", "--json")
    assert (refused.last_object()["ok"], refused.last_object()["signed"]["status"]) == (False, "refused")

    signed = run("models", "sign", "0001", "--key", tmp_path / "key", "--json").last_object()
    verified = run("models", "verify", "--json").last_object()
    assert verified["ok"]
    assert verified["signed"] == {"status": "valid", "key": signed["key"]}
    assert {file["path"]: file["passed"] for file in verified["files"]}["booster.txt"] == [
        "size", "sha256", "signature", "form", "loaded", "golden rows",
    ]  # fmt: skip
    assert f"signature valid {signed['key']}" in run("models", "verify").out
    assert run("replay", *to, "--json").last_object()["model"] == "card_payment/0001"


def test_training_signs_at_once_and_a_model_without_a_needed_signature_is_no_champion(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    made = fraudstream("models", "keygen", tmp_path / "key", "--json").last_object()
    variables = {
        "FRAUDSTREAM_MODEL__REGISTRY": str(tmp_path / "models"),
        "FRAUDSTREAM_MODEL__REQUIRE_SIGNATURE": "true",
        "FRAUDSTREAM_MODEL__TRUSTED_KEYS": f'["{made["trusted_key"]}"]',
        "FRAUDSTREAM_TRAINING__TREES_MAX": "3",
    }

    def train(*words: str | Path) -> Ended:
        return fraudstream(
            "train", "-c", tiny_world.config, "--transactions", tiny_world.transactions,
            "--labels", tiny_world.labels, "--as-of", "2024-02-10", "--json", *words, **variables,
        )  # fmt: skip

    assert train().last_object()["champion"] is False
    assert train("--sign-key", tmp_path / "key").last_object()["champion"] is True
    refused = train("--promote")
    assert refused.code == 2
    assert "--promote: needs --sign-key, since model.require_signature is on" in refused.one_line()
    other = fraudstream("models", "keygen", tmp_path / "other", "--json")
    assert other.code == 0
    untrusted = train("--promote", "--sign-key", tmp_path / "other")
    assert untrusted.code == 1
    assert "which is not one of model.trusted_keys" in untrusted.err
    listed = fraudstream("models", "list", "-c", tiny_world.config, "--json", **variables).last_object()
    assert [(row["version"], row["aliases"]) for row in listed["models"]] == [
        ("0001", []), ("0002", ["champion"]), ("0003", []),
    ]  # fmt: skip
    assert [bool(row["problem"]) for row in listed["models"]] == [True, False, True]


def test_settings_that_require_signatures_without_a_key_end_with_2(tmp_path: Path) -> None:
    for text, said in (
        ("require_signature = true\n", "model.require_signature = true: needs model.trusted_keys"),
        (
            'trusted_keys = ["abc"]\n',
            'model.trusted_keys[0] = "abc": give the base64 of an Ed25519 public key',
        ),
    ):
        (tmp_path / "config.toml").write_text(f"[model]\n{text}", "utf-8")
        ended = fraudstream("config", "check", "-c", tmp_path / "config.toml")
        assert ended.code == 2
        assert said in ended.one_line()


def test_keys_that_cannot_be_used_end_with_2(tiny_world: TinyWorld, tmp_path: Path) -> None:
    ended = fraudstream("models", "sign", "0001", "--key", tmp_path / "no", "-c", tiny_world.config)
    assert (ended.code, "cannot be read" in ended.one_line()) == (2, True)
    (tmp_path / "key").touch()
    ended = fraudstream("models", "keygen", tmp_path / "key")
    assert (ended.code, "is there already" in ended.one_line()) == (2, True)
    assert os.listdir(tmp_path) == ["key"]
