"""Reads tables, commands and names out of the documents in `docs/`."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def section(name: str, heading: str) -> str:
    """The text below a heading of any level, up to the next heading of that level or a higher one."""
    text = (DOCS / name).read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert found, f"docs/{name} has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(name: str, heading: str) -> list[tuple[str, ...]]:
    """The rows of the first table below a heading, without its head."""
    rows: list[str] = []
    for line in section(name, heading).splitlines():
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            break
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows[2:]]


def fences(name: str, language: str) -> list[str]:
    """The texts of fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
