"""Tokens: the same features, and no card number in anything that leaves the worker but dead letters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.features import build_catalog, new_engine
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.tokens import Tokens

KEY = "0123456789abcdef"
CARDS = ["4111111111111111", "5500000000000004", "340000000000009"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY + "\n", "utf-8")
    return tmp_path / "key"


def with_tokens(settings: Settings, key_file: Path) -> Settings:
    fields = dict(settings.event.fields)
    fields["card_id"] = msgspec.structs.replace(fields["card_id"], token=True)
    event = msgspec.structs.replace(settings.event, fields=fields, token_key_file=str(key_file))
    return msgspec.structs.replace(settings, event=event)


@given(text=st.text())
def test_a_token_is_the_keyed_hash_of_the_text(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(KEY, "utf-8")
    slow = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=KEY.encode())
    assert Tokens(str(path)).of([text, None, text]) == [slow.hexdigest(), None, slow.hexdigest()]


def test_the_features_of_tokens_are_those_of_the_cards(key_file: Path) -> None:
    plain = load_settings(environment={})
    X = [features_of(settings) for settings in (plain, with_tokens(plain, key_file))]
    np.testing.assert_array_equal(*X)


def features_of(settings: Settings) -> Any:
    catalog = build_catalog(settings.features, settings.event)
    values = [
        json.dumps(
            {"transaction_id": f"t{i}", "event_time": 1_700_000_000_000 + 60_000 * i, "amount": 1 + i % 7,
             "card_id": CARDS[i * i % 3], "merchant_id": f"m{i % 5}", "device_id": f"d{i % 4}"}
        ).encode()
        for i in range(60)
    ]  # fmt: skip
    positions = (np.zeros(60, np.int64), np.arange(60))
    batch, rejected = Decoder(settings.event, catalog.fields_used).decode_messages(
        values, None, positions, None
    )
    assert rejected == []
    return new_engine(settings, catalog).observe(batch).X


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("token = true", "event.token_key_file: missing; event.fields.card_id.token needs a key"),
        (
            'token = true }\ndevice_id = { type = "category", token = true',
            "only an id has a token in its place",
        ),
    ],
)
def test_tokens_without_a_key_or_of_no_id_are_refused(toml: str, said: str, tmp_path: Path) -> None:
    text = (
        '[event.fields]\ntransaction_id = { type = "id", required = true }\n'
        'event_time = { type = "timestamp", required = true }\namount = { type = "amount", required = true }\n'
        f'currency = {{ type = "category" }}\ncard_id = {{ type = "id", required = true, {toml} }}\n'
        '[event.entities]\ncard = "card_id"\n'
    )
    path = tmp_path / "tokens.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=said):
        load_settings(path, environment={})


@pytest.mark.parametrize(
    ("octets", "said"), [(None, "cannot be read"), (b"short", "has 5 bytes"), (b"x" * 65, "has 65 bytes")]
)
def test_a_key_that_is_not_there_or_of_another_length_is_told_without_it(
    octets: bytes | None, said: str, tmp_path: Path
) -> None:
    if octets is not None:
        (tmp_path / "key").write_bytes(octets)
    with pytest.raises(ConfigError) as caught:
        Tokens(str(tmp_path / "key"))
    assert said in str(caught.value)
    assert octets is None or octets.decode() not in str(caught.value)
