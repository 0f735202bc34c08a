"""Broken configurations: what `mailbot check` says of each, and that the robot refuses to start for it.

A case is a folder laid over `good/`. `absent` names files to leave out, `environment` has lines NAME=value, `expected`
has the lines of the answer without folders.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from mailbot.cli import build

FOLDER = Path(__file__).parent
GOOD = FOLDER / "good"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/expected"))


def lay(case: str, folder: Path) -> dict[str, str]:
    """Writes the case's configuration -> its environment."""
    shutil.copytree(GOOD, folder)
    source = FOLDER / case
    if source != GOOD:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    absent, environment = source / "absent", source / "environment"
    for name in absent.read_text().split() if absent.exists() else ():
        (folder / name).unlink()
    lines = environment.read_text().splitlines() if environment.exists() else ()
    return dict(line.split("=", 1) for line in lines)


def mailbot(folder: Path, environment: dict[str, str], *arguments: str) -> Result:
    variables = {"MAILBOT_SITE_DATA": str(folder.parent / "var"), **environment}
    return CliRunner().invoke(build(), ["--config", str(folder), *arguments], env=variables)


@pytest.fixture(autouse=True)
def _the_log_of_the_process() -> Iterator[None]:
    """The command sets up the log of its process, which here is that of all tests: it is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("case", CASES)
def test_check_names_every_problem(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    result = mailbot(folder, lay(case, folder), "check")
    said = [line.removeprefix("MEND  ") for line in result.output.splitlines() if line.startswith("MEND")]
    expected = (FOLDER / case / "expected").read_text("utf-8").splitlines()
    assert [line.replace(f"{folder}/", "") for line in said] == expected
    assert result.exit_code == 1


def test_the_folder_they_are_laid_over_is_sound(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    result = mailbot(folder, lay("good", folder), "check")
    assert (result.exit_code, "MEND" in result.output) == (0, False), result.output


@pytest.mark.parametrize("case", ["01-unknown-key", "13-unknown-step", "15-broken-letter", "19-several-at-once"])
def test_the_robot_does_not_start(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    result = mailbot(folder, lay(case, folder), "serve")
    expected = (FOLDER / case / "expected").read_text("utf-8").splitlines()
    assert result.exit_code == 1
    assert [line.replace(f"{folder}/", "") for line in result.stderr.splitlines()] == [
        line.partition(": ")[2] for line in expected
    ]
