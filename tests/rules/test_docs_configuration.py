"""config/mailbot.toml, docs/configuration.md and docs/commands.md against the models and the commands."""

import tomllib
from pathlib import Path

import pytest

from mailbot.config import Site
from tests.support import reference


def test_the_site_file_shows_every_key_with_its_default() -> None:
    assert reference.SITE_FILE.read_text("utf-8") == reference.site_toml(), "run python -m tests.support.reference"


def test_the_site_file_changes_nothing_as_it_is() -> None:
    assert Site.model_validate(tomllib.loads(reference.SITE_FILE.read_text("utf-8"))) == Site()


def test_the_site_file_with_every_key_taken_in_is_the_default() -> None:
    text = reference.SITE_FILE.read_text("utf-8")
    taken_in = "\n".join(line.removeprefix("#") if line[1:2] not in (" ", "") else line for line in text.splitlines())
    read = tomllib.loads(taken_in)
    assert Site.model_validate(read) == Site()
    keys = {(name, key) for name, model in reference.sections() if "<" not in name for key in model.model_fields}
    assert {(name, key) for name, table in read.items() for key in table} == keys


@pytest.mark.parametrize("path", reference.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_program(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text == reference.document(text), "run python -m tests.support.reference"


def test_every_table_stands_in_one_document() -> None:
    names = [name for path in reference.DOCUMENTS for name in reference.MARK.findall(path.read_text("utf-8"))]
    assert sorted(names) == sorted(reference.tables())


def test_every_command_says_what_it_does() -> None:
    assert [command for command, does, _ in reference.command_rows() if not does.endswith((".", ".)", "?"))] == []


def test_every_key_has_a_meaning() -> None:
    assert [
        row[0] for row in (*reference.site_rows(), *reference.society_rows()) if not row[3].endswith((".", ".)"))
    ] == []
