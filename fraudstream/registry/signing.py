"""Ed25519 signatures: who made a bundle.

`bundle.json.sig` is one line, `ed25519 KEY SIGNATURE`, with the id of the public key and the signature in base64. It
signs `bundle.json`, which has the name, the version, and the sha256 of every other file; a bundle has no file beside
these. A private key is a PEM file (PKCS #8), a public key the base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fraudstream.errors import ConfigError, ModelError
from fraudstream.sections import ModelSettings

SIGNATURE = "bundle.json.sig"
# A signature counts for this purpose only, whatever else a key may sign.
_PURPOSE = b"fraudstream bundle\n"
_LINE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n")


@dataclass(frozen=True, slots=True)
class Signed:
    """What is known of a bundle's signature.

    Attributes:
        status: `valid`, `none`, or `unchecked` where no key is trusted.
        key: id of the key; empty where there is no signature.
    """

    status: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose bundles are used.

    Attributes:
        keys: public keys, 32 bytes each.
        required: whether a bundle without a signature is refused. A wrong signature always is, where keys are given.
    """

    keys: tuple[bytes, ...] = ()
    required: bool = False

    @classmethod
    def of(cls, settings: ModelSettings) -> Trust:
        """Return what the settings say."""
        return cls(settings.trusted_key_bytes, settings.require_signature)

    def check(self, folder: Path, files: dict[str, bytes]) -> Signed:
        """Check the signature of a bundle's description.

        Args:
            files: the bytes of the bundle by path.

        Raises:
            ModelError: there is none and there must be one, it is of another key, or of another description.
        """
        path = folder / SIGNATURE
        if SIGNATURE not in files:
            if self.required:
                raise ModelError(
                    f"{path}: is missing, and model.require_signature is on; "
                    "sign with `fraudstream models sign`"
                )
            return Signed("none")
        match = _LINE.fullmatch(files[SIGNATURE])
        if match is None:
            raise ModelError(f"{path}: is damaged (it is not `ed25519 KEY SIGNATURE`)")
        key = match[1].decode()
        if not self.keys:
            return Signed("unchecked", key)
        trusted = {key_id(one): one for one in self.keys}
        if key not in trusted:
            raise ModelError(f"{path}: is by the key {key}, which is not one of model.trusted_keys")
        try:
            public = Ed25519PublicKey.from_public_bytes(trusted[key])
            public.verify(base64.b64decode(match[2]), _PURPOSE + files.get("bundle.json", b""))
        except InvalidSignature:
            raise ModelError(
                f"{folder / 'bundle.json'}: was changed after it was signed (its signature by the key {key} is of "
                "other contents)"
            ) from None
        return Signed("valid", key)


def key_id(public: bytes) -> str:
    """Return the short name of a public key: 16 hexadecimal digits of its sha256."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(description: bytes, private: Ed25519PrivateKey) -> bytes:
    """Return the contents of `bundle.json.sig` for those of `bundle.json`."""
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = base64.b64encode(private.sign(_PURPOSE + description))
    return b"ed25519 " + key_id(public).encode() + b" " + signature + b"\n"


def make_keys(private_path: Path) -> tuple[Path, str]:
    """Write a new private key, readable by its owner only, and its public key beside it.

    Returns:
        The public key's file (the same name with `.pub`), and the line in it.

    Raises:
        ConfigError: one of the files is there already or cannot be written.
    """
    public_path = private_path.with_name(private_path.name + ".pub")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    line = base64.b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    if public_path.exists():
        raise ConfigError(f"{public_path}: is there already; give another name")
    for path, content, mode in ((private_path, pem, 0o600), (public_path, line.encode() + b"\n", 0o644)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise ConfigError(f"{path}: is there already; give another name") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return public_path, line


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ConfigError: it cannot be read, or is no unencrypted Ed25519 key in PEM.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a private key") from None
    except TypeError:
        raise ConfigError(f"{path}: is encrypted; give the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path}: is no private key in PEM; `fraudstream models keygen` makes one"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: is not an Ed25519 key; `fraudstream models keygen` makes one")
    return key
