"""docs/letters.md against the code."""

import re
from pathlib import Path

from mailbot.config import HelpCase
from mailbot.letters import LETTERS, society_facts
from tests.golden.update import societies

DOC = (Path(__file__).parents[2] / "docs" / "letters.md").read_text("utf-8")


def table(heading: str) -> list[tuple[str, ...]]:
    """The rows of the table under a heading, without its head."""
    section = re.split(r"^## ", DOC, flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(heading + "\n"))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows[1:]]


def yes(value: bool) -> str:
    return "yes" if value else "no"


def test_every_letter_is_listed() -> None:
    assert table("The letters") == [
        (name, kind.title, kind.lane, yes(kind.secret), yes(kind.answer)) for name, kind in LETTERS.items()
    ]


def test_every_fact_of_a_member_is_listed() -> None:
    assert table("Facts of the member") == [
        (letter, name, fact.kind.value, yes(fact.must), fact.meaning)
        for letter, kind in LETTERS.items()
        for name, fact in kind.facts.items()
    ]


def test_every_fact_of_a_society_is_listed() -> None:
    known = society_facts(next(iter(societies().values())), "https://kenpo.example", HelpCase.ANY)
    assert [row[0] for row in table("Facts of the society")] == list(known)
