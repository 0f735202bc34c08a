"""docs/features.md against the tests: every wish has a test from outside, and every such test a wish that is listed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.documents import DOCS, REPOSITORY

_ROW = re.compile(r"^\| ([A-Z]+-\d+) \| (.+) \|$", re.MULTILINE)


def listed() -> list[str]:
    """The rows of all tables, in order."""
    return [row for row, what in _ROW.findall((DOCS / "features.md").read_text("utf-8")) if what.strip()]


def marked(source: str) -> Iterator[str]:
    """Rows that tests of a file are marked with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.row":
                    yield from (ast.literal_eval(argument) for argument in mark.args)


def all_marked(folder: Path) -> dict[str, set[str]]:
    """File -> rows."""
    files = sorted(folder.rglob("test_*.py"))
    found = {str(file.relative_to(REPOSITORY)): set(marked(file.read_text("utf-8"))) for file in files}
    return {file: rows for file, rows in found.items() if rows}


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    tested = set().union(*all_marked(REPOSITORY / "tests" / "flow").values())
    rows = listed()
    assert [row for row in rows if row not in tested] == [], "rows without a test"
    assert sorted(tested - set(rows)) == [], "marks of rows that docs/features.md does not list"


def test_the_rows_are_complete() -> None:
    last = {"ALL": 9, "YK": 16, "SC": 15, "OM": 16, "HP": 13, "KP": 11}
    rows = listed()
    assert rows == [f"{society}-{number + 1}" for society, count in last.items() for number in range(count)]


def test_marked_tests_drive_the_process_from_outside() -> None:
    assert [file for file in all_marked(REPOSITORY / "tests") if not file.startswith("tests/flow/")] == []


def test_marks_are_found_where_they_stand() -> None:
    source = '@pytest.mark.row("A-1", "A-2")\nasync def test_x(): ...\n@pytest.mark.other("B-1")\ndef test_y(): ...\n'
    assert list(marked(source)) == ["A-1", "A-2"]
    assert list(marked(source.replace("test_x", "helper"))) == []
