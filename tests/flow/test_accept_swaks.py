"""The main job with tools of the world: swaks writes, Postfix relays, DKIM verifies, a person clicks in Chromium."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import dkim
from playwright.async_api import Browser

from tests.support.chromium import page as window
from tests.support.postfix import Postfix
from tests.support.robot import HANAKO, JIRO, Person, Robot, link_in, robot
from tests.support.servers import program
from tests.support.sink import Sink, Taken

TO = "touroku@yokokou.example"
BLANK = r"From: %FROM_ADDRESS%\nTo: %TO_ADDRESS%\nDate: %DATE%\nMessage-Id: <%MESSAGEID%>\nSubject:\n\n"


async def swaks(made: Robot, sender: str) -> str:
    """A mail without subject and body -> the dialogue as swaks tells it."""
    arguments = ["--server", "127.0.0.1", "--port", str(made.smtp_port), "--helo", "phone.example"]
    arguments += ["--from", sender, "--to", TO, "--data", BLANK]
    run = [str(program("swaks")), *arguments]
    done = await asyncio.to_thread(
        subprocess.run, run, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def verified(made: Robot, mail: Taken) -> bool:
    """Whether the signature holds on what arrived, with the key as DNS would give it."""
    records = {row["name"].encode(): row["value"].encode() for row in made.json("keys", "dkim")}
    return bool(dkim.verify(mail.content, dnsfunc=lambda name, timeout=5: records.get(name)))


async def finish(browser: Browser, link: str, person: Person, login_id: str, *, js: bool) -> str:
    """What a person does at home -> the heading of the last page."""
    async with window(browser, js=js, width=320 if js else 1280) as tab:
        await tab.goto(link)
        assert "/r/" not in tab.url
        await tab.get_by_label("ログインID").fill(person.printed_id)
        await tab.locator("[name=password]").fill(person.printed_password)
        await tab.get_by_role("button", name="ログイン", exact=True).click()
        assert await tab.locator("h1").inner_text() == "利用者情報入力"
        await tab.locator("[name=login_id]").fill(login_id)
        await tab.locator("[name=password]").fill("umi-no-mieru9machi")
        await tab.locator("[name=password_again]").fill("umi-no-mieru9machi")
        await tab.locator("form p.acts button").first.click()
        assert person.nickname in await tab.locator("main").inner_text()
        return await tab.locator("h1").inner_text()


async def test_swaks_postfix_dkim_and_a_person_in_chromium(
    tmp_path: Path, smtp_sink: Sink, postfix_relay: Postfix, browser: Browser
) -> None:
    async with robot(tmp_path, postfix_relay.port) as made:
        await asyncio.to_thread(made.import_roster, "yokokou", HANAKO.row, JIRO.row)
        for person, login_id, js in ((HANAKO, "hanako-n", True), (JIRO, "jiro-no-id", False)):
            sender = f"{login_id}@phone.example"
            assert "250 2.0.0" in await swaks(made, sender)
            mail = (await smtp_sink.wait(to=sender, seconds=60))[0]
            assert re.fullmatch(r"bounce\+[a-z2-7]{26}@yokokou\.example", mail.mail_from)
            assert mail.message["From"].addresses[0].addr_spec == "info@yokokou.example"
            assert mail.message["Auto-Submitted"] == "auto-replied"
            assert any("relay.test" in line for line in mail.message.get_all("Received", []))
            assert await asyncio.to_thread(verified, made, mail)
            assert await finish(browser, link_in(mail), person, login_id, js=js) == "利用者情報登録完了"
            completion = (await smtp_sink.wait(2, to=sender, seconds=60))[1]
            assert completion.message["Subject"] == "利用登録完了のご案内"
            assert completion.message["Auto-Submitted"] == "auto-generated"
            assert await asyncio.to_thread(verified, made, completion)
        broken = Taken(
            mail.mail_from, mail.rcpt_tos, mail.content.replace(b"Subject: ", b"Subject: =?utf-8?q?x?= "), 0, 0
        )
        assert not await asyncio.to_thread(verified, made, broken)
