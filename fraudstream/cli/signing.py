"""Commands that sign models, and make the keys for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudstream.cli.options import AsJson, Config, print_json, settings_from


def register(models: typer.Typer) -> None:
    """Add the commands."""
    models.command("keygen")(keygen)
    models.command("sign")(sign)


def keygen(
    path: Annotated[
        Path, typer.Argument(help="File of the private key; the public one gets .pub behind it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key pair to sign models with; overwrites nothing."""
    from fraudstream.registry.signing import make_keys

    public_path, public = make_keys(path)
    if as_json:
        print_json({"private": str(path), "public": str(public_path), "trusted_key": public})
        return
    print(f"{path} is the private key: keep it from the workers and from whoever can write the registry")
    print(
        f'{public_path} is the public key; in the settings of every worker:\n\n[model]\ntrusted_keys = ["{public}"]'
    )


def sign(
    version: Annotated[str, typer.Argument(help="A version or an alias.")],
    key: Annotated[Path, typer.Option(help="File of the private key.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check a version as `verify` does, and sign it."""
    from fraudstream.registry import Registry
    from fraudstream.registry.signing import read_private_key

    settings = settings_from(config)
    private = read_private_key(key)
    path, by = Registry.of(settings.model).sign(version, private)
    if as_json:
        print_json({"path": str(path), "key": by})
    else:
        print(f"{path} is signed by the key {by}")
