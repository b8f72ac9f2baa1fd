"""Write what follows from the code: commands, settings, metrics, errors in the docs; JSON Schemas; dashboards.

    python -m docs.generate            # writes
    python -m docs.generate --check    # exit 1 where a file is not what would be written

`docs/commands.md`, `schemas/` and `deploy/grafana/dashboards/` are written whole; in the other pages only what stands
between `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer
import yaml

from deploy.grafana.panels import DASHBOARDS, dashboard
from docs.meanings import ENTRY_MEANINGS, MEANINGS
from fraudstream import errors
from fraudstream.bus.rights import PARTS, rights_of
from fraudstream.cli import app
from fraudstream.event import Field
from fraudstream.features.aggregates import (
    AGGREGATES,
    EVENT_AGGREGATES,
    LABELLED,
    filter_words,
    window_words,
)
from fraudstream.features.where import OPERATORS
from fraudstream.metrics import RetrainMetrics, WorkerMetrics
from fraudstream.records import Alert, Decision, Label, transaction_struct
from fraudstream.registry import bundle, files, probe
from fraudstream.registry.verify import CHILD_TIMEOUT_S
from fraudstream.scoring import wellformed
from fraudstream.scoring.model import POINTS_FPR
from fraudstream.sections import PASSED_ON, FeatureGroup, Outcome, Settings
from fraudstream.settings import ENV_PREFIX, load_settings

ROOT = Path(__file__).resolve().parents[1]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

EMPTY = {"count": "0", "sum": "0", "distinct": "0", "first_seen": "1", "same_count": "0", "in_a_row": "0"}
DURATIONS = (
    "future_tolerance",
    "lateness",
    "repeat_horizon",
    "interval",
    "maturity",
    "grace",
    "case_period",
    "case_length_max",
)


def main(arguments: list[str]) -> int:
    """Write or check all files; return the exit code."""
    stale = [
        path for path, text in rendered().items() if not path.is_file() or path.read_text("utf-8") != text
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)}: is not current; run `python -m docs.generate`", file=sys.stderr)
        return int(bool(stale))
    for path, text in rendered().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    print(f"{len(stale)} files changed")
    return 0


def rendered() -> dict[Path, str]:
    """Return the text that each generated file should have."""
    tables = {
        "concepts.md": {"points": _points()},
        "configuration.md": {
            "settings": _settings(),
            "fields": _entries("fields", Field),
            "features": _entries("features", FeatureGroup),
            "outcomes": _entries("outcomes", Outcome),
            "aggregates": _aggregates(),
            "event aggregates": _event_aggregates(),
            "labelled": _labelled(),
            "operators": _operators(),
        },
        "security.md": {"rights": _rights()},
        "operations.md": {
            "metrics": _metrics(WorkerMetrics),
            "retrain metrics": _metrics(RetrainMetrics),
            "alarms": _alarms(),
            "errors": _errors(),
            "limits": _limits(),
        },
    }
    files = {ROOT / "docs" / page: _filled(ROOT / "docs" / page, parts) for page, parts in tables.items()}
    files[ROOT / "docs" / "commands.md"] = _commands()
    for name in DASHBOARDS:
        path = ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json"
        files[path] = json.dumps(dashboard(name), indent=1) + "\n"
    for name, schema in schemas().items():
        files[ROOT / "schemas" / f"{name}.schema.json"] = json.dumps(schema, indent=2) + "\n"
    return files


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each message; fields that it does not name are allowed."""
    transaction = transaction_struct(load_settings(environment={}).event)
    kinds: dict[str, Any] = {"decision": Decision, "alert": Alert, "label": Label, "transaction": transaction}
    return {
        name: {"$schema": DIALECT, **_explained(msgspec.json.schema(kind))} for name, kind in kinds.items()
    }


