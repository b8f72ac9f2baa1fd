"""Commands on the feature catalogue: `features list`, `features explain`."""

from __future__ import annotations

import difflib
import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from fraudstream.cli.options import AsJson, Config, out, print_json, settings_from
from fraudstream.errors import ConfigError
from fraudstream.sections import Settings, StateSettings

if TYPE_CHECKING:
    from fraudstream.features import Catalog, Feature
    from fraudstream.features.example import Example

_CLOSE_MAX = 3


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(
        _features,
        name="features",
        help="Show the feature catalogue, explain a feature.",
        no_args_is_help=True,
    )


_features = typer.Typer()


@_features.command("list")
def features_list(config: Config = None, as_json: AsJson = False) -> None:
    """List every feature with its meaning, its unit and how exact it is."""
    from fraudstream.features.catalog import exactness, stage_name
    from fraudstream.features.cost import row_bytes

    settings = settings_from(config)
    catalog = _catalog(settings)
    if as_json:
        octets = row_bytes(catalog)
        print_json({"features": [
            {"name": f.name, "id": f.id, "entity": f.entity, "unit": f.unit, "meaning": f.meaning,
             "exactness": exactness(f, settings.state),
             "bytes_per_row": octets.get(stage_name(f.entity, f.resolution_ms), 0)}
            for f in catalog.features
        ]})  # fmt: skip
        return
    table = Table("feature", "unit", "exact?", "meaning", box=None)
    table.columns[0].no_wrap = True
    for feature in catalog.features:
        table.add_row(feature.name, feature.unit, exactness(feature, settings.state), Text(feature.meaning))
    out().print(table)
    for stage, cost in _state_cost(catalog, settings.state).items():
        print(f"state of {stage}: {cost}")


@_features.command("explain")
def features_explain(
    name: Annotated[str, typer.Argument(help="A name from `fraudstream features list`.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Explain one feature: what it means, a worked example, its declaration, when it has no value."""
    from fraudstream.features.catalog import exactness, nan_in_words
    from fraudstream.features.declare import declaration_of
    from fraudstream.features.example import worked_example
    from fraudstream.scoring.sentences import sentence_of
    from fraudstream.words import read_words

    settings = settings_from(config)
    feature = _named(name, _catalog(settings))
    example = worked_example(feature, settings.event, settings.state)
    value = None if math.isnan(example.value) else example.value
    declared = declaration_of(feature, settings.event)
    words = read_words(settings.alerts.language, settings.alerts.words)
    in_words, _ = sentence_of(feature, settings.event, words).say(example.value, [example.value], 0, None)
    found = {
        "name": feature.name,
        "id": feature.id,
        "meaning": feature.meaning,
        "unit": feature.unit,
        "exactness": exactness(feature, settings.state),
        "nan": nan_in_words(feature, settings.event),
        "declaration": {key: entry for key, entry in msgspec.to_builtins(declared).items() if entry},
        "example": {
            "transactions": [
                {**row, "note": note} for row, note in zip(example.transactions, example.notes, strict=True)
            ],
            "value": value,
            "in_words": in_words,
        },
    }
    if as_json:
        print_json(found)
    else:
        _print_explained(found, example)


def _catalog(settings: Settings) -> Catalog:
    from fraudstream.features import build_catalog, check_catalog

    catalog = build_catalog(settings.features, settings.event)
    check_catalog(catalog, settings.state)
    return catalog


def _state_cost(catalog: Catalog, state: StateSettings) -> dict[str, str]:
    """Return in words what each stage keeps."""
    from fraudstream.features.cost import ENTITY_BYTES, row_bytes

    return {
        stage: f"{ENTITY_BYTES} bytes an entity and {octets} a "
        + ("tile" if "@" in stage else f"transaction, {state.rows_max:,} at most")
        for stage, octets in row_bytes(catalog).items()
    }


def _named(name: str, catalog: Catalog) -> Feature:
    for feature in catalog.features:
        if feature.name == name:
            return feature
    close = difflib.get_close_matches(name, catalog.names, _CLOSE_MAX, cutoff=0.0)
    raise ConfigError(f'NAME = "{name}": no such feature; the closest are {", ".join(close)}')


def _print_explained(found: dict[str, Any], example: Example) -> None:
    print(f"{found['name']}: {found['meaning']}\n")
    print(f"unit   {found['unit']}\nexact? {found['exactness']}\nid     {found['id']}")
    print(f"NaN    {'; '.join(found['nan']) or 'never'}\n\n[[features]]")
    for key, entry in found["declaration"].items():
        print(f"{key} = {_toml(entry)}")
    print("\nFor example:\n")
    table = Table(*example.transactions[0], "", box=None)
    for row, note in zip(example.transactions, example.notes, strict=True):
        table.add_row(*(Text(_cell(entry)) for entry in row.values()), Text(note))
    out().print(table)
    value = found["example"]["value"]
    print(f"\nvalue {'NaN' if value is None else f'{value:.6g}'}: {found['example']['in_words']}")


def _toml(entry: Any) -> str:
    if isinstance(entry, str) and '"' in entry and "'" not in entry:
        return f"'{entry}'"
    return json.dumps(entry, ensure_ascii=False)


def _cell(entry: str | float) -> str:
    return entry if isinstance(entry, str) else f"{entry:g}"
