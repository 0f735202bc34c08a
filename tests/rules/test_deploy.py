"""deploy/ against the program: commands, options and keys that it names exist."""

import re
import tomllib
from pathlib import Path

import pytest

from mailbot.config import Site
from tests.support import reference
from tests.support.documents import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
KEY = re.compile(r"\b([a-z]+)\.([a-z_]+) = (\"[^\"]*\"|\[[^\]]*\])")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_commands_that_exist(unit: Path) -> None:
    commands = dict(reference.commands())
    ran = re.findall(r"^ExecStart(?:Pre)?=\S+/mailbot (.+)$", unit.read_text(), re.MULTILINE)
    assert ran
    for line in ran:
        words, *options = re.split(r" (?=--)", line)
        command = commands[f"mailbot {words}"]
        known = {name for one in command.params for name in one.opts}
        assert {option.split()[0] for option in options} <= known


def test_every_key_that_is_named_exists_and_takes_that_value() -> None:
    found = [match for path in DEPLOY.iterdir() for match in KEY.findall(path.read_text())]
    assert found
    for section, key, value in found:
        Site.model_validate({section: {key: tomllib.loads(f"value = {value}")["value"]}})


def test_every_file_is_described() -> None:
    named = set(re.findall(r"^\| \[([^\]]+)\]", (DEPLOY / "README.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in DEPLOY.iterdir()} - {"README.md"}
