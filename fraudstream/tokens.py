"""Tokens in the place of identifiers that nobody needs to see: a keyed hash, the same for the same text and key.

Without the key neither can a text be told from its token nor, as a plain hash of a card number would allow, found by
trying all of them. With another key every card is a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from fraudstream.errors import ConfigError

TOKEN_BYTES = 16
KEY_BYTES_MIN, KEY_BYTES_MAX = 16, 64


class Tokens:
    """Makes tokens of texts: BLAKE2b with a key (RFC 7693), 32 hexadecimal digits.

    Args:
        path: the file of the key, 16 to 64 bytes; a line end behind it does not count.

    Raises:
        ConfigError: there is no such file, or its key is too short or too long.
    """

    def __init__(self, path: str) -> None:
        where = f'event.token_key_file = "{path}"'
        try:
            key = Path(path).read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read ({error.strerror})") from None
        if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise ConfigError(
                f"{where}: has {len(key)} bytes; give {KEY_BYTES_MIN} to {KEY_BYTES_MAX}, `openssl rand -hex 32`"
            )
        self._keyed = hashlib.blake2b(digest_size=TOKEN_BYTES, key=key)

    def of(self, texts: Iterable[str | None]) -> list[str | None]:
        """Return the token of each text; a missing one stays missing. About 0.7 us each."""
        return [None if text is None else self._one(text) for text in texts]

    def _one(self, text: str) -> str:
        hashed = self._keyed.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()
