"""The folder of all models, and the aliases that say which one is in use."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraudstream.errors import ModelError
from fraudstream.registry.bundle import DESCRIPTION, VERSION, Bundle, BundleFile, read_bundle
from fraudstream.registry.files import ALIASES_BYTES_MAX, read_plain
from fraudstream.registry.signing import SIGNATURE, Trust, sign
from fraudstream.registry.verify import BundleReport, Child, load_bundle, run_child, verify_bundle
from fraudstream.scoring.model import ModelParts
from fraudstream.sections import ModelSettings

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


@dataclass(frozen=True, slots=True)
class Registry:
    """The models of one name.

    Attributes:
        root: the folder of all models.
        name: of this model.
        trust: whose bundles are used.
        child: loads a candidate in a process of its own.
    """

    root: Path
    name: str
    trust: Trust
    child: Child = field(default=run_child, repr=False)

    @classmethod
    def of(cls, settings: ModelSettings, child: Child = run_child) -> Registry:
        """Return the registry that the settings name, with the keys that they trust."""
        return cls(Path(settings.registry), settings.name, Trust.of(settings), child)

    @property
    def folder(self) -> Path:
        """Return the folder of this model's versions."""
        return self.root / self.name

    def versions(self) -> list[str]:
        """Return the versions, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if VERSION.fullmatch(p.name) and p.is_dir())

    def aliases(self) -> dict[str, str]:
        """Return version by alias."""
        path = self.folder / "aliases.json"
        if not os.path.lexists(path):
            return {}
        try:
            aliases: dict[str, str] = msgspec.json.decode(
                read_plain(path, ALIASES_BYTES_MAX), type=dict[str, str]
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ModelError(
                f"{path}: must map aliases to versions ({' '.join(str(error).split())})"
            ) from None
        return aliases

    def names(self, version: str) -> bool:
        """Tell whether this is an alias there is, or a version's number.

        Raises:
            ModelError: the aliases cannot be read.
        """
        return version in self.aliases() or VERSION.fullmatch(version) is not None

    def path_of(self, version: str) -> Path:
        """Return the folder of a version, or of the version an alias names.

        Raises:
            ModelError: there is none; says what to run.
        """
        chosen = self.aliases().get(version, version)
        path = self.folder / chosen
        if not VERSION.fullmatch(chosen) or not path.is_dir():
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
        """Read a version (or alias) whose files have passed all checks but those of a child process.

        Raises:
            ModelError: naming what is missing or damaged, or that the bundle is another version.
        """
        bundle = read_bundle(self.path_of(version), self.trust, self.name)
        return bundle.described, bundle.parts

    def find(self, model: str) -> ModelParts:
        """Read a version or alias as `read` does, or a bundle anywhere by its folder (`models/card/0001`).

        Raises:
            ModelError: as `read`.
        """
        return self.bundle(model).parts

    def bundle(self, model: str) -> Bundle:
        """Read all of what `find` finds.

        Raises:
            ModelError: as `read`.
        """
        by_path = (Path(model) / DESCRIPTION).is_file() or os.sep in model
        return read_bundle(Path(model) if by_path else self.path_of(model), self.trust, self.name)

    def load(self, version: str) -> ModelParts:
        """Read a version (or alias) that a child process has loaded, for a process that must not die of it.

        Raises:
            ModelError: as `read`, or the child process refused it.
        """
        return load_bundle(self.path_of(version), self.trust, self.name, self.child).parts

    def verify(self, version: str) -> BundleReport:
        """Check a version (or alias) as `load` does, and tell of every file."""
        return verify_bundle(self.path_of(version), self.trust, self.name, self.child)

    def sign(self, version: str, key: Ed25519PrivateKey) -> tuple[Path, str]:
        """Sign a version (or alias) that passes all checks; return its folder and the key's id.

        Raises:
            ModelError: it is damaged, or its files cannot be written.
        """
        path = self.path_of(version)
        bundle = load_bundle(path, Trust(), self.name, self.child)
        line = sign(bundle.files[DESCRIPTION], key)
        self._replace(path / SIGNATURE, line)
        return path, line.split()[1].decode()

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
            self._write(aliases)
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
        self._write(aliases)
        return aliases

    def _write(self, aliases: dict[str, str]) -> None:
        text = json.dumps(aliases, indent=1, sort_keys=True) + "\n"
        self._replace(self.folder / "aliases.json", text.encode())

    def _replace(self, path: Path, content: bytes) -> None:
        """Write a file under another name and rename it, so that nobody sees half of it."""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".writing-", dir=self.folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise ModelError(f"{path}: cannot be written ({error.strerror})") from None
