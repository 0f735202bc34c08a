"""A forgotten login with the societies whose mail carries a link alone, from outside."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.member import Member, log_in
from tests.support.robot import body, link_in
from tests.support.rows import NEXT_PASSWORD, PASSWORD, Account, Stage, buttons, labels, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
AGAIN, PIN, DONE = "パスワード再発行のご案内", "暗証キーのお知らせ", "利用登録完了のご案内"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("rows"), {"omron": [], "hpe": []}) as running:
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
        page = await member.follow(page, "紙を受け取った")
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