def _explained(schema: dict[str, Any]) -> dict[str, Any]:
    """Put what a docstring says of its attributes to the properties themselves."""
    for kind in schema["$defs"].values():
        text, _, attributes = inspect.cleandoc(kind.get("description", "One message.")).partition(
            "\n\nAttributes:\n"
        )
        kind["description"] = text
        for names, meaning in re.findall(r"^    ([\w, ]+): ((?:.|\n {8})+)", attributes, re.MULTILINE):
            for name in names.split(", "):
                kind["properties"][name]["description"] = re.sub(r"\s+", " ", meaning)
    return schema


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name."""
    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"fraudstream {name}", command
        else:
            yield from ((f"fraudstream {name} {sub}", each) for sub, each in sorted(inner.items()))


def settings_keys() -> list[str]:
    """Return every fixed setting as `section.key`."""
    listed = ("features", "outcomes", *PASSED_ON)
    fixed = [name for name in Settings.__struct_fields__ if name not in listed]
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    keys = [f"{name}.{f.name}" for name in fixed for f in msgspec.structs.fields(sections[name])]
    return [key for key in keys if key not in ("event.fields", "event.entities")]


def metrics(catalogue: type[WorkerMetrics | RetrainMetrics]) -> list[tuple[str, str, str, str]]:
    """Return name as it is exposed, kind, labels and meaning of every metric."""
    source = inspect.getsource(catalogue)
    meanings = {name: text for text, name in re.findall(r"# (.+)\n\s+self\.(\w+) =", source)}
    found = []
    for attribute, metric in vars(catalogue()).items():
        if attribute == "registry":
            continue
        kind = metric._type
        name = metric._name + ("_total" if kind == "counter" else "")
        found.append((name, kind, ", ".join(metric._labelnames), meanings[attribute]))
    return found


def error_classes() -> list[type[errors.FraudstreamError]]:
    """Return every error class, the base first."""
    return [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.FraudstreamError)
    ]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _settings() -> str:
    shown = load_settings(environment={}).shown()
    rows = []
    for key in settings_keys():
        section, name = key.split(".")
        value = json.dumps(shown[section][name])
        variable = f"{ENV_PREFIX}{section}__{name}".upper()
        rows.append((f"`{key}`", f"`{value}`", _accepted(section, name), MEANINGS[key], f"`{variable}`"))
    return _table(("setting", "default", "accepted", "meaning", "variable"), rows)


def _accepted(section: str, name: str) -> str:
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    kind = next(f.type for f in msgspec.inspect.type_info(sections[section]).fields if f.name == name)  # type: ignore[attr-defined]
    if isinstance(kind, msgspec.inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, msgspec.inspect.BoolType):
        return "`true` or `false`"
    if isinstance(kind, msgspec.inspect.ListType):
        return "list of texts"
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return "duration" if name in DURATIONS else "text"
    bounds = [("above ", kind.gt), ("from ", kind.ge), ("to ", kind.le)]
    limits = " ".join(f"{word}{bound}" for word, bound in bounds if bound is not None)
    return " ".join(part for part in ("whole" if isinstance(kind, msgspec.inspect.IntType) else "", "number",
                                      limits) if part)  # fmt: skip


def _entries(section: str, struct: Any) -> str:
    names = [field.name for field in msgspec.structs.fields(struct)]
    return _table(("key", "meaning"), [(f"`{n}`", ENTRY_MEANINGS[f"{section}.{n}"]) for n in names])


def _aggregates() -> str:
    kinds = {"": "-", "measure": "a numeric field", "text": "an id or category"}
    rows = [
        (
            f"`{name}`",
            kinds[spec.of],
            _declared(spec.meaning),
            _declared(spec.unit),
            EMPTY.get(name, "NaN"),
            "yes" if spec.tiled else "-",
        )
        for name, spec in AGGREGATES.items()
    ]
    return _table(("aggregate", "`of`", "meaning", "unit", "empty window", "tiles"), rows)


def _labelled() -> str:
    return _table(
        ("aggregate", "meaning"),
        [(f"`{name}`", _declared(meaning)) for name, meaning in LABELLED.items()],
    )


def _operators() -> str:
    rows = [(f"`{operator}`", slug or "-") for operator, slug in OPERATORS.items()]
    return _table(("operator", "in a name"), rows)


def _declared(template: str) -> str:
    """Fill a template with the keys of a declaration."""
    words = {**window_words("*window*", "*baseline*", ""), **filter_words("", "*of*"), "lag": "*lag*"}
    return template.format(**{**words, "filter": "*where*", "entity": "*entity*", "of": "*of*"})


def _event_aggregates() -> str:
    rows = [
        (f"`{n}`", _placeholders(meaning), _placeholders(unit))
        for n, (unit, meaning) in EVENT_AGGREGATES.items()
    ]
    return _table(("aggregate", "meaning", "unit"), rows)


def _placeholders(text: str) -> str:
    return re.sub(r"\{(\w+)\}", r"*\1*", text)


def _points() -> str:
    return _table(
        ("risk points", "false-positive rate"), [(str(p), f"{100 * rate:g} %") for p, rate in POINTS_FPR]
    )


def _metrics(catalogue: type[WorkerMetrics | RetrainMetrics]) -> str:
    return _table(
        ("metric", "kind", "labels", "meaning"),
        [(f"`{n}`", k, labels or "-", m) for n, k, labels, m in metrics(catalogue)],
    )


def alarms() -> list[dict[str, Any]]:
    """Return Prometheus' alarms as they are declared."""
    declared = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alarms.yml").read_text("utf-8"))
    return [rule for group in declared["groups"] for rule in group["rules"]]


