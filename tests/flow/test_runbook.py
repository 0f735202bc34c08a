"""docs/runbook.md: every step of every emergency, on a database with members."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.documents import DOCS, section
from tests.support.robot import PROGRAM, REPOSITORY, Robot
from tests.support.sink import Sink

SOCIETY = "yokokou"
ROSTER = """記号,番号,続柄,氏名,カナ氏名,生年月日
12,345,本人,山田太郎,ヤマダタロウ,1960-01-02
12,345,妻,山田花子,ヤマダハナコ,1962-03-04
"""
HEADINGS = re.findall(r"^## (.+)$", (DOCS / "runbook.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def robot(tmp_path: Path, smtp_sink: Sink) -> Robot:
    made = Robot(tmp_path, smtp_sink.port)
    shutil.copy(REPOSITORY / "config" / "mailbot.toml", tmp_path / "config" / "mailbot.toml")
    (tmp_path / "roster.csv").write_text(ROSTER, "utf-8")
    program = tmp_path / "bin" / "mailbot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    made.command("roster", "import", SOCIETY, str(tmp_path / "roster.csv"))
    return made


def carry_out(robot: Robot, heading: str) -> str:
    """Runs the commands below a heading as a person would -> what they print. Any failure ends them."""
    commands = "".join(re.findall(r"^```bash\n(.*?)^```$", section("runbook.md", heading), re.MULTILINE | re.DOTALL))
    environment = {
        **robot.environment,
        "PATH": f"{robot.folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "SOCIETY": SOCIETY,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=robot.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def states(robot: Robot) -> list[str]:
    return [row["state"] for row in robot.json("society", "list") if row["society"] == SOCIETY]


def on_the_roster(robot: Robot) -> list[int]:
    return [row["on the roster"] for row in robot.json("society", "list") if row["society"] == SOCIETY]


def letters(robot: Robot) -> list[str]:
    """The printed passwords that open something, as the printer gets them."""
    file = robot.folder / "now.csv"
    file.unlink(missing_ok=True)
    robot.command("roster", "letters", SOCIETY, "--out", str(file))
    return file.read_text("utf-8-sig").splitlines()[1:]


def stopped(robot: Robot) -> None:
    carry_out(robot, "A society must stop at once")
    assert states(robot) == ["paused"]


def leaked(robot: Robot) -> None:
    before = letters(robot)
    carry_out(robot, "The key ring leaked")
    assert [row["state"] for row in robot.json("keys", "list")] == ["compromised", "active"]
    after = letters(robot)
    assert len(after) == len(before) == 2
    assert not set(after) & set(before)


def undone(robot: Robot) -> None:
    assert on_the_roster(robot) == [2]
    carry_out(robot, "The wrong roster was imported")
    assert (on_the_roster(robot), states(robot)) == ([0], ["open"])


def printed(robot: Robot) -> None:
    before = letters(robot)
    carry_out(robot, "Printed passwords fell into wrong hands")
    after = letters(robot)
    assert len(after) == len(before) == 2
    assert not set(after) & set(before)


def signed_anew(robot: Robot) -> None:
    def record() -> str:
        return json.dumps(robot.json("keys", "dkim"))

    robot.command("keys", "dkim", "--make")
    before = record()
    said = carry_out(robot, "The DKIM key is lost or leaked")
    assert "mailbot2._domainkey" in said
    assert record() != before
    assert (robot.folder / "var" / "dkim-mailbot2.pem").exists()


def queued(robot: Robot) -> None:
    assert "relay" in carry_out(robot, "The relay is down, or the queue grows")


EMERGENCIES: dict[str, Callable[[Robot], None]] = {
    "A society must stop at once": stopped,
    "The key ring leaked": leaked,
    "The wrong roster was imported": undone,
    "Printed passwords fell into wrong hands": printed,
    "The DKIM key is lost or leaked": signed_anew,
    "The relay is down, or the queue grows": queued,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("heading", HEADINGS)
async def test_an_emergency(robot: Robot, heading: str) -> None:
    await asyncio.to_thread(EMERGENCIES[heading], robot)


def test_every_emergency_is_carried_out() -> None:
    assert list(EMERGENCIES) == HEADINGS


def test_it_fits_on_one_page() -> None:
    assert len((DOCS / "runbook.md").read_text("utf-8").splitlines()) <= 100
