"""Write `sbom.json`: what `requirements.lock` pins, with the licence of each, as CycloneDX 1.6.

    python -m docs.sbom    # in an environment that has the lock installed

A package that is for another system than this one has the licence that stands in ELSEWHERE.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK, SBOM = ROOT / "requirements.lock", ROOT / "sbom.json"
ELSEWHERE = {"appnope": "BSD License", "httpx2-jsfetch": "BSD-3-Clause"}

# None obliges who uses a package unchanged to more than to keep its notices; MPL to publish changes of its own files.
ALLOWED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "LLVM-exception",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
    ),
    *("PSF-2.0", "Zlib"),
    *(
        "3-Clause BSD License",
        "MPL-2.0 AND MIT",
        "Apache 2.0",
        "Apache Software License",
        "BSD License",
        "ISC License (ISCL)",
        "MIT License",
    ),
    *("Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License", "Repoze Public License"),
}


def pinned() -> list[tuple[str, str]]:
    """Return name and version of everything in the lock, sorted; some in several versions, by Python's."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", LOCK.read_text("utf-8"), re.MULTILINE)
    return sorted(set(found))


def licences(name: str) -> list[dict[str, Any]]:
    """Return the licences of an installed package as CycloneDX writes them: an SPDX expression, or names."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return [{"license": {"name": ELSEWHERE[name]}}] if name in ELSEWHERE else []
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    kinds = [kind.split(" :: ") for kind in told.get_all("Classifier") or [] if kind.startswith("License ::")]
    names = [kind[-1] for kind in kinds] or [(told.get("License") or "").split("\n")[0]]
    return [{"license": {"name": one}} for one in names if one]


def names_of(entries: list[dict[str, Any]]) -> set[str]:
    """Return the single licences in what `licences` gives."""
    found = set()
    for entry in entries:
        if "expression" in entry:
            found.update(re.findall(r"[^\s()]+", re.sub(r"\b(AND|OR|WITH)\b", " ", entry["expression"])))
        else:
            found.add(entry["license"]["name"])
    return found


def rendered() -> str:
    """Return the text of `sbom.json`."""
    components = [
        {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "licenses": licences(name),
        }
        for name, version in pinned()
    ]
    product = {"type": "application", "name": "fraudstream", "licenses": [{"expression": "Apache-2.0"}]}
    sbom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": components,
    }
    return json.dumps(sbom, indent=1) + "\n"


if __name__ == "__main__":
    SBOM.write_text(rendered(), "utf-8")
    sys.exit(0)
