"""A society is data: nothing that ships as program or shared template names one."""

import re
from pathlib import Path

import pytest

from tests.support.documents import REPOSITORY

SOCIETIES = sorted(path.stem for path in (REPOSITORY / "config" / "societies").glob("*.toml"))


def _shared() -> list[Path]:
    """Every file of the program, and every template that belongs to no society."""
    files = [*(REPOSITORY / "mailbot").rglob("*"), *(REPOSITORY / "templates").rglob("*")]
    own = REPOSITORY / "templates" / "societies"
    unread = {".pyc", ".ttf", ".wav"}  # three letters may meet anywhere in a font
    return [path for path in files if path.is_file() and path.suffix not in unread and not path.is_relative_to(own)]


def test_there_are_societies_and_files_to_look_at() -> None:
    assert SOCIETIES
    assert len(_shared()) > 100


@pytest.mark.parametrize("society", SOCIETIES)
def test_no_shared_file_names_a_society(society: str) -> None:
    named = re.compile(rb"(?<![a-z0-9])" + society.encode() + rb"(?![a-z0-9])")
    found = [str(path.relative_to(REPOSITORY)) for path in _shared() if named.search(path.read_bytes().lower())]
    assert found == []
