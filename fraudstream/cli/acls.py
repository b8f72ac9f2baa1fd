"""`fraudstream acls`: what each part needs of a broker that has ACLs, and no more."""

from __future__ import annotations

from typing import Annotated

import typer

from fraudstream.cli.options import AsJson, Brokers, Config, print_json, settings_from
from fraudstream.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("acls")(acls)


def acls(
    part: Annotated[str | None, typer.Argument(help='One of the parts, "worker"; default: all.')] = None,
    principal: Annotated[str, typer.Option(help="Who is to have the rights.")] = "User:fraudstream",
    config: Config = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Print the commands of Kafka's own tool that grant what each part needs, and no more; grants nothing itself."""
    from fraudstream.bus.rights import PARTS, rights_of

    if part is not None and part not in PARTS:
        raise ConfigError(f'acls "{part}": give one of {", ".join(PARTS)}')
    settings = settings_from(config, brokers)
    rights = {name: rights_of(settings, name) for name in ([part] if part else PARTS)}
    if as_json:
        print_json({name: [right._asdict() for right in needed] for name, needed in rights.items()})
        return
    for name, needed in rights.items():
        print(f"# {name}")
        for right in needed:
            print(right.command(str(settings.kafka["bootstrap.servers"]), principal))
