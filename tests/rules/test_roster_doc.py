"""docs/roster.md against the code."""

from pathlib import Path

from mailbot.office.roster.columns import COLUMNS, IGNORED, folded

DOC = (Path(__file__).parents[2] / "docs" / "roster.md").read_text("utf-8")


def test_every_column_and_synonym_is_listed() -> None:
    rows = [line for line in DOC.splitlines() if line.startswith("| ")][1:]
    assert [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows] == [
        (c.label, c.key, "必須" if c.required else "", "、".join(c.synonyms), c.meaning) for c in COLUMNS
    ]


def test_the_ignored_columns_are_listed() -> None:
    assert f"お知らせします: {'、'.join(IGNORED)}\n" in DOC


def test_no_two_columns_share_a_name() -> None:
    names = [folded(name) for c in COLUMNS for name in {c.key: 0, c.label: 0, **dict.fromkeys(c.synonyms, 0)}]
    assert len(set(names)) == len(names), sorted(names)
    assert not set(names) & set(map(folded, IGNORED))
