"""The pages in a real browser: the whole way of a member, with and without scripts, on a phone and on a desktop.

Every page on the way is held against axe, the width of the window, large text and the size of what can be touched.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from mailbot.credentials import LinkPurpose
from mailbot.registration.people import Person
from tests.support.chromium import DESKTOP, PHONE, page
from tests.support.pages import House, house

ADDRESS = "hanako@docomo.ne.jp"
CHOSEN = "sakura2026fuji"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}

_SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
_LARGER = "size => document.styleSheets[0].insertRule(`html{font-size:${size} !important}`, 0)"
_SMALL = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), summary')]
  .filter(n => n.checkVisibility() && !n.closest('[aria-hidden]') && !n.classList.contains('skip')
               && !n.classList.contains('default') && !n.closest('.pick'))
  .map(n => [n.textContent || n.name, n.getBoundingClientRect()])
  .filter(([_, box]) => box.height < 43.5 || box.width < 43.5).map(([name, box]) => name + ' ' + box.height)"""


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, served=True) as found:
        yield found


class Walker:
    """Follows one browser window and examines every page it stops at in a twin that runs axe (and so needs scripts)."""

    def __init__(self, window: Page, twin: Page) -> None:
        self.window = window
        self.twin = twin
        self.thorough = True
        self.said: list[str] = []
        window.on("console", lambda message: self.said.append(message.text))

    async def stop(self, heading: str) -> None:
        await expect(self.window.locator("h1")).to_have_text(heading)
        if self.thorough:
            await self.examine()

    async def examine(self) -> None:
        where, html = self.window.url, await self.window.content()
        await self.twin.unroute_all()
        await self.twin.route(where, lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8"))
        await self.twin.goto(where)
        assert await self.twin.evaluate(_SIDEWAYS) <= 0, f"sideways at {where}"
        assert await self.twin.evaluate(_SMALL) == [], f"too small to touch at {where}"
        found = await Axe().run(self.twin, options=RULES)
        assert found.violations_count == 0, f"{where}\n{found.generate_report()}"
        for size in ("125%", "150%", "200%"):
            await self.twin.evaluate(_LARGER, size)
            assert await self.twin.evaluate(_SIDEWAYS) <= 0, f"sideways at {where} with text at {size}"


@asynccontextmanager
async def walker(browser: Browser, *, js: bool, width: int) -> AsyncIterator[Walker]:
    async with page(browser, js=js, width=width) as window, page(browser, width=width) as twin:
        yield Walker(window, twin)


async def _alerted(window: Page) -> None:
    """Waits until the summary of errors has the focus; asked from outside: where scripts are off, no timer runs."""
    await expect(window.get_by_role("alert")).to_be_focused(timeout=60_000)


@pytest.mark.parametrize(("scripts", "width"), [(False, PHONE), (True, PHONE), (False, DESKTOP)])
async def test_a_member_registers_logs_in_and_changes_the_profile(
    at: House, browser: Browser, scripts: bool, width: int
) -> None:
    person = Person(
        symbol="1", number="2", name="山田 花子", birth_date="1945-08-03", nickname="はなこ", household="1-2"
    )
    secret = await at.letter("yokokou", "12345678", person)
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with walker(browser, js=scripts, width=width) as walk:
        window, walk.thorough = walk.window, not scripts  # the same pages come with and without scripts
        await window.goto(link)
        await walk.stop("新規利用登録")

        await window.get_by_role("button", name="ログイン", exact=True).click()
        await _alerted(window)
        await walk.stop("新規利用登録")

        await window.get_by_label("ログインID").fill("１２３４５６７８")
        await window.get_by_label("仮パスワード").fill(secret)
        await window.keyboard.press("Enter")
        await walk.stop("利用者情報入力")

        await window.get_by_role("button", name="登録", exact=True).click()
        await _alerted(window)
        assert (await window.title()).startswith("エラー：")
        await walk.stop("利用者情報入力")
        await window.get_by_role("alert").get_by_role("link").first.click()
        assert await window.evaluate("() => document.activeElement.name") == "login_id"

        await window.keyboard.type("hanako-y")
        await window.locator("[name=password]").fill(CHOSEN)
        await window.locator("[name=password_again]").fill(CHOSEN)
        await window.get_by_role("button", name="入力した文字を表示する").click()
        assert await window.locator("[name=password]").input_value() == CHOSEN
        assert await window.locator("[name=password]").get_attribute("type") == "text"
        await walk.stop("利用者情報入力")
        await window.get_by_role("button", name="登録", exact=True).dblclick()
        await walk.window.wait_for_url("**/done*")
        assert await window.locator("h1").inner_text() in {"利用者情報登録完了", "登録済みです"}
        await walk.examine()
        assert await at.letters_queued("completion") == [ADDRESS]

        await window.get_by_role("link", name="ログイン画面").click()
        await walk.stop("ログイン")
        await window.locator("[name=login_id]").fill("hanako-y")
        await window.locator("[name=password]").fill(CHOSEN)
        await window.keyboard.press("Enter")
        await walk.stop("こんにちは、はなこ さん")
        await window.get_by_role("link", name="プロフィール設定").last.click()
        await walk.stop("プロフィール設定")
        await window.get_by_label("医療費通知更新").check()
        await window.get_by_role("button", name="登録", exact=True).click()
        await walk.stop("プロフィール設定")
        assert await window.get_by_label("医療費通知更新").is_checked()
        await window.get_by_role("link", name="パスワード変更").click()
        await walk.stop("パスワード変更")
        await window.get_by_role("button", name="ログアウト").click()
        await walk.stop("ログイン")
    complaints = [text for text in walk.said if "Content Security" in text or "favicon" in text]
    assert complaints == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
async def test_the_pages_before_login_and_the_pages_that_refuse(at: House, browser: Browser, width: int) -> None:
    async with walker(browser, js=False, width=width) as walk:
        for path, heading in (
            ("shochiku/login", "ログイン"),
            ("shochiku/direct", "新規利用登録②"),
            ("yokokou/entry", "新規利用登録"),
            ("yokokou/entry/sent", "メールをご覧ください"),
            ("yokokou/reissue", "パスワード再発行"),
            ("yokokou/reissue/sent", "メールをご覧ください"),
            ("shochiku/help?carrier=docomo", "よくある質問"),
            ("yokokou/code", "コードを入力"),
            ("yokokou/r/rubbish", "このリンクは使えません"),
            ("yokokou/open/aaaaaaaaaaaab", "この画面を続けられません"),
            ("yokokou/nothing", "ページが見つかりません"),
            ("", "ページが見つかりません"),
        ):
            await walk.window.goto(f"{at.url}/{path}")
            await walk.stop(heading)


async def test_the_keyboard_alone_is_enough_and_the_way_into_the_page_comes_first(at: House, browser: Browser) -> None:
    async with page(browser, js=False) as window:
        await window.goto(f"{at.url}/yokokou/login")
        await window.keyboard.press("Tab")
        skip = window.get_by_role("link", name="本文へ進む")
        assert await skip.evaluate("node => node === document.activeElement")
        box = await skip.bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert (
            await skip.evaluate("node => getComputedStyle(node).outlineStyle + getComputedStyle(node).outlineWidth")
        ) == ("solid4px")
        await window.keyboard.press("Enter")
        assert await window.evaluate("() => document.activeElement.id") == "main"
        await window.keyboard.press("Tab")
        assert await window.evaluate("() => document.activeElement.name") == "login_id"


async def test_a_browser_that_keeps_no_cookies_is_told_what_to_do(at: House, browser: Browser) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with page(browser, js=False, width=PHONE) as window:
        await window.goto(link)
        await window.context.clear_cookies()
        await window.reload()
        assert await window.locator("h1").inner_text() == "この画面を続けられません"
        assert "Cookieを許可する" in await window.locator("main").inner_text()


async def test_what_is_printed_is_the_facts_without_buttons(at: House, browser: Browser) -> None:
    secret = await at.letter("yokokou", "12345678", Person(nickname="はなこ"))
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with page(browser, js=False) as window:
        await window.goto(link)
        await window.get_by_label("ログインID").fill("12345678")
        await window.get_by_label("仮パスワード").fill(secret)
        await window.keyboard.press("Enter")
        await window.get_by_label("新ログインID").fill("hanako-y")
        await window.locator("[name=password]").fill(CHOSEN)
        await window.locator("[name=password_again]").fill(CHOSEN)
        await window.keyboard.press("Enter")
        await window.wait_for_url("**/done")
        await window.emulate_media(media="print")
        assert not await window.get_by_role("button").first.is_visible()
        assert not await window.get_by_role("link", name="ログイン画面").is_visible()
        for text in ("利用者情報登録完了", "hanako-y", "045-000-0000"):
            assert await window.get_by_text(text).first.is_visible()


async def test_buttons_and_errors_are_told_apart_in_forced_colours(at: House, browser: Browser) -> None:
    async with page(browser, js=False, width=PHONE) as window:
        await window.emulate_media(forced_colors="active")
        await window.goto(f"{at.url}/yokokou/entry")
        await window.get_by_role("button", name="送信する").click()
        button = window.get_by_role("button", name="送信する")
        edge = "node => getComputedStyle(node).borderTopStyle + parseFloat(getComputedStyle(node).borderTopWidth)"
        assert await button.evaluate(edge) == "double4"
        assert float((await window.locator("[name=address]").evaluate(edge)).removeprefix("solid")) >= 2
        assert "＊" in await window.locator(".errt").inner_text()
