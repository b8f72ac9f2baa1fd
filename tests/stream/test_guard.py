"""TLS and a token at the web port, with a server that runs."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fraudstream.errors import ConfigError
from fraudstream.settings import load_settings
from fraudstream.stream.guard import Guard
from tests.certificates import Authority
from tests.cli.running import started
from tests.kafka.deployment import eventually, free_port
from tests.worlds import TinyWorld

TOKEN = "0123456789abcdef"


@dataclass
class Served:
    """A service behind a certificate of `authority`; the file is `certificate`."""

    authority: Authority
    certificate: Path
    port: int

    def get(self, page: str, token: str = "", authority: Authority | None = None) -> int:
        """Return the status; raises OSError where the certificate is not of the authority."""
        trusting = ssl.create_default_context(cafile=str((authority or self.authority).path))
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/{page}")
        if token:
            request.add_header("Authorization", token)
        try:
            with urllib.request.urlopen(request, timeout=5, context=trusting) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    def answers(self) -> bool:
        try:
            return self.get("livez") == 200
        except OSError:
            return False


@pytest.fixture
def served(tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Served]:
    authority = Authority(tmp_path, "ca")
    certificate, token, port = authority.issue("web", ["127.0.0.1"]), tmp_path / "token", free_port()
    token.write_text(TOKEN + "\n", "utf-8")
    service = started(
        "retrain", "-c", tiny_world.config, "--archive", tiny_world.folder / "history",
        "--registry", tmp_path / "models", "--every", "1d", "--web-port", str(port),
        FRAUDSTREAM_WORKER__WEB_CERTIFICATE_FILE=str(certificate), FRAUDSTREAM_WORKER__WEB_TOKEN_FILE=str(token),
    )  # fmt: skip
    found = Served(authority, certificate, port)
    try:
        eventually(found.answers, 90, "the web port answers")
        yield found
    finally:
        service.kill()
        service.communicate()


def test_only_the_token_opens_metrics_and_a_renewed_certificate_is_taken(
    served: Served, tmp_path: Path
) -> None:
    assert served.get("metrics") == 401
    assert served.get("metrics", f"Bearer {TOKEN[:-1]}") == 401
    assert served.get("metrics", f"Basic {TOKEN}") == 401
    assert served.get("metrics", f"Bearer {TOKEN}") == 200
    assert served.get("livez") == 200  # a kubelet has no token
    assert served.get("router") == 404  # a page of Faust's own
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/livez", timeout=5)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    whole = other.issue("web", ["127.0.0.1"]).read_bytes()
    served.certificate.write_bytes(whole[:200])  # caught half-way
    assert served.get("metrics", f"Bearer {TOKEN}") == 200
    assert served.get("livez") == 200  # the one before stays
    served.certificate.write_bytes(whole)
    assert served.get("metrics", f"Bearer {TOKEN}") == 200
    assert served.get("metrics", f"Bearer {TOKEN}", other) == 200
    with pytest.raises(OSError, match="certificate verify failed"):
        served.get("livez")


def refused(**files: Path | str) -> str:
    """Return what is said of these files."""
    variables = {f"FRAUDSTREAM_WORKER__WEB_{name.upper()}_FILE": str(path) for name, path in files.items()}
    with pytest.raises(ConfigError) as told:
        Guard(load_settings(environment=variables).worker)
    return str(told.value)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    mine, other = authority.issue("mine"), authority.issue("other")
    absent, short, words = tmp_path / "absent", tmp_path / "short", tmp_path / "words"
    short.write_text("secret\n", "utf-8")
    words.write_text("a secret of several words\n", "utf-8")
    assert (
        refused(certificate=absent)
        == f'worker.web_certificate_file = "{absent}": cannot be read (No such file or directory)'
    )
    assert refused(certificate=short).endswith("expected a PEM file of each")
    assert refused(certificate=mine, key=other) == (
        f'worker.web_certificate_file = "{mine}", worker.web_key_file = "{other}": the key is of another certificate'
    )
    assert refused(key=mine) == "worker.web_key_file: worker.web_certificate_file is missing"
    assert "cannot be read" in refused(token=absent)
    for file in (short, words):
        said = refused(token=file)
        assert "one word of at least 16 characters" in said
        assert "secret" not in said


def test_a_key_with_a_password_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    mine = Authority(tmp_path, "ca").issue("mine")
    key = load_pem_private_key(mine.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a word"))
    )
    assert "the key has a password" in refused(certificate=mine, key=locked)
