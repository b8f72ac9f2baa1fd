"""Commands that change which model decides: promote, rollback, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fraudstream.bus.place import Place
from fraudstream.cli.options import (
    AsJson,
    Config,
    instant,
    out,
    print_json,
    progress,
    read_from,
    settings_from,
)
from fraudstream.errors import ConfigError, ModelError, PromotionError

if TYPE_CHECKING:
    from fraudstream.registry import Registry


def register(models: typer.Typer) -> None:
    """Add the commands to `models`."""
    models.command("promote")(promote)
    models.command("rollback")(rollback)
    models.command("history")(history)


def promote(
    version: Annotated[str, typer.Argument(help="The version to make champion, or `challenger`.")],
    transactions: Annotated[
        Place | None, read_from("Files of transactions, from before both trainings to now.")
    ] = None,
    labels: Annotated[Place | None, read_from("Files of labels with known_at (Unix ms).")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Judge as if it were this instant (ISO 8601); default: now.")
    ] = None,
    force: Annotated[
        str | None, typer.Option(help="Promote without the gate, for this reason; it is recorded.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a version champion if later, mature outcomes show that it is better; exit 3 with the reasons if not.

    The old champion becomes `previous`. Running workers follow.
    """
    from fraudstream.clock import now_ms
    from fraudstream.registry import Registry, promotions
    from fraudstream.training.promote import gate_of_files

    if (transactions is None) != (labels is None):
        raise ConfigError("models promote: give both --transactions and --labels")
    if force is not None and not force.strip():
        raise ConfigError("--force: give the reason, for the log")
    settings = settings_from(config)
    registry = Registry.of(settings.model)
    verify(registry, version, "not promoted")
    champion = registry.aliases().get("champion", "")
    chosen = registry.path_of(version).name
    if chosen == champion:
        tell(registry, registry.aliases(), as_json)
        return
    if not champion or force is not None:
        act: Any = "forced" if champion else "first"
        tell(registry, promotions.promote_recorded(registry, chosen, act, force or ""), as_json)
        return
    if transactions is None or labels is None:
        raise PromotionError(
            f"{registry.name}/{chosen} is not promoted: nothing shows that it is better than {champion}; give "
            "--transactions and --labels of what came after its training, or --force REASON"
        )
    at_ms = now_ms() if as_of is None else instant(as_of, "--as-of")
    with progress() as advance:
        verdict = gate_of_files(settings, chosen, (transactions, labels), at_ms, advance)
    if verdict.reasons:
        said = "; ".join(verdict.reasons)
        promotions.record(registry, "refused", (champion, champion), f"{chosen}: {said}", verdict.figures)
        if as_json:
            print_json({"name": registry.name, "promoted": False, "reasons": verdict.reasons,
                        "figures": verdict.figures})  # fmt: skip
        raise PromotionError(f"{registry.name}/{chosen} is not promoted: {said}")
    aliases = promotions.promote_recorded(registry, chosen, "promoted", "", verdict.figures)
    if as_json:
        print_json({"name": registry.name, "promoted": True, "aliases": aliases, "figures": verdict.figures})
        return
    found = verdict.figures
    print(
        f"{found['objective']} {found['champion']:.4f} -> {found['challenger']:.4f}: {found['gain']:+.4f}, interval "
        f"{found['gain_low']:+.4f} to {found['gain_high']:+.4f}, {found['frauds']:,} frauds"
    )
    tell(registry, aliases, as_json)


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make the previous champion the champion again; a second time takes it back. Running workers follow."""
    from fraudstream.registry import Registry, promotions

    registry = Registry.of(settings_from(config).model)
    verify(registry, "previous", "not promoted")
    tell(registry, promotions.promote_recorded(registry, "previous", "rolled back", reason), as_json)


def history(config: Config = None, as_json: AsJson = False) -> None:
    """Show who promoted what, when and why, oldest first; refusals too."""
    import msgspec

    from fraudstream.registry import Registry, promotions

    registry = Registry.of(settings_from(config).model)
    found = promotions.history(registry)
    if as_json:
        print_json({"name": registry.name, "promotions": msgspec.to_builtins(found)})
        return
    table = Table("at", "by", "what", "champion", "reason", box=None)
    for entry in found:
        champions = entry.after if entry.before in ("", entry.after) else f"{entry.before} -> {entry.after}"
        table.add_row(entry.at, Text(entry.by), entry.act, champions, Text(entry.reason))
    out().print(table)


def verify(registry: Registry, version: str, otherwise: str) -> None:
    """Check a version as a worker would before it is used.

    Raises:
        ModelError: it is damaged.
    """
    report = registry.verify(version)
    if report.problems:
        raise ModelError(f"{otherwise}: {report.problems[0]}")


def tell(registry: Registry, aliases: dict[str, str], as_json: bool) -> None:
    """Say which versions are in use now."""
    if as_json:
        print_json({"name": registry.name, "aliases": aliases})
        return
    named = ", ".join(f"{alias} {version}" for alias, version in aliases.items())
    print(f"{registry.name}: {named}; running workers follow")
