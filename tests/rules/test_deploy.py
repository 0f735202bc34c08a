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


def test_the_install_lines_are_those_of_the_units_and_the_makefile() -> None:
    (install, start) = re.findall(r"^```bash\n(.*?)^```$", (DEPLOY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)$", install, re.MULTILINE)) == {"install"} <= targets
    unit = (DEPLOY / "mailbot.service").read_text()
    (user,) = re.findall(r"^User=(\w+)$", unit, re.MULTILINE)
    (folder,) = re.findall(r"^WorkingDirectory=(\S+)$", unit, re.MULTILINE)
    assert f"adduser --system --group --home {folder} --no-create-home {user}\n" in install
    assert f"ReadWritePaths={folder}/var\n" in unit
    assert f"install -d -o {user} -g {user} -m 700 var\n" in install
    assert f"runuser -u {user} -- .venv/bin/mailbot check\n" in start
    for path in re.findall(r"deploy/[\w.@]+", start):
        assert (REPOSITORY / path).is_file()
