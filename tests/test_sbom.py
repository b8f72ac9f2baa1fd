"""The bill of materials is that of the lock, and nothing in it has a licence that nobody looked at."""

from __future__ import annotations

import json
import sys

import pytest

from docs import sbom

COMPONENTS = json.loads(sbom.SBOM.read_text("utf-8"))["components"]


def test_the_bill_of_materials_is_that_of_the_lock() -> None:
    listed = [(part["name"], part["version"]) for part in COMPONENTS]
    assert listed == sbom.pinned(), "run `python -m docs.sbom`"
    assert len(listed) > 100


def test_every_licence_is_one_that_is_allowed() -> None:
    of = {part["name"]: sbom.names_of(part["licenses"]) for part in COMPONENTS}
    assert {name: found for name, found in of.items() if not found or not found <= sbom.ALLOWED} == {}


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="a later Python has other wheels of some packages"
)
def test_the_licences_are_those_that_the_installed_packages_say() -> None:
    told = {part["name"]: sbom.licences(part["name"]) for part in COMPONENTS}
    assert {
        part["name"]: part["licenses"]
        for part in COMPONENTS
        if told[part["name"]] and part["licenses"] != told[part["name"]]
    } == {}


def test_an_expression_is_taken_apart() -> None:
    given = [{"expression": "Apache-2.0 WITH LLVM-exception AND (MIT OR GPL-3.0-only)"}]
    assert sbom.names_of(given) == {"Apache-2.0", "LLVM-exception", "MIT", "GPL-3.0-only"}
