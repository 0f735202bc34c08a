"""docs/new-society.md, taken at its word: the society it builds is built from its own text and walked from outside."""

from __future__ import annotations

import asyncio
import re
import shlex
from datetime import timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.member import Member
from tests.support.robot import Robot, body, invitation
from tests.support.sink import Sink

PAGE = (Path(__file__).parents[2] / "docs" / "new-society.md").read_text("utf-8")
FILES = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
JAPAN = timezone(timedelta(hours=9))
COMMANDS = re.findall(r"^\$ mailbot (.+)$", PAGE, re.MULTILINE)


@pytest.fixture
def installation(tmp_path: Path, smtp_sink: Sink) -> Robot:
    """A folder that holds the page's files and nothing else."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "mailbot.toml").write_text("")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return Robot(tmp_path, smtp_sink.port, overrides={"SITE_TEMPLATES": f'"{tmp_path / "templates"}"'})


def test_the_page_holds_a_file_a_text_and_people() -> None:
    assert list(FILES) == [
        "config/societies/momiji.toml",
        "templates/societies/momiji/pages/consents/privacy-2026-04.html",
        "momiji.csv",
    ]
    assert COMMANDS[0] == "check"


async def test_a_member_of_the_new_society_registers_and_logs_in(installation: Robot, smtp_sink: Sink) -> None:
    made = installation
    for line in COMMANDS:
        words = [str(made.folder / word) if "." in word else word for word in shlex.split(line)]
        done = await asyncio.to_thread(made.command, *words, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (made.folder / "momiji.png").stat().st_size > 200
    try:
        await made.start()
        await _walk(made, smtp_sink)
        assert await made.stop() == 0, made.log
    finally:
        made.kill()


async def _walk(made: Robot, smtp_sink: Sink) -> None:
    sender = "ichiro@phone.example"
    url = await invitation(made, smtp_sink, sender, "touroku@momiji.example")
    (mail,) = await smtp_sink.wait(to=sender)
    assert "6時間" in body(mail)
    async with Member(made.web) as ichiro:
        page = await ichiro.get(url)
        facts = {"symbol": "１２０１", "number": "345", "kana": "ﾓﾐｼﾞｲﾁﾛｳ"}
        born = {"birth_date_year": "昭和33", "birth_date_month": "4", "birth_date_day": "9"}
        wrong = await ichiro.submit(page, {**facts, **born, "birth_date_day": "10"})
        assert wrong.status == 422
        page = await ichiro.submit(wrong, {**facts, **born})
        assert "医療費のお知らせと手続きのご案内のためだけに使います" in page.text
        page = await ichiro.submit(page, {"agree": "yes"})
        password = "Kaede-no-ki-2026"
        page = await ichiro.submit(
            page, {"login_id": "ichiro-m", "password": password, "password_again": password, "nickname": "いちろう"}
        )
        assert page.url.endswith("/done")
        page = await ichiro.submit(await ichiro.get("/momiji/login"), {"login_id": "ichiro-m", "password": password})
        pin_mail = (await smtp_sink.wait(to=sender, count=3))[-1]
        pin = re.search(r"^\s*(\d{4})\s?(\d{4})\s*$", body(pin_mail), re.MULTILINE)
        assert pin is not None, body(pin_mail)
        dies = (parsedate_to_datetime(pin_mail.message["Date"]) + timedelta(minutes=5)).astimezone(JAPAN)
        assert f"{dies.hour}時{dies.minute:02}分" in body(pin_mail)
        page = await ichiro.submit(page, {"pin": pin[1] + pin[2]})
        assert page.url.endswith("/home"), page.text
        assert "いちろう" in page.text

