"""A journey whose first page has a captcha: it is asked before the person is looked for, and only there."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import Table, func, select

from mailbot.config.journey import Captcha as CaptchaSection
from mailbot.credentials import LinkPurpose
from mailbot.registration.people import Person
from mailbot.store.tables import captcha_used, journey
from mailbot.web.app import member_app
from mailbot.web.captcha.challenge import Challenge
from mailbot.web.marks import Marks
from mailbot.web.serve import serve
from tests.support.chromium import DESKTOP, PHONE, page
from tests.support.pages import TEMPLATES, House, house

ADDRESS = "hanako@works.example"
PERSON = Person(symbol="12", number="3456", name="山田 花子", birth_date="1970-08-03", nickname="はなこ")


@asynccontextmanager
async def _open(folder: Path, kind: str) -> AsyncIterator[House]:
    """The shipped societies behind a port; all with this kind of captcha, where a journey has one."""
    async with house(folder) as at:
        section = CaptchaSection.model_validate({"kind": kind})
        settings = at.ctx.settings
        societies = {name: one.model_copy(update={"captcha": section}) for name, one in settings.societies.items()}
        at.ctx = replace(at.ctx, settings=replace(settings, societies=societies))
        app, stop = member_app(at.ctx, [TEMPLATES], lambda: at.now), asyncio.Event()
        task = asyncio.create_task(serve(app, "127.0.0.1", at.port, stop, drain_seconds=1))
        try:
            await at.letter("omron", "12345678", PERSON)
            yield at
        finally:
            stop.set()
            await task


async def _challenge(at: House, window: Page) -> Challenge:
    cookie = next(one["value"] for one in await window.context.cookies() if one["name"].endswith("form"))
    ticket = await window.locator("[name=captcha_ticket]").get_attribute("value") or ""
    found = Challenge.read(Marks(at.ctx.ring), "omron", f"browser:{cookie}", ticket, at.now)
    assert found is not None
    return found


async def _rows(at: House, table: Table) -> int:
    async with at.ctx.store.read() as tx:
        return await tx.scalar(select(func.count()).select_from(table)) or 0


async def _begin(at: House, window: Page) -> None:
    await window.goto(await at.link("omron", LinkPurpose.REGISTRATION, ADDRESS))
    await window.get_by_role("link", name=re.compile("記号・番号で登録")).click()
    await window.get_by_label("メールアドレス").fill(ADDRESS)
    await window.get_by_label("記号", exact=False).first.fill("12")
    await window.locator("[name=number]").fill("3456")
    for part, value in (("year", "1970"), ("month", "8"), ("day", "3")):
        await window.locator(f"[name=birth_date_{part}]").select_option(value)


async def _send(window: Page) -> None:
    await window.locator("main form .acts .btn").click()


async def _passed(at: House, window: Page) -> None:
    await window.wait_for_url("**/j/*")
    assert await window.locator("[name=captcha_ticket]").count() == 0
    assert await _rows(at, journey) == 1


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
async def test_with_scripts_nobody_notices(tmp_path: Path, browser: Browser, width: int) -> None:
    async with _open(tmp_path, "proof") as at, page(browser, width=width) as window:
        await _begin(at, window)
        await _send(window)
        await _passed(at, window)


async def test_a_mistyped_field_after_the_captcha_asks_for_no_new_one(tmp_path: Path, browser: Browser) -> None:
    async with _open(tmp_path, "picture") as at, page(browser, js=False) as window:
        await _begin(at, window)
        await window.locator("[name=number]").fill("9999")
        await window.locator("[name=captcha]").fill((await _challenge(at, window)).digits(at.ctx.ring))
        await _send(window)
        await expect(window.get_by_role("alert")).to_contain_text("ご本人を確認できませんでした")
        assert await window.locator("img[src*=captcha]").count() == 0
        await window.locator("[name=number]").fill("3456")
        await _send(window)
        await _passed(at, window)


async def test_without_scripts_the_question_is_asked_before_anybody_is_looked_for(
    tmp_path: Path, browser: Browser
) -> None:
    async with _open(tmp_path, "proof") as at, page(browser, js=False, width=PHONE) as window:
        await _begin(at, window)
        await window.get_by_label("確認のための質問").fill("さん")
        await _send(window)
        await expect(window.get_by_role("alert")).to_contain_text("数字が違います")
        assert await _rows(at, journey) == 0
        assert await window.locator("[name=number]").input_value() == "3456"
        assert await window.locator("[name=birth_date_year]").input_value() == "1970"
        await window.get_by_label("確認のための質問").fill((await _challenge(at, window)).question(at.ctx.ring))
        await _send(window)
        await _passed(at, window)


async def test_another_picture_keeps_what_was_typed_and_guesses_nobody(tmp_path: Path, browser: Browser) -> None:
    async with _open(tmp_path, "picture") as at, page(browser, width=PHONE) as window:
        await _begin(at, window)
        before = await _challenge(at, window)
        await window.get_by_role("button", name="別の画像にする").click()
        assert await window.locator("[name=number]").input_value() == "3456"
        assert (await _challenge(at, window)).id != before.id
        assert await _rows(at, captcha_used) == 0
        await _send(window)
        await expect(window.get_by_role("alert")).to_contain_text("画像の数字（5けた）")
        assert await _rows(at, journey) == 0
        await window.locator("[name=captcha]").fill((await _challenge(at, window)).digits(at.ctx.ring))
        await _send(window)
        await _passed(at, window)
