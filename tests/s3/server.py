"""A real S3-compatible server for tests: S3Proxy on loopback, its objects in memory, one key that it lets in.

    with S3Server() as server:
        place_of(server.uri("bucket/folder"))

It needs Java 17 or later, and Maven until the jars (24 MB) are in `.cache/s3proxy/<version>/`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.java import CACHE, free_ports, jars, java, launched

KEYS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # S3Proxy does not know the newest kind of sums
}
START_TIMEOUT_S = 60.0

_HERE = Path(__file__).resolve().parent
_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_PROPERTIES = """
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={AWS_ACCESS_KEY_ID}
s3proxy.credential={AWS_SECRET_ACCESS_KEY}
jclouds.provider=transient-nio2
jclouds.identity=none
jclouds.credential=none
"""


class S3Server:
    """An S3Proxy that ends with its parent. Raises Unavailable where none can run."""

    def __init__(self) -> None:
        (self.port,) = free_ports(None, 1)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = s3_command()
        self._folder = Path(tempfile.mkdtemp(prefix="fraudstream-s3-"))
        try:
            properties = self._folder / "s3proxy.conf"
            properties.write_text(_PROPERTIES.format(port=self.port, **KEYS), "utf-8")
            flag = f"-Djava.io.tmpdir={self._folder}"
            log = self._folder / "server.log"
            self._process = launched([*command[:1], flag, *command[1:], "--properties", str(properties)], log)
            self._wait_until_ready(log)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def uri(self, path: str, keys: str = "") -> str:
        """Return the URI of `bucket/folder`.

        Args:
            keys: `key:secret@`, in place of those of the environment.
        """
        return f"s3://{keys}{path}?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End the server, if it runs; its objects are gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _wait_until_ready(self, log: Path) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5).close()
            except urllib.error.HTTPError as answer:  # it asks for a key
                answer.close()
                return
            except OSError:
                time.sleep(0.1)  # nobody listens yet
        raise RuntimeError(f"S3Proxy did not start; its log:\n{log.read_text(errors='replace')[-2000:]}")


def s3_command() -> list[str]:
    """Return the command line of the server, without its settings. Raises Unavailable without Java or jars."""
    path, pom = java(", to test with buckets"), _HERE / "pom.xml"
    version = re.search(r"<s3proxy\.version>(.+?)</s3proxy\.version>", pom.read_text("utf-8"))
    assert version is not None, "pom.xml has no s3proxy.version"
    folder = jars(CACHE / "s3proxy" / version[1], pom, "s3proxy-*.jar", ", to test with buckets")
    logging = f"-Dlogback.configurationFile={_HERE / 'logback.xml'}"
    return [path, *_FLAGS, logging, "-cp", str(folder / "*"), "org.gaul.s3proxy.Main"]
