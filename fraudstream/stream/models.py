"""The model that scores: read with care at start, and replaced by a promoted one without a pause."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from fraudstream.clock import monotonic_s
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.registry import Registry, verify_bundle
from fraudstream.scoring import Model, ModelParts
from fraudstream.scoring.model import bind
from fraudstream.settings import Settings


def load_model(settings: Settings, catalog: Catalog) -> ModelParts:
    """Read the model that the settings name, after a child process has loaded it.

    Raises:
        ModelError: naming what is wrong and what to run.
    """
    registry = Registry(Path(settings.model.registry), settings.model.name)
    path = registry.path_of(settings.model.version)
    report = verify_bundle(path)
    if report.problems:
        raise ModelError(report.problems[0])
    _, parts = registry.read(path.name)
    bind(parts, catalog)
    return parts


class ModelWatch:
    """Notices when another version is promoted, and makes it ready beside the loop.

    A thread reads, checks and compiles it; the loop takes it between two batches. A version that is refused is tried
    again only when its files or the aliases change.

    Args:
        loaded: `name/version` that scores now.
    """

    def __init__(self, settings: Settings, catalog: Catalog, loaded: str) -> None:
        self._settings = settings
        self._catalog = catalog
        self._registry = Registry(Path(settings.model.registry), settings.model.name)
        self._every_s = settings.model.reload_ms / 1000
        self._due_s = monotonic_s() + self._every_s
        self._loaded = loaded
        self._tried: object = None  # how the files were when they were last read
        self._refused: object = None
        self._thread: threading.Thread | None = None
        self._found: Model | str = ""

    def newer(self) -> Model | str | None:
        """Return a model to score with from now on, why one was refused, or None. Never waits."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            return self._taken()
        now_s = monotonic_s()
        if not self._every_s or now_s < self._due_s:
            return None
        self._due_s = now_s + self._every_s
        if self._is_another():
            self._thread = threading.Thread(target=self._prepare, name="model", daemon=True)
            self._thread.start()
        return None

    def _taken(self) -> Model | str:
        if isinstance(self._found, Model):
            self._loaded, self._refused = self._found.parts.version, None
        else:
            self._refused = self._tried
        return self._found

    def _is_another(self) -> bool:
        """Tell whether the settings name another version than the one that scores, and not the one just refused."""
        try:
            version = self._registry.path_of(self._settings.model.version).name
        except ModelError:
            return self._mark() != self._refused
        return f"{self._settings.model.name}/{version}" != self._loaded and self._mark() != self._refused

    def _mark(self) -> list[tuple[str, int, int]]:
        """Return what changes when somebody mends the aliases or the version that they name."""
        paths = [self._registry.folder / "aliases.json"]
        with contextlib.suppress(ModelError, OSError):
            paths += sorted(self._registry.path_of(self._settings.model.version).iterdir())
        found = []
        for path in paths:
            try:
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((str(path), 0, 0))
        return found

    def _prepare(self) -> None:
        self._tried = self._mark()
        try:
            self._found = Model(load_model(self._settings, self._catalog), self._catalog)
        except Exception as error:  # whatever is wrong with it, the model that scores goes on
            self._found = str(error) or type(error).__name__
