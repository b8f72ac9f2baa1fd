"""A decision that was derived again, for a person and for a machine."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fraudstream.clock import iso
from fraudstream.console.tail import alert_text, masked
from fraudstream.stream.rederive import Rederived

PARTS_SHOWN = 15


def plain(found: Rederived) -> dict[str, Any]:
    """Return it as plain data."""
    return {
        "ok": found.ok,
        "transaction_id": found.transaction_id,
        "decision": msgspec.to_builtins(found.decision),
        "position": found.position and dict(zip(("partition", "offset"), found.position, strict=True)),
        "run": found.run,
        "repeats": found.repeats,
        "written_again": found.written_again,
        "alert": msgspec.to_builtins(found.alert),
        "raw_score": found.raw_score,
        "explanation": None if found.why is None else msgspec.to_builtins(found.why),
        **{
            name: msgspec.to_builtins(getattr(found, name))
            for name in ("others", "parts", "thresholds", "checks", "missing")
        },
    }


def show(found: Rederived, console: Console) -> None:
    """Print it in a few paragraphs; card numbers are masked."""
    if found.decision is not None:
        _show_decision(found, console)
    if found.why is not None:
        _show_why(found, console)
    for threshold in found.thresholds:
        mark = "->" if threshold.decided else "  "
        console.print(f" {mark} {escape(threshold.outcome)}: {escape(threshold.rule)}")
    for check in found.checks:
        if check.same:
            continue
        console.print(
            f"[bold red]differs[/] {check.what}: served {_short(check.served)}, now {_short(check.now)}"
        )
    if found.checks and all(check.same for check in found.checks):
        console.print(f"the same bytes as served: {', '.join(check.what for check in found.checks)}")
    for missing in found.missing:
        console.print(
            f"[bold yellow]missing[/] {missing.what}: {escape(missing.why)}\n  {escape(missing.do)}"
        )


def _show_decision(found: Rederived, console: Console) -> None:
    decision = found.decision
    assert decision is not None
    if found.alert is not None:
        console.print(alert_text(found.alert))
    else:
        console.print(
            f"[bold]{escape(decision.outcome.upper())}[/] {decision.risk_points} points ({decision.score:.0%})  "
            f"{iso(decision.event_time_ms)[:19]}Z  [dim]{escape(masked(decision.transaction_id))}[/]"
        )
    said = [f"model {decision.model}"]
    if found.position is not None:
        said.append(f"partition {found.position[0]} offset {found.position[1]}")
    said += [f"flags {', '.join(decision.flags)}"] * bool(decision.flags)
    said += [f"{found.repeats:,} repeats, each with this decision"] * bool(found.repeats)
    said += [f"written again {found.written_again:,} times after a crash"] * bool(found.written_again)
    console.print(f"  [dim]{escape('; '.join(said))}[/]")
    for other in found.others:
        console.print(
            f"  the same id was decided apart from this, too: {escape(other.outcome)}, {other.risk_points} points "
            f"(--sequence {other.sequence})"
        )


def _show_why(found: Rederived, console: Console) -> None:
    why = found.why
    assert why is not None
    console.print(
        f"raw score {found.raw_score:.6f} = base {why.base:+.4f} and "
        + ", ".join(f"{escape(group.text)} {group.contribution:+.4f}" for group in why.groups)
        + f" ({why.method})"
    )
    if found.alert is None:
        for reason in why.reasons:
            console.print(f"  - {escape(reason.text)} [dim](+{reason.contribution:.2f})[/]")
    table = Table("feature", "value", "contribution", box=None)
    for part in found.parts[:PARTS_SHOWN]:
        value = "missing" if part.value is None else f"{part.value:g}"
        table.add_row(part.feature, value, f"{part.contribution:+.4f}")
    console.print(table)
    if len(found.parts) > PARTS_SHOWN:
        console.print(f"[dim]and {len(found.parts) - PARTS_SHOWN} more with smaller parts; --json has all[/]")


def _short(value: Any) -> str:
    text = escape(msgspec.json.encode(value).decode())
    return text if len(text) <= 200 else f"{text[:200]}..."
