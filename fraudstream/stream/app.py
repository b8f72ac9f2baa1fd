"""The Faust app for `faust -A fraudstream.stream.app worker`; settings as for `fraudstream worker`."""

from __future__ import annotations

import functools

from fraudstream.logs import configure_logs
from fraudstream.settings import load_settings
from fraudstream.stream.build import build_worker
from fraudstream.stream.host import create_app

configure_logs()
_settings = load_settings()
app = create_app(_settings, functools.partial(build_worker, _settings))
