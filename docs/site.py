"""A hook of mkdocs: what lies outside this folder is named where the pages link to it."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+)([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Return a page's text with such links as text."""
    depth = page.file.src_uri.count("/")

    def named(found: re.Match[str]) -> str:
        up = found[2].count("../")
        return f"{found[1]} (`{found[3]}`)" if up > depth else found[0]

    return _OUTSIDE.sub(named, markdown)
