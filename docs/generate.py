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

MEANINGS = {
    "event.name": "name of the event type",
    "event.id": "field that identifies a transaction; type `id`, required",
    "event.time": "field with the event time; type `timestamp`, required",
    "event.amount": "field with the amount; type `amount`, required",
    "event.currency": "field with the currency, type `category`; empty: none",
    "event.key": "entity that the message key holds; Kafka orders by it",
    "event.null_key": "what becomes of a message without a key: `reject` (dead letter) or `accept`",
    "event.future_tolerance": "how far ahead of the clock an event time may be; beyond it, a dead letter",
    "event.token_key_file": "file of the key that tokens are made with, 16 to 64 bytes; see "
    "[masking](security.md#card-numbers)",
    "event.message_bytes_max": "a longer message is a dead letter; 64 to 10000000",
    "event.format": "of the messages of `topics.transactions`; the last two by the schemas of a "
    "[registry](#schema-registry)",
    "state.lateness": "how far behind its entity's newest row a row may come and still be kept",
    "state.rows_max": "rows kept for one entity; beyond it the oldest go, flagged `rows_capped`",
    "state.entities_max": "entities kept of one kind; a further one has no history, flagged `untracked`",
    "state.repeat_horizon": "a transaction id seen again within this much stream time is a repeat and changes "
    "nothing; `0s`: off",
    "state.complete_from": "instant from which on no transaction is missing: empty (the first one seen), `start` "
    "(nothing was before it), or ISO 8601",
    "snapshots.folder": "where the state is saved, for all workers of a group; empty: it is rebuilt from the log",
    "snapshots.interval": "time between two snapshots",
    "snapshots.kept": "snapshots kept of each set of partitions",
    "degradation.explanations_lag": "waiting messages from which on alerts are explained by path; 0: never",
    "degradation.shadow_lag": "waiting messages from which on the challenger does not score; 0: never",
    "degradation.batches_lag": "waiting messages from which on batches are larger; 0: never",
    "degradation.batch_rows_max": "messages taken at once then",
    "degradation.on_failure": "where a score cannot be had: `stop` the worker; `open`: decide `decisions.otherwise`; "
    "`closed`: decide the first outcome",
    "decisions.otherwise": "outcome where none of `[[outcomes]]` applies",
    "alerts.language": "language of reasons: `en`, `fr`, or one of your own file's",
    "alerts.words": "file with words of your own, like [words.toml](../fraudstream/words.toml); empty: none",
    "alerts.case_period": "alerts of one card (`event.key`) no further apart in event time are one "
    "[case](concepts.md#cases); `0s`: no cases",
    "alerts.case_length_max": "a case takes no more alerts this long after its first",
    "model.registry": "folder of all models",
    "model.name": "which of them",
    "model.version": "version (`0003`) or alias (`champion`, `previous`)",
    "model.challenger": "version or alias of a model that is scored beside it, never acted upon; empty, or an alias "
    "that is not in the registry: none",
    "model.reload": "how often a worker looks for other versions behind the aliases, which it takes between two "
    "batches; `0s`: never",
    "model.require_signature": "refuse a model that none of `model.trusted_keys` has signed",
    "model.trusted_keys": "public keys whose [signatures](operations.md#signatures) count, as `fraudstream models "
    "keygen` prints them; a signature by another key is refused as soon as there is one",
    "labels.maturity": "age at which a transaction without a label counts as legitimate",
    "labels.precedence": "sources, the one to be believed first, others last; none: the latest label counts",
    "labels.silence": "a longer stretch without one labelled transaction is reported, and training leaves it out",
    "labels.grace": "features see a label this much stream time after its `known_at`",
    "training.days": "length of the training window, in days",
    "training.gap_days": "days between training and validation, so that one fraud does not stand in both",
    "training.validation_days": "length of the validation window, which ends where labels are mature",
    "training.half_life_days": "a transaction so much older than the newest weighs half as much; 0: all the same",
    "training.trees_max": "trees at most; early stopping may take fewer",
    "training.leaves_max": "leaves of a tree at most",
    "training.learning_rate": "LightGBM's learning rate",
    "training.seed": "of sampling and training",
    "training.features": "`stable`: leave out what has a share of the gain in a minority of five parts of the window",
    "training.tune_trials": "candidates of a search for LightGBM's parameters, judged on later transactions; 0: none",
    "training.tune_minutes": "minutes after which such a search ends with the best so far",
    "training.leak_auc_max": "AUC of one feature alone above which it is refused as a leak; 1 turns that off",
    "training.negatives_max": "legitimate transactions before validation at most; of more, 1/2, 1/4 ... of them",
    "evaluation.segments": "fields (each of their values), and filters as outcomes have them, whose figures are also "
    "told by themselves, and watched by the promotion gate",
    "promotion.objective": "what must be better: `average_precision`, or `recall` or `money` (share of frauds, of "
    "their amounts) at the false-positive rate of the champion's alerts",
    "promotion.confidence": "that it is better, one-sided: 0.975 lets an equal challenger through once in 40 times",
    "promotion.resamples": "draws of the bootstrap over cards",
    "promotion.frauds_min": "mature frauds after the training of both models",
    "promotion.age_max": "how much older than `labels.maturity` the newest mature transaction may be",
    "promotion.drift_max": "PSI since the challenger's training of a feature with 1 % of its gain or more",
    "promotion.fpr_max": "false-positive rate of the challenger's alerts",
    "promotion.fpr_rise_max": "the same, times the champion's; also in each segment",
    "promotion.alerts_a_day_max": "alerts a day; 0: no limit",
    "promotion.alerts_rise_max": "the same, times the champion's",
    "sentinel.window": "how long the sentinel looks back, from now and from where everything is mature",
    "sentinel.rows_min": "decisions (mature legitimate ones) below which it says nothing",
    "sentinel.fpr_max": "matured false-positive rate of alerts beyond which it rolls back",
    "sentinel.alert_rate_min": "alerts a decision below which it rolls back; 0: never",
    "sentinel.alert_rate_max": "alerts a decision beyond which it rolls back",
    "quality.track": "whether a worker counts what became of its decisions, where features are fed by labels",
    "quality.segment": "a field with a list of `values` by which it counts apart; empty: all together",
    "quality.drift_max": "PSI since training that is warned of, of the score or of a feature with 1 % of the gain",
    "archive.uri": "folder that `fraudstream archive` writes and `fraudstream retrain` reads, or `s3://bucket/folder`",
    "archive.interval": "time between two writes of the archive; what was not written is read again after a crash",
    "topics.transactions": "topic that is read",
    "topics.labels": "topic of labels; read where a feature is fed by labels",
    "topics.decisions": "topic of decisions",
    "topics.alerts": "topic of alerts",
    "topics.dlq": "topic of dead letters",
    "topics.features": "topic of the feature log, if `worker.feature_log` is on",
    "topics.partitions": "partitions of each, for `fraudstream topics create`",
    "topics.replication": "copies of each, for `fraudstream topics create`",
    "worker.group": "consumer group; its committed offsets say where to go on",
    "worker.batch_rows_max": "messages taken at once at most",
    "worker.poll_timeout_ms": "how long an idle loop waits for a message before it looks around",
    "worker.delivery": "`exactly_once`: one Kafka transaction a commit; `at_least_once`: flush, then commit",
    "worker.commit_interval_ms": "time between two commits while there is something to commit",
    "worker.instance": "name of this worker, unique in its group: a restart gets its partitions back at once; empty: "
    "host name and web port, or a new name at each start where there is no web port",
    "worker.several": "where others are in the group and features would see only part of their entities: `refuse` to "
    "start, or `allow` it; decisions are then flagged `partial`",
    "worker.dead_letter_rate_max": "share of bad messages above which the worker stops; 1 never stops it",
    "worker.dead_letter_window": "number of last messages that this share is taken over",
    "worker.reasons_max": "reasons in an alert at most",
    "worker.explain_budget_ms": "time for exact reasons in a batch; alerts beyond it are explained by path, at 0 all",
    "worker.warm": "transactions that the state starts from: a file, a folder, or `s3://bucket/folder`; empty: none",
    "worker.feature_log": "whether the features that were scored are written to `topics.features`, for audits",
    "worker.web_host": "address of `/metrics`, `/livez`, `/readyz`; `0.0.0.0` for all interfaces",
    "worker.web_port": "their port; 0: no web server",
    "worker.web_certificate_file": "PEM file of a certificate with its chain: TLS at the web port; empty: plain HTTP",
    "worker.web_key_file": "PEM file of the certificate's key; empty: it is in the certificate's file",
    "worker.web_token_file": "file of a token that `/metrics` asks for (`Authorization: Bearer`); empty: none",
}
ENTRY_MEANINGS = {
    "fields.type": "how the value is read and what it may be used for, see below",
    "fields.source": "key or column that carries it, if it is not the field's own name",
    "fields.required": "without it a message is a dead letter",
    "fields.default": "value of an absent or null optional field; without a default it is missing",
    "fields.values": "known values of a `category`; as a feature it is the position in this list",
    "fields.unit": "of a numeric timestamp `s`, `ms` (default), `us`, `ns`; of an amount `major` (default), `minor`",
    "fields.origin": "instant that a numeric timestamp counts from, ISO 8601; default 1970-01-01",
    "fields.token": "a [token](security.md#card-numbers) takes the place of an id as soon as it is read",
    "fields.role": "`place` for an id or a category that says where something is; it groups reasons",
    "fields.decimals": "digits kept behind the point, 0 to 8; default 2 for an amount, 4 for a number",
    "features.entity": "one of `[event.entities]`, or `event` for the transaction itself",
    "features.aggregates": "one or more of the aggregates below",
    "features.of": "field they are taken over, where they need one (two for `differs`)",
    "features.windows": 'lengths, `["1h", "30d"]`, 1s to 90d; none for entity `event`',
    "features.baseline": "longer window that `velocity` compares with",
    "features.where": "filter: only earlier transactions that fulfil it count, see below",
    "features.lag": "the window ends this much before the transaction, 1s to 90d",
    "features.label": "`fraud`: only transactions known to be fraud count; needs `lag`",
    "features.resolution": "the state is tiles of this length instead of transactions, 1s to 1d",
    "features.monotone": "`rising` or `falling`: a model's score may follow it in this direction only",
    "outcomes.name": "free; several outcomes may have the same, one for each segment",
    "outcomes.points_min": "least risk points, 0 to 1000",
    "outcomes.probability_min": "least calibrated probability of fraud, 0 to 1",
    "outcomes.expected_loss_min": "least expected loss, probability times amount, in major units of the currency",
    "outcomes.where": "filter that the transaction itself must fulfil, in the language of features' `where`",
    "outcomes.alert": "whether it sends an alert",
}
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
    return re.sub(r"\s+\[(.+)\]$", r" (\1)", text).replace("x>=", "at least ").replace("; )", ")")


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
