"""The folder of all models, and the aliases that say which one is in use."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fraudstream.errors import ModelError
from fraudstream.registry.bundle import BundleFile, read_bundle
from fraudstream.scoring.model import ModelParts

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_VERSION = re.compile(r"\d{4,8}")


@dataclass(frozen=True, slots=True)
class Registry:
    """The models of one name.

    Attributes:
        root: the folder of all models.
        name: of this model.
    """

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Return the folder of this model's versions."""
        return self.root / self.name

    def versions(self) -> list[str]:
        """Return the versions, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if _VERSION.fullmatch(p.name) and p.is_dir())

    def aliases(self) -> dict[str, str]:
        """Return version by alias."""
        path = self.folder / "aliases.json"
        try:
            aliases = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from None
        if not isinstance(aliases, dict) or not all(isinstance(v, str) for v in aliases.values()):
            raise ModelError(f"{path}: must map aliases to versions")
        return aliases

    def names(self, version: str) -> bool:
        """Tell whether this is an alias there is, or a version's number.

        Raises:
            ModelError: the aliases cannot be read.
        """
        return version in self.aliases() or _VERSION.fullmatch(version) is not None

    def path_of(self, version: str) -> Path:
        """Return the folder of a version, or of the version an alias names.

        Raises:
            ModelError: there is none; says what to run.
        """
        chosen = self.aliases().get(version, version)
        path = self.folder / chosen
        if not _VERSION.fullmatch(chosen) or not path.is_dir():
            known = ", ".join([*self.aliases(), *self.versions()]) or "none"
            raise ModelError(
                f"there is no model {self.name}/{version} in {self.root} (known: {known}); "
                "make one with `fraudstream train`, choose one with `fraudstream models promote`"
            )
        return path

    def next_path(self) -> Path:
        """Return the folder that the next version will take."""
        newest = int(self.versions()[-1]) if self.versions() else 0
        return self.folder / f"{newest + 1:04d}"

    def read(self, version: str) -> tuple[BundleFile, ModelParts]:
        """Read a version (or alias) whose files all have their recorded hashes.

        Raises:
            ModelError: naming what is missing or damaged, or that the bundle is another version.
        """
        path = self.path_of(version)
        described, parts = read_bundle(path)
        if parts.version != f"{self.name}/{path.name}":
            raise ModelError(
                f"{path / 'bundle.json'}: is {parts.version}; a version keeps the folder it was made in"
            )
        return described, parts

    def promote(self, version: str) -> dict[str, str]:
        """Make a version the champion; the old one becomes `previous`. Return the aliases.

        Where it was the challenger, there is none any more.
        """
        chosen = self.path_of(version).name
        aliases = self.aliases()
        if aliases.get(CHAMPION) != chosen:
            if CHAMPION in aliases:
                aliases[PREVIOUS] = aliases[CHAMPION]
            if aliases.get(CHALLENGER) == chosen:
                del aliases[CHALLENGER]
            aliases[CHAMPION] = chosen
            self._replace(aliases)
        return aliases

    def challenge(self, version: str | None) -> dict[str, str]:
        """Make a version the challenger; None: there is none. Return the aliases.

        Raises:
            ModelError: it is the champion, or there is no such version.
        """
        aliases = self.aliases()
        aliases.pop(CHALLENGER, None)
        if version is not None:
            chosen = self.path_of(version).name
            if aliases.get(CHAMPION) == chosen:
                raise ModelError(
                    f"{self.name}/{chosen} is the champion; give another version to challenge it"
                )
            aliases[CHALLENGER] = chosen
        self._replace(aliases)
        return aliases

    def _replace(self, aliases: dict[str, str]) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".aliases-", dir=self.folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(aliases, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, self.folder / "aliases.json")
