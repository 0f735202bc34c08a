"""A forgotten login with the societies whose mail carries a link alone, from outside."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in
from tests.support.robot import body, link_in
from tests.support.rows import NEXT_PASSWORD, PASSWORD, Account, Stage, buttons, labels, person, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = "ログインIDのご案内"
AGAIN, PIN, DONE = "パスワード再発行のご案内", "暗証キーのお知らせ", "利用登録完了のご案内"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    household = [
        person("見本太郎", "4567", 続柄="本人", カナ氏名="ミホンタロウ"),
        person("見本花子", "4567", 続柄="妻", カナ氏名="ミホンハナコ", 生年月日="1972-03-04"),
    ]
    async with stage(tmp_path_factory.mktemp("rows"), {"omron": [], "hpe": [], "kenpos": household}) as running:
        yield running


async def reissued(at: Stage, society: str, account: Account, words: str) -> None:
    """From the login page to the new password; the page behind the link tells the login ID."""
    async with Member(at.robot.web) as member:
        page = await member.follow(await member.get(f"/{society}/login"), words)
        pages = []
        for address in (at.new_address(), account.address):
            answer = await member.submit(await member.get(page.url), {"address": address})
            pages.append((answer.status, answer.url, answer.answer.text.replace(address, "")))
        assert pages[0] == pages[1]
        (mail,) = await at.mails(account.address, AGAIN)
        assert account.login_id not in body(mail)
        assert len(re.findall(r"https?://", body(mail))) == 1
        changing = await member.get(link_in(mail))
        assert account.login_id in changing.text
        assert len(labels(changing)) == 2
        weak = await member.submit(changing, {"password": "yowai", "password_again": "yowai"})
        assert (weak.status, weak.heading) == (422, changing.heading)
        done = await member.submit(changing, {"password": NEXT_PASSWORD, "password_again": NEXT_PASSWORD})
        assert done.heading == "パスワードを変更しました"
        (told,) = await at.mails(account.address, "パスワード変更のお知らせ")
        assert NEXT_PASSWORD not in body(told)
        assert (await log_in(member, society, account.login_id, PASSWORD)).status == 422


@pytest.mark.row("OM-10")
async def test_omron_reissues_from_the_registered_address(at: Stage) -> None:
    letter = at.letter("omron")
    account = Account(letter, at.new_address(), at.new_login_id())
    async with Member(at.robot.web) as member:
        page = await member.get(await at.invite(member, "omron", account.address))
        page = await member.follow(page, "紙のお知らせで登録する")
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        typed = {"login_id": account.login_id, "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, typed)).url.endswith("/done")
    await at.mails(account.address, DONE)
    await reissued(at, "omron", account, "忘れた方")
    async with Member(at.robot.web) as member:
        assert (await log_in(member, "omron", account.login_id, NEXT_PASSWORD)).url.endswith("/home")


@pytest.mark.row("HP-8")
async def test_hpe_reissues_a_forgotten_id_or_password_by_mail(at: Stage) -> None:
    account = await at.register("hpe")
    await reissued(at, "hpe", account, "忘れた方")
    async with Member(at.robot.web) as member:
        page = await log_in(member, "hpe", account.login_id, NEXT_PASSWORD)
        (mail,) = await at.mails(account.address, PIN)
        found = re.search(r"[0-9]{3} ?[0-9]{3}", body(mail))
        assert found, body(mail)
        assert "確認する" in buttons(page)
        assert (await member.submit(page, {"pin": found[0]})).url.endswith("/home")


# --- two ways: the ID and the password --------------------------------------------------------------------------------


async def finish_kenpos(at: Stage, member: Member, page: Page, address: str) -> None:
    """From the consent to the completion mail."""
    page = await member.submit(page, button="最後まで読みました")
    page = await member.submit(page, {"agree": "yes"})
    page = await member.submit(page, {"address": address, "password": PASSWORD, "password_again": PASSWORD})
    await member.submit(page, button="メールを送信する")
    page = await member.get(await at.link(address, "利用登録の確認のお願い"))
    await member.submit(page, {"password": PASSWORD})
    await at.mails(address, DONE)


async def kenpos_login(member: Member, login_id: str, password: str) -> Page:
    page = await member.submit(await member.get("/kenpos/login"), {"login_id": login_id})
    return await member.submit(page, {"password": password})


@pytest.mark.row("KP-8")
@pytest.mark.parametrize("who", ["insured", "family"])
async def test_kenpos_keeps_forgotten_ids_and_passwords_apart(at: Stage, who: str) -> None:
    address = at.new_address()
    login_id = "7132-077004567" if who == "insured" else address
    async with Member(at.robot.web) as member:
        if who == "insured":
            page = await kenpos_login(member, login_id, "19700401")
        else:
            page = await member.follow(await member.get("/kenpos/login"), "初回登録ページに移動する")
            born = {"birth_date_year": "S47", "birth_date_month": "3", "birth_date_day": "4"}
            typed = {"symbol": "77", "number": "4567", "kana": "ミホンハナコ", **born}
            page = await member.submit(page, typed)
        await finish_kenpos(at, member, page, address)

    async with Member(at.robot.web) as member:
        first = await member.get("/kenpos/login")
        page = await member.follow(first, "ログインIDをお忘れの方")
        assert (page.heading, labels(page)) == ("ログインIDのお知らせ", ["メールアドレス"])
        pages = []
        for typed_address in (at.new_address(), address):
            answer = await member.submit(await member.get(page.url), {"address": typed_address})
            pages.append((answer.status, answer.url, answer.answer.text.replace(typed_address, "")))
        assert pages[0] == pages[1]
        (told,) = await at.mails(address, ID)
        assert login_id in body(told)
        assert link_in(told) == first.url
        assert not [one for one in at.sink.to(address) if one.message["Subject"] == AGAIN]

        second = await member.submit(await member.get("/kenpos/login"), {"login_id": login_id})
        page = await member.follow(second, "パスワードをお忘れの方")
        await member.submit(page, {"address": address})
        (mail,) = await at.mails(address, AGAIN)
        assert login_id not in body(mail)
        page = await member.get(link_in(mail))
        assert login_id not in page.text
        done = await member.submit(page, {"password": NEXT_PASSWORD, "password_again": NEXT_PASSWORD})
        assert done.heading == "パスワードを変更しました"
        assert len(await at.mails(address, ID)) == 1
        assert (await kenpos_login(member, login_id, PASSWORD)).status == 422
        assert (await kenpos_login(member, login_id, NEXT_PASSWORD)).url.endswith("/home")
