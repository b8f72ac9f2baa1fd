"""A signature says who made a bundle, and nothing in a bundle escapes it."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fraudstream.errors import ConfigError, ModelError
from fraudstream.registry import Registry, Trust, read_bundle, write_bundle
from fraudstream.registry.signing import Signed, key_id, make_keys, read_private_key
from tests.registry.test_bundle import ABOUT, FILES, reseal
from tests.worlds import TinyWorld

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"1" * 32), Ed25519PrivateKey.from_private_bytes(b"2" * 32)


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


TRUSTED = Trust((public(KEY),), required=True)


@pytest.fixture(scope="module")
def made(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle as training writes it."""
    folder = tmp_path_factory.mktemp("signed") / "0001"
    bundle = tiny_world.read()
    reports = {"report.md": "# Signed", "reference.json": "{}"}
    write_bundle(folder, bundle.parts, ABOUT, bundle.golden(), reports, KEY)
    return folder


@pytest.fixture
def signed(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(made, tmp_path / "0001"))


def refusal(bundle: Path, trust: Trust = TRUSTED) -> str:
    with pytest.raises(ModelError) as refused:
        read_bundle(bundle, trust)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_signed_bundle_is_taken_and_each_of_its_files_is_signed(signed: Path) -> None:
    for trust in (TRUSTED, Trust((public(OTHER), public(KEY)))):
        bundle = read_bundle(signed, trust)
        assert bundle.signed == Signed("valid", key_id(public(KEY)))
        files = set(FILES) - {"bundle.json.sha256"}
        assert {name for name, passed in bundle.passed.items() if "signature" in passed} == files


def test_an_unsigned_bundle_is_refused_where_signatures_are_required(tiny_world: TinyWorld) -> None:
    assert "bundle.json.sig: is missing, and model.require_signature is on" in refusal(tiny_world.bundle)
    assert read_bundle(tiny_world.bundle, Trust((public(KEY),))).signed == Signed("none")


def test_a_signature_by_another_key_is_refused_by_name(signed: Path) -> None:
    said = refusal(signed, Trust((public(OTHER),)))
    assert (
        f"bundle.json.sig: is by the key {key_id(public(KEY))}, which is not one of model.trusted_keys"
        in said
    )


def test_without_trusted_keys_a_signature_is_not_checked(signed: Path) -> None:
    assert read_bundle(signed, Trust()).signed == Signed("unchecked", key_id(public(KEY)))


@pytest.mark.parametrize("name", sorted(set(FILES) - {"bundle.json.sha256"}))
def test_a_file_that_is_changed_with_all_its_hashes_is_refused(signed: Path, name: str) -> None:
    if name != "bundle.json":
        (signed / name).write_bytes((signed / name).read_bytes() + b" ")
    reseal(signed)
    assert "bundle.json: was changed after it was signed" in refusal(signed)
    assert "bundle.json: was changed after it was signed" in refusal(signed, Trust((public(KEY),)))


def test_a_key_that_signs_another_bundle_does_not_sign_this_one(signed: Path, tiny_world: TinyWorld) -> None:
    bundle = tiny_world.read()
    about = ABOUT | {"created_at": "2026-01-02T00:00:00.000Z"}
    write_bundle(signed.parent / "0007", bundle.parts, about, bundle.golden(), {}, KEY)
    shutil.copy(signed.parent / "0007" / "bundle.json.sig", signed / "bundle.json.sig")
    assert "bundle.json: was changed after it was signed" in refusal(signed)


def test_a_signed_bundle_under_another_name_is_refused(signed: Path) -> None:
    registry = Registry(signed.parent.parent, signed.parent.name, TRUSTED)
    with pytest.raises(ModelError, match="is card_payment/0001; a version keeps the folder it was made in"):
        registry.read("0001")
    shutil.copytree(signed, signed.parent / "0002")
    assert "is card_payment/0001; a version keeps" in refusal(signed.parent / "0002")


@pytest.mark.parametrize("name", ["extra.txt", "report/extra.md", "report/../x"])
def test_a_file_beside_the_signed_ones_is_refused(signed: Path, name: str) -> None:
    (signed / name).write_text("unsigned", "utf-8")
    assert "is not part of the bundle; remove it" in refusal(signed)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"x" * 100,
        b"ed25519 0123456789abcdef short\n",
        b"\xff" * 120,
        b"ed25519  \n",
        b"\0" * 1024,
    ],
)
def test_a_damaged_signature_is_refused(signed: Path, line: bytes) -> None:
    (signed / "bundle.json.sig").write_bytes(line)
    for trust in (TRUSTED, Trust((public(KEY),)), Trust()):
        assert "bundle.json.sig: is damaged" in refusal(signed, trust)


def test_a_changed_bit_of_the_signature_is_refused(signed: Path) -> None:
    whole = (signed / "bundle.json.sig").read_bytes()
    for at in range(len(whole)):
        (signed / "bundle.json.sig").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        said = refusal(signed)
        assert "bundle.json.sig: " in said or "bundle.json: was changed after it was signed" in said


def test_a_registry_signs_what_passes_all_checks(tiny_world: TinyWorld, tmp_path: Path) -> None:
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    registry = Registry(tmp_path / "models", "card_payment", TRUSTED)
    path, key = registry.sign("champion", KEY)
    assert (path, key) == (registry.folder / "0001", key_id(public(KEY)))
    assert registry.load("champion") == tiny_world.read().parts
    assert registry.verify("0001").signed == Signed("valid", key)
    assert sorted(p.name for p in registry.folder.iterdir()) == ["0001", "aliases.json", "promotions.ndjson"]
    (path / "booster.txt").write_text("", "utf-8")
    with pytest.raises(ModelError, match=r"booster\.txt: is damaged"):
        registry.sign("0001", OTHER)


def test_new_keys_can_be_read_by_their_owner_only_and_overwrite_nothing(tmp_path: Path) -> None:
    public_path, line = make_keys(tmp_path / "model.key")
    assert (tmp_path / "model.key").stat().st_mode & 0o777 == 0o600
    assert public_path == tmp_path / "model.key.pub"
    assert public_path.read_text("utf-8") == line + "\n"
    assert base64.b64decode(line) == public(read_private_key(tmp_path / "model.key"))
    with pytest.raises(ConfigError, match=r"model\.key\.pub: is there already"):
        make_keys(tmp_path / "model.key")
    public_path.unlink()
    with pytest.raises(ConfigError, match=r"model\.key: is there already"):
        make_keys(tmp_path / "model.key")
    with pytest.raises(ConfigError, match=r"no/model\.key: cannot be written"):
        make_keys(tmp_path / "no" / "model.key")


def test_what_is_no_private_key_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_private_key(path)
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other_kind = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content, said in (
        (b"", "is no private key in PEM"),
        (public(KEY), "is no private key in PEM"),
        (locked, "is encrypted"),
        (other_kind, "is not an Ed25519 key"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=said) as refused:
            read_private_key(path)
        assert "\n" not in str(refused.value)
