"""The models that score: read with care, and replaced by others without a pause."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from itertools import islice
from math import inf

from fraudstream.clock import monotonic_s
from fraudstream.errors import ModelError
from fraudstream.features import Catalog
from fraudstream.registry import CHALLENGER, CHAMPION, Registry
from fraudstream.registry.verify import Child, run_child
from fraudstream.scoring import Model, ModelParts
from fraudstream.scoring.model import bind
from fraudstream.sections import Settings


def load_model(settings: Settings, catalog: Catalog, version: str, child: Child = run_child) -> ModelParts:
    """Read a model (a version or an alias), after a child process has loaded it.

    Raises:
        ModelError: naming what is wrong and what to run.
    """
    parts = Registry.of(settings.model, child).load(version)
    bind(parts, catalog)
    return parts


FILES_SEEN_MAX = 64  # more than a bundle can have


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to do: score with another model from now on, or with none; or why one was refused."""

    model: Model | None = None
    refused: str = ""


class ModelWatch:
    """Notices when another version is named, and makes it ready beside the loop.

    A thread reads, checks and compiles it; the loop takes it between two batches. A version that is refused is tried
    again only when its files or the aliases change. A champion must be there; there may be no challenger.

    Attributes:
        role: `champion` or `challenger`.

    Args:
        loaded: `name/version` that scores now; empty: none, so that it looks at once.
        child: loads a candidate in a process of its own.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, role: str, loaded: str = "", child: Child = run_child
    ) -> None:
        self.role = role
        self._settings = settings
        self._catalog = catalog
        self._registry = Registry.of(settings.model, child)
        self._named = settings.model.version if role == CHAMPION else settings.model.challenger
        self._every_s = settings.model.reload_ms / 1000 or inf
        self._due_s = monotonic_s() + self._every_s if loaded else 0.0
        self._loaded = loaded
        self._tried: object = None  # how the files were when they were last read
        self._refused: object = None
        self._thread: threading.Thread | None = None
        self._found = Found()

    def newer(self) -> Found | None:
        """Return what to do, or None for nothing. Never waits."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            return self._taken()
        now_s = monotonic_s()
        if now_s < self._due_s:
            return None
        self._due_s = now_s + self._every_s
        if self._is_another():
            self._thread = threading.Thread(target=self._prepare, name=self.role, daemon=True)
            self._thread.start()
        return None

    def _taken(self) -> Found:
        if self._found.refused:
            self._refused = self._tried
        else:
            self._loaded = self._found.model.parts.version if self._found.model is not None else ""
            self._refused = None
        return self._found

    def _is_another(self) -> bool:
        """Tell whether another version is named than the one that scores, and not the one just refused."""
        try:
            version = self._version()
        except ModelError:
            return self._mark() != self._refused
        return version != self._loaded and self._mark() != self._refused

    def _version(self) -> str:
        """Return the `name/version` that the settings and the aliases name; empty: no challenger.

        Raises:
            ModelError: it is not there, or the aliases cannot be read.
        """
        if self.role == CHALLENGER and not self._registry.names(self._named):
            return ""
        return f"{self._registry.name}/{self._registry.path_of(self._named).name}"

    def _mark(self) -> list[tuple[str, int, int]]:
        """Return what changes when somebody mends the aliases or the version that they name."""
        paths = [self._registry.folder / "aliases.json"]
        with contextlib.suppress(ModelError, OSError):
            paths += sorted(islice(self._registry.path_of(self._named).rglob("*"), FILES_SEEN_MAX))
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
            model = None
            if self._version():
                model = Model(
                    load_model(self._settings, self._catalog, self._named, self._registry.child),
                    self._catalog,
                )
            self._found = Found(model)
        except Exception as error:  # whatever is wrong with it, the model that scores goes on
            self._found = Found(refused=str(error) or type(error).__name__)