def _alarms() -> str:
    rows = []
    for alarm in alarms():
        said = {name: _placeholders_of_prometheus(text) for name, text in alarm["annotations"].items()}
        told = f"{alarm['labels']['severity']}, {alarm.get('for', 'at once')}"
        rows.append((f"`{alarm['alert']}`", told, said["summary"], said["runbook"]))
    return _table(("alarm", "severity, after", "what it says", "what it means, and what to do"), rows)


def _placeholders_of_prometheus(text: str) -> str:
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", text)


def _limits() -> str:
    size = [(f"`{name}`", f"{most:,} bytes") for name, most in files.BYTES_MAX.items()]
    size += [
        ("a file in `report/`", f"{files.REPORT_BYTES_MAX:,} bytes"),
        ("files in `report/`", f"{files.REPORT_FILES_MAX}"),
        ("features", f"{wellformed.FEATURES_MAX:,}"),
        ("trees", f"{wellformed.TREES_MAX:,}"),
        ("leaves of a tree", f"{wellformed.TREE_LEAVES_MAX:,}"),
        ("leaves of all trees", f"{wellformed.LEAVES_MAX:,}"),
        ("size of a leaf's value", f"{wellformed.LEAF_VALUE_MAX:g}"),
        ("knots of a calibration, or of the risk points", f"{bundle.KNOTS_MAX:,}"),
        ("golden rows", f"{bundle.GOLDEN_ROWS_MAX:,}"),
        ("`golden.parquet`, unpacked", f"{bundle.GOLDEN_BYTES_MAX:,} bytes"),
        ("memory of the child process", f"{probe.MEMORY_MAX:,} bytes of addresses"),
        ("time of the child process", f"{CHILD_TIMEOUT_S} s"),
        ("`aliases.json`", f"{files.ALIASES_BYTES_MAX:,} bytes"),
    ]
    return _table(("what", "at most"), size)


def _rights() -> str:
    settings = load_settings(environment={})
    rows = []
    for part in PARTS:
        named: dict[str, list[str]] = {}
        for right in rights_of(settings, part):
            names = named.setdefault(f"{right.operation} on {right.kind}", [])
            names.append(f"`{right.name}{'*' * right.prefixed}`")
        rows.append((f"`{part}`", "; ".join(f"{what} {', '.join(names)}" for what, names in named.items())))
    return _table(("part", "rights"), rows)


def _errors() -> str:
    rows = [
        (f"`{c.__name__}`", str(c.exit_code), inspect.cleandoc(c.__doc__ or "").split("\n\n")[0])
        for c in error_classes()
    ]
    return _table(("error", "exit code", "what to do"), rows)


def _commands() -> str:
    parts = [
        "# Commands",
        "Generated from the command line itself by `python -m docs.generate`.",
        "Every command says errors in one line on stderr. Exit codes: 0 done, 1 failed, 2 wrong usage or "
        "configuration, 3 a refused promotion, 130 interrupted.",
    ]
    for name, command in commands():
        context = typer.Context(command, info_name=name)
        arguments = "".join(f" [{p.name.upper()}]" if not p.required else f" {p.name.upper()}"
                            for p in command.params if p.param_type_name == "argument")  # fmt: skip
        parts += [f"## `{name}{arguments}`", inspect.cleandoc(command.help)]
        records = [param.get_help_record(context) for param in command.params]
        rows = [(f"`{option}`", _described(text)) for option, text in records]
        parts.append(_table(("option", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _described(text: str) -> str:
    return re.sub(r"\s+\[([^\[]+)\]$", r" (\1)", text).replace("x>=", "at least ").replace("; )", ")")


def _filled(page: Path, parts: dict[str, str]) -> str:
    text = page.read_text("utf-8")
    for name, table in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{page}: has no {begin} ... {end}")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
