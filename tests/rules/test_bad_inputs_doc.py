"""docs/bad-inputs.md lists every case once, and names tests that exist."""

import ast
import re
from functools import cache

import pytest

from tests.support.documents import REPOSITORY, table

TESTS = REPOSITORY / "tests"
SECTIONS = {
    "SMTP": {*range(1, 29)},
    "Headers and MIME": {*range(29, 51)},
    "IMAP": {*range(51, 60)},
    "Links": {*range(60, 69)},
    "Forms": {*range(69, 79)},
    "Rosters": {*range(79, 91)},
}
ROWS = [(section, *row) for section in SECTIONS for row in table("bad-inputs.md", section)]


@cache
def functions(file: str) -> frozenset[str]:
    """Names of the tests of a file, as pytest collects them."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


def test_no_case_is_left_out() -> None:
    assert set().union(*SECTIONS.values()) == {*range(1, 91)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_case_is_listed_once(section: str) -> None:
    cases = [int(case) for name, case, *_ in ROWS if name == section]
    assert cases == sorted(SECTIONS[section])


@pytest.mark.parametrize(("section", "case", "given", "answer", "tests"), ROWS, ids=[f"case {row[1]}" for row in ROWS])
def test_a_case_names_tests_that_exist(section: str, case: str, given: str, answer: str, tests: str) -> None:
    assert given
    assert answer
    names = re.findall(r"`([^`]+)`", tests)
    assert names
    for name in names:
        file, _, function = name.partition("::")
        if function:
            assert function in functions(file), name
        elif name.endswith(".smtp"):
            assert re.search(rf"^--- case {case}:", (TESTS / name).read_text("utf-8"), re.MULTILINE), name
        else:
            assert list(TESTS.glob(name)), name
