"""The registration by insurance details as browsers and their mishaps meet it: bad input, double taps, closed cookies,
other browsers, link scanners, and a phone of 390 px."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from http.cookiejar import Cookie, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from playwright.async_api import Page as Window
from playwright.async_api import expect

from tests.support.chromium import chromium
from tests.support.chromium import page as window_of
from tests.support.identity import details, key_on, prove, solved
from tests.support.member import Member, Page
from tests.support.robot import link_in
from tests.support.rows import PASSWORD, Letter, Stage, person, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ME = "omron"
INVITED, SECOND = "利用登録手続きのご案内", "本人確認完了のご案内"
IDENTITY, KEY, CHOSEN = "本人確認", "認証キーの入力", "ログインIDとパスワードの登録"
NOTE_DOWN, DEAD = "認証キーをひかえて、メールを開く", "このリンクは使えません"
BAD = ["", "　 ", "x" * 900, "７７７", "ﾃｽﾄ", "'><script>alert(1)</script>", "🎉🎉", "1 OR 1=1", "%00", "--"]
KEPT = ("journey", "member", "link", "outbox", "address", "audit")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    people = {ME: [person("𠮷田　かな", "410", カナ氏名="ヨシダ　カナ")], "yokokou": []}
    async with stage(tmp_path_factory.mktemp("identity"), people) as running:
        yield running


async def identity_page(at: Stage, member: Member, address: str) -> Page:
    page = await member.get(await at.invite(member, ME, address))
    return await member.follow(page, "記号・番号で登録する")


async def at_the_key(at: Stage, member: Member, letter: Letter, address: str) -> tuple[Page, str, str]:
    """(page with the key, key, second link)."""
    page, before = await identity_page(at, member, address), len(at.sink.to(address))
    shown = await prove(member, page, letter.row, address)
    assert shown.heading == NOTE_DOWN, shown.errors
    return shown, key_on(shown), link_in((await at.mails(address, count=before + 1))[-1])


def credentials(login_id: str) -> dict[str, str]:
    return {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}


async def test_bad_input_gets_a_sentence_beside_the_field_and_changes_nothing(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        kept = await at.kept(*KEPT)
        for field in ("address", "symbol", "number", "birth_date_year", "birth_date_month", "birth_date_day"):
            for typed in BAD:
                if field == "number" and typed in ("７７７", "ﾃｽﾄ"):
                    continue  # as good as any
                form = {**details(letter.row, address), field: typed, **solved(page)}
                page = refused = await member.submit(page, form)
                assert (refused.status, refused.heading) == (422, IDENTITY), (field, typed)
                beside = "birth_date" if field.startswith("birth") else field
                ((place,),) = {tuple(refused.tree.xpath("//*[@role='alert']//a/@href"))}
                assert place == f"#f-{beside}", (field, typed, refused.errors)
                (words,) = refused.tree.xpath(f"//*[@id='f-{beside}-e']")
                assert refused.errors[0] in words.text_content()
                assert "<script>alert" not in refused.answer.text
        empty = dict.fromkeys(details(letter.row, address), "")
        page = await member.submit(page, {**empty, **solved(page)})
        assert len(page.errors) == 4
        assert await at.kept(*KEPT) == kept
        assert (await prove(member, page, letter.row, address)).heading == NOTE_DOWN


async def test_forms_no_browser_sends_are_refused_before_anything_is_read(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        kept = await at.kept(*KEPT)
        hidden = {name: page.value(name) for name in ("form-key", "step", "journey", "captcha_ticket")}
        whole = {**hidden, **details(letter.row, address), **solved(page)}
        for broken, status in (
            ({"number": "1" * 10_240}, 400),
            ({"number": "1\0"}, 400),
            ({"number": "1" * 70_000}, 413),
            ({"form-key": "x"}, 403),
        ):
            answer = await member.client.post(page.url, data={**whole, **broken})
            assert answer.status_code == status
        answer = await member.client.post(page.url, content=b"number=%ED%A0%80", headers=_FORM)
        assert answer.status_code == 400, "a lone surrogate"
        answer = await member.client.post(page.url, data={**whole, "journey": "no-such"})
        assert answer.status_code == 410
        assert (await member.get(page.url.replace("=identity", "=no-such"))).status == 404
        assert await at.kept(*KEPT) == kept


_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_without_cookies_the_page_says_what_to_do(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as member:
        link = await at.invite(member, ME, address)
    async with Member(at.robot.web) as member:
        member.client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        refused = await member.get(link)
        assert (refused.status, refused.heading) == (403, "この画面を続けられません")
        assert "Cookieを許可する" in refused.text


async def test_scanners_that_follow_links_first_spend_nothing(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member, Member(at.robot.web) as scanner:
        first = await at.invite(member, ME, address)
        for link in (first, first):
            assert (await scanner.client.request("HEAD", link)).status_code == 200
            assert (await scanner.get(link)).status == 200
        page = await member.follow(await member.get(first), "記号・番号で登録する")
        shown = await prove(member, page, letter.row, address)
        second = link_in((await at.mails(address, SECOND))[0])
        for _ in range(2):
            assert (await scanner.client.request("HEAD", second)).status_code == 200
            assert (await scanner.get(second)).heading == KEY
        page = await member.submit(await member.get(second), {"key": key_on(shown)})
        assert page.heading == CHOSEN


async def test_back_again_and_twice_nothing_is_lost(at: Stage) -> None:
    """The browser never sees the answer to a form, and the person taps again, in every step."""
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        form = {**details(letter.row, address), **solved(page)}
        before = list(member.client.cookies.jar)
        shown = await member.submit(page, form)
        key = key_on(shown)
        _forget(member, before)  # as if that answer never came
        again = await member.submit(page, form)
        assert (again.heading, key_on(again)) == (NOTE_DOWN, key)
        back = await member.get(page.url)  # the back button, reloaded
        assert (back.heading, key_on(back)) == (NOTE_DOWN, key)
        assert len(await at.mails(address, SECOND)) == 1
        page = await member.get(await at.link(address, SECOND))
        before = list(member.client.cookies.jar)
        await member.submit(page, {"key": key})
        _forget(member, before)
        page = await member.submit(page, {"key": key})
        assert page.heading == CHOSEN
        done, twice = await asyncio.gather(
            *(member.submit(page, credentials("kaze-nuruku")) for _ in range(2))
        )
        assert {done.status, twice.status} == {200}
        assert done.url.split("?")[0].endswith("/done")
        later = await member.submit(page, credentials("other-login"))
        assert later.heading == "登録済みです"
        assert (await member.get(await at.link(address, SECOND))).heading == "登録済みです"
        assert len(await at.mails(address, "利用登録完了のご案内")) == 1


async def test_the_mail_is_sent_again_and_every_copy_works(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        shown, key, first = await at_the_key(at, member, letter, address)
        again = await member.submit(shown, button="メールをもう一度送る")
        assert again.heading == NOTE_DOWN
        assert "メールをもう一度お送りしました" in again.text
        mails = await at.mails(address, SECOND, 2)
        assert {link_in(mail) for mail in mails} == {first}
        assert (await member.submit(await member.get(first), {"key": key})).heading == CHOSEN


async def test_the_screen_with_the_key_says_where_the_journey_went_on(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as desk, Member(at.robot.web) as phone, Member(at.robot.web) as stranger:
        shown, key, link = await at_the_key(at, desk, letter, address)
        assert (await stranger.get(shown.url)).heading == "この画面を続けられません"
        page = await phone.submit(await phone.get(link), {"key": key})
        assert page.heading == CHOSEN
        left = await desk.get(shown.url)
        assert (left.status, left.heading) == (403, "ほかの画面で続いています")
        assert (await stranger.get(page.url)).status == 403
        assert (await stranger.get(link)).heading == DEAD
        assert (await phone.submit(page, credentials("yoru-no-ame"))).url.endswith("/done")
        assert (await desk.get(shown.url)).status == 403


async def test_a_key_of_one_fits_no_link_of_another(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as one, Member(at.robot.web) as two:
        _, first_key, first = await at_the_key(at, one, at.letter(ME), address)
        page = await two.get(await at.invite(two, ME, address))
        shown = await prove(two, await two.follow(page, "記号・番号で登録する"), at.letter(ME).row, address)
        second_key = key_on(shown)
        second = next(link_in(mail) for mail in await at.mails(address, SECOND, 2) if link_in(mail) != first)
        if first_key != second_key:
            assert (await two.submit(await two.get(second), {"key": first_key})).status == 422
        assert (await one.submit(await one.get(first), {"key": first_key})).heading == CHOSEN
        assert (await two.submit(await two.get(second), {"key": second_key})).heading == CHOSEN
        # in the name of another society the link is nothing
        assert (await one.get(second.replace(f"/{ME}/", "/yokokou/"))).heading == DEAD
        assert (await one.get(second.replace("/c/", "/r/"))).heading == DEAD


async def test_forms_out_of_order_show_the_step_that_is_next(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        shown, key, link = await at_the_key(at, member, letter, address)
        kept = await at.kept(*KEPT)
        for step, fields in (("credentials", credentials("out-of-order")), ("enter-key", {"key": key})):
            data = {"form-key": shown.value("form-key"), "step": step, **fields}
            page = Page(await member.client.post(shown.url, data=data))
            assert page.heading == NOTE_DOWN
        assert await at.kept(*KEPT) == kept
        page = await member.submit(await member.get(link), {"key": key})
        data = {"form-key": page.value("form-key"), "step": "insurance-details", **details(letter.row, address)}
        assert Page(await member.client.post(page.url, data=data)).heading == CHOSEN


async def test_time_ends_each_step(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        await at.age_links(address, 3 * 3_600_000)
        ended = await prove(member, page, letter.row, address)
        assert (ended.status, ended.heading) == (410, DEAD)
        shown, key, link = await at_the_key(at, member, letter, address)
        page = await member.get(link)
        await at.age_links(address, 3 * 3_600_000)
        await at.sql("UPDATE journey SET expires_at = expires_at - 10800000 WHERE address = ?", address)
        assert (await member.submit(page, {"key": key})).status == 410
        assert (await member.get(shown.url)).status == 410
        assert (await member.follow(await member.get(link), "新しいご案内")).heading == "新規利用登録"


def _forget(member: Member, kept: list[Cookie]) -> None:
    """The browser has these cookies only."""
    member.client.cookies.jar.clear()
    for one in kept:
        member.client.cookies.jar.set_cookie(one)


async def _look(window: Window, name: str) -> None:
    """Keeps a picture of the whole page where MAILBOT_PICTURES names a folder."""
    if folder := os.environ.get("MAILBOT_PICTURES"):
        await window.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_phone_of_390_px_goes_the_whole_way(at: Stage, scripts: bool) -> None:
    letter = at.letters[ME]["𠮷田　かな"] if scripts else at.letter(ME)
    address, who = at.new_address(), "kana-to-kaze" if scripts else "kana-to-ame"

    async def stop(name: str, heading: str) -> None:
        await expect(window.locator("h1")).to_have_text(heading)
        assert await window.evaluate("() => document.documentElement.scrollWidth") <= 390, name
        await _look(window, f"{name}-{'js' if scripts else 'plain'}")

    async with chromium() as browser, window_of(browser, js=scripts, width=390) as window:
        await window.goto(urljoin(at.robot.web, f"/{ME}/entry"))
        await stop("01-entry", "新規利用登録")
        await window.fill("[name=address]", address)
        await window.click("text=送信する")
        await stop("02-sent", "メールをご覧ください")
        await window.goto(await at.link(address, INVITED))
        await stop("03-choose", "登録のしかたを選ぶ")
        await window.click("text=記号・番号で登録する")
        await stop("04-identity", IDENTITY)
        form = details(letter.row, address)
        await window.fill("[name=address]", form["address"])
        await window.fill("[name=symbol]", form["symbol"])
        for part in ("year", "month", "day"):
            await window.select_option(f"[name=birth_date_{part}]", form[f"birth_date_{part}"])
        if not scripts:
            await window.fill("[name=captcha]", _read_aloud(await window.inner_text("#f-captcha-h")))
        await window.click("button:has-text('確認')")
        await expect(window.locator("[role=alert] li")).to_have_count(1)
        await stop("05-complaint", IDENTITY)
        await expect(window.locator("[name=birth_date_year]")).to_have_value(form["birth_date_year"])
        await window.fill("[name=number]", form["number"])
        await window.click("button:has-text('確認')")
        await stop("06-key", NOTE_DOWN)
        key = await window.inner_text(".key")
        await window.goto(await at.link(address, SECOND))
        await stop("07-enter-key", KEY)
        await window.fill("[name=key]", "")
        await window.click("button:has-text('認証')")
        await stop("08-no-key", KEY)
        await window.fill("[name=key]", key)
        await window.click("button:has-text('認証')")
        await stop("09-credentials", CHOSEN)
        await window.fill("[name=login_id]", who)
        await window.fill("[name=password]", PASSWORD)
        await window.fill("[name=password_again]", PASSWORD)
        await window.click("button:has-text('登録')")
        await stop("10-done", "利用者情報登録完了")
        await window.click("text=ログイン画面")
        await window.fill("[name=login_id]", who)
        await window.fill("[name=password]", PASSWORD)
        await window.click("main button:has-text('ログイン')")
        await stop("11-home", f"こんにちは、{letter.row['氏名']} さん")
        await window.click("main >> text=プロフィール設定")
        await stop("12-profile", "プロフィール設定")
        await window.click("nav >> text=パスワード変更")
        await stop("13-password", "パスワード変更")


_SPOKEN = {"ゼロ": "0", "いち": "1", "に": "2", "さん": "3", "よん": "4", "ご": "5", "ろく": "6", "なな": "7",
           "はち": "8", "きゅう": "9"}  # fmt: skip


def _read_aloud(question: str) -> str:
    spoken = question.partition("：")[2].split()[0].split("・")
    return "".join(_SPOKEN[one] for one in spoken)
