"""Whatever a user can name stands in the docs, and what the docs say of the code is what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from docs import generate, meanings
from fraudstream.decode import Decoder
from fraudstream.features import build_catalog, check_catalog
from fraudstream.features.aggregates import AGGREGATES, EVENT_AGGREGATES
from fraudstream.metrics import RetrainMetrics, WorkerMetrics
from fraudstream.records import Alert, Decision
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from tests.cli.running import fraudstream

ROOT = generate.ROOT
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md"),
                ROOT / "models" / "README.md"])  # fmt: skip
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
NAMED = "".join(page.read_text("utf-8") for page in PAGES)
METRICS = [name for kind in (WorkerMetrics, RetrainMetrics) for name, *_ in generate.metrics(kind)]
SHELL = [text for kind, text in BLOCK.findall(NAMED) if not kind]


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def readme_settings(tmp_path: Path) -> Settings:
    path = tmp_path / "fraudstream.toml"
    (toml,) = blocks(ROOT / "README.md", "toml")
    path.write_text(toml, "utf-8")
    return load_settings(path, environment={})


def test_what_is_generated_is_current() -> None:
    stale = [p.name for p, text in generate.rendered().items() if p.read_text("utf-8") != text]
    assert stale == [], "run `python -m docs.generate`"


def test_the_readme_shows_the_two_commands_first() -> None:
    first, second = README.index("\nmake demo\n"), README.index("\nmake test\n")
    assert first < second < README.index("## How the data goes")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", NAMED, re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("key", generate.settings_keys())
def test_every_setting_is_explained(key: str) -> None:
    assert f"| `{key}` |" in (ROOT / "docs" / "configuration.md").read_text("utf-8")


def test_no_meaning_is_left_of_a_setting_that_is_gone() -> None:
    assert set(meanings.MEANINGS) == set(generate.settings_keys())


@pytest.mark.parametrize("name", [*AGGREGATES, *EVENT_AGGREGATES])
def test_every_aggregate_is_explained(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "docs" / "configuration.md").read_text("utf-8")


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize("kind", generate.error_classes())
def test_every_error_is_explained(kind: type[Exception]) -> None:
    assert f"| `{kind.__name__}` |" in (ROOT / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name, _ in generate.commands()])
def test_every_command_is_explained(name: str) -> None:
    assert f"## `{name}" in (ROOT / "docs" / "commands.md").read_text("utf-8")


def test_every_command_shown_in_the_docs_exists_with_its_options() -> None:
    options = {name: {o for p in command.params for o in p.opts} for name, command in generate.commands()}
    shown = [line.split() for text in SHELL for line in text.splitlines() if line.startswith("fraudstream ")]
    assert len(shown) > 5
    for words in shown:
        name = " ".join(words[:2] if " ".join(words[:2]) in options else words[:3])
        assert name in options
        assert {word for word in words if word.startswith("--")} <= options[name], words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_in_the_docs_is_accepted(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, "utf-8")
        assert tomllib.loads(text)
        settings = load_settings(path, environment={})
        assert settings.event.fields
        if "[[features]]" in text:
            check_catalog(build_catalog(settings.features, settings.event), settings.state)


def test_the_readmes_own_fields_make_the_features_it_says(tmp_path: Path) -> None:
    settings = readme_settings(tmp_path)
    catalog = build_catalog(settings.features, settings.event)
    said = (
        f"ok: event type {settings.event.name}, {len(settings.event.fields)} fields, entities "
        f"{', '.join(settings.event.entities)}, {len(catalog)} features"
    )
    assert said in README


def test_the_readmes_own_fields_read_the_message_beside_them(tmp_path: Path) -> None:
    settings = readme_settings(tmp_path)
    message = next(text for text in blocks(ROOT / "README.md", "json") if '"cents"' in text)
    decoder = Decoder(settings.event, build_catalog(settings.features, settings.event).fields_used)
    batch, rejected = decoder.decode_messages([message.encode()], [b"acc-1"], ([0], [0]), None)
    assert rejected == []
    assert batch.ids == ["tr-1"]
    assert batch.measures["amount"].tolist() == [12_500]


@pytest.mark.parametrize(("word", "kind"), [('"outcome":"review"', Decision), ('"reasons"', Alert)])
def test_the_readmes_messages_are_what_the_worker_writes(word: str, kind: Any) -> None:
    message = next(text for text in blocks(ROOT / "README.md", "json") if word in text)
    shown = msgspec.json.decode(message)
    assert set(shown) == set(kind.__struct_fields__)
    assert msgspec.json.decode(message, type=kind)


def test_every_test_that_the_page_on_security_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    named, file = [], ""
    for path, test in re.findall(r"`(tests/[\w/]+\.py)?::(test_\w+)`", text):
        file = path or file
        named.append((file, test))
    assert len(named) > 10
    assert [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text("utf-8")] == []


def test_the_state_that_capacity_counts_with_is_what_the_catalogue_keeps(tmp_path: Path) -> None:
    page = ROOT / "docs" / "capacity.md"
    (toml,) = blocks(page, "toml")
    (tmp_path / "fraudstream.toml").write_text(toml, "utf-8")
    listed = fraudstream("features", "list", "-c", tmp_path / "fraudstream.toml")
    told = "".join(line + "\n" for line in listed.out.splitlines() if line.startswith("state of "))
    assert told in blocks(page, "")


def test_the_glossary_is_in_order() -> None:
    terms = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)[
        2:
    ]
    assert terms == sorted(terms, key=str.lower)


def test_decision_notes_are_numbered_without_a_gap() -> None:
    notes = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [note.name[:4] for note in notes] == [f"{number:04d}" for number in range(1, len(notes) + 1)]


def test_every_dependency_has_its_paragraph() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    note = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text("utf-8")
    names = [re.split(r"[<>=~[]", name)[0] for name in [*project["dependencies"], *extras]]
    assert [name for name in names if f"**{name}**" not in note] == []
