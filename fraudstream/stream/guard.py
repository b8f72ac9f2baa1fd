"""TLS and a token for the web port."""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path

import structlog

from fraudstream.errors import ConfigError
from fraudstream.sections import WorkerSettings

log = structlog.get_logger("web")


class Guard:
    """Holds the certificate and the token of the web port; both come from files.

    Attributes:
        context: for the web server; None: no TLS.

    Raises:
        ConfigError: a file cannot be read or holds something else.
    """

    def __init__(self, worker: WorkerSettings) -> None:
        self._certificate = worker.web_certificate_file
        self._key = worker.web_key_file or self._certificate
        self._token = b""
        self.context: ssl.SSLContext | None = None
        if worker.web_key_file and not self._certificate:
            raise ConfigError("worker.web_key_file: worker.web_certificate_file is missing")
        if worker.web_token_file:
            self._token = _token(worker.web_token_file)
        if self._certificate:
            self.context = self._loaded(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
            self._changed = self._written()

    def admits(self, authorization: str) -> bool:
        """Tell whether a request with this `Authorization` header may see more than health."""
        if not self._token:
            return True
        return hmac.compare_digest(authorization.encode("utf-8", "replace"), b"Bearer " + self._token)

    def renew(self) -> None:
        """Take a certificate that was written anew; connections that come from now on have it."""
        if self.context is None or (written := self._written()) == self._changed:
            return
        self._changed = written
        try:
            self._loaded(
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            )  # half of a pair must not be taken
            self._loaded(self.context)
        except ConfigError as error:
            log.warning("certificate_refused", error=str(error), action="write certificate and key once more")
        else:
            log.info("certificate_renewed", file=self._certificate)

    def _written(self) -> tuple[int, ...]:
        """Return when the files were written, ns; 0 for one that is not there."""
        files = (Path(self._certificate), Path(self._key))
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = f'worker.web_certificate_file = "{self._certificate}"'
            if self._key != self._certificate:
                files += f', worker.web_key_file = "{self._key}"'
            raise ConfigError(f"{files}: {_why(error)}") from None
        return context


def _no_password() -> str:
    """Keep OpenSSL from asking for one at the terminal."""
    raise ValueError("the key has a password; give one without, that only this user can read")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        return "the key is of another certificate" if mismatch else "expected a PEM file of each"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return str(error)


def _token(path: str) -> bytes:
    where = f'worker.web_token_file = "{path}"'
    try:
        text = Path(path).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "expected ASCII text"
        raise ConfigError(f"{where}: cannot be read ({why})") from None
    if len(text) < 16 or any(c.isspace() for c in text):
        raise ConfigError(
            f"{where}: expected one word of at least 16 characters; `openssl rand -hex 32` makes one"
        )
    return text.encode()
