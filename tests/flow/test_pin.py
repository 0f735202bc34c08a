"""What people and strangers type where a PIN is asked for (docs/bad-inputs.md), from outside, without JavaScript."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in
from tests.support.rows import PASSWORD, PIN, Account, Stage, buttons, pin_in, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME = "hpe"
RESEND = "PIN Code(暗証キー)をもう一度送る"
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("pin"), {ME: []}) as running:
        yield running


async def pin(at: Stage, account: Account, count: int = 1) -> str:
    """The newest of so many PINs, in two groups."""
    return pin_in((await at.mails(account.address, PIN, count))[count - 1])


def wrong(right: str) -> str:
    return f"{(int(right.replace(' ', '')) + 1) % 10**6:06}"


async def miss(member: Member, page: Page, right: str, times: int) -> Page:
    for _ in range(times):
        page = await member.submit(page, {"pin": wrong(right)})
    return page


async def failures(at: Stage, account: Account) -> int:
    ((count,),) = await at.sql("SELECT pin_failures FROM member WHERE login_id = ?", account.login_id)
    return int(count)


async def test_a_pin_is_read_kindly_and_what_is_none_gets_a_sentence(at: Stage) -> None:
    account = await at.register(ME)
    spellings = ("{} {}", "{}-{}", "　{}ー{}")
    for count, spelling in enumerate(spellings, 1):
        async with Member(at.robot.web) as member:
            page = await log_in(member, ME, account.login_id, PASSWORD)
            right = await pin(at, account, count)
            for typed in ("", "²³4567", "12345", "1234567", "あいうえおか", "<b>1</b>", "' OR 1=1 --", "1" * 1000):
                refused = await member.submit(page, {"pin": typed})
                assert (refused.status, len(refused.errors)) == (422, 1), typed
                assert refused.errors[0].endswith("PIN Code(暗証キー)を入力してください。"), typed
                assert refused.tree.xpath("//input[@name='pin']/@aria-invalid") == ["true"]
            assert await failures(at, account) == 0
            home = await member.submit(page, {"pin": spelling.format(*right.translate(WIDE).split())})
            assert home.url.endswith("/home"), home.errors


async def test_five_wrong_tries_end_a_pin_and_ten_pause_the_account(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        first = await pin(at, account)
        dead = await miss(member, page, first, 5)
        assert "5回違ったため" in dead.errors[0]
        assert buttons(dead) == [RESEND]
        sixth = await member.submit(page, {"pin": first})
        assert (sixth.status, sixth.errors) == (422, dead.errors)
        page = await member.submit(dead, button=RESEND)
        second = await pin(at, account, 2)
        assert second != first
        assert await failures(at, account) == 5
        paused = await miss(member, page, second, 5)
        assert "しばらくログインできません" in paused.errors[0]
        assert await failures(at, account) == 10
        assert paused.link("パスワード再発行").endswith(f"/{ME}/reissue")
        assert buttons(paused) == []
        assert "しばらくログインできません" in (await member.submit(page, {"pin": second})).errors[0]
        assert "いまは、ログインできません" in (await member.get(f"/{ME}/pin")).text
        refused = await log_in(member, ME, account.login_id, PASSWORD)
        assert (refused.status, refused.errors) == (429, paused.errors)
    assert len(await at.mails(account.address, PIN, 2)) == 2


async def test_the_pin_of_one_window_is_none_in_another_browser(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as one, Member(at.robot.web) as other:
        first = await log_in(one, ME, account.login_id, PASSWORD)
        of_one = await pin(at, account)
        second = await log_in(other, ME, account.login_id, PASSWORD)
        assert (await other.submit(second, {"pin": of_one})).status == 422
        assert (await one.submit(first, {"pin": of_one})).url.endswith("/home")
        assert (await other.submit(second, {"pin": await pin(at, account, 2)})).url.endswith("/home")


async def test_a_stranger_without_the_password_harms_nobody(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member, Member(at.robot.web) as stranger:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        key = (await stranger.get(f"/{ME}/login")).value("form-key")
        (name,) = [one for one in member.client.cookies if one.startswith("mb-pin-")]
        known = member.client.cookies[name].partition(".")[0]
        for number in range(0, 1000, 50):
            stranger.client.cookies.set(name, f"{known}.{'A' * 43}")
            tries = (
                stranger.client.post(f"/{ME}/pin", data={"form-key": key, "pin": f"{one:06}"})
                for one in range(number, number + 50)
            )
            answers = await asyncio.gather(*tries)
            assert {answer.url.path for answer in answers} == {f"/{ME}/login"}
        assert await failures(at, account) == 0
        for _ in range(12):
            assert (await log_in(stranger, ME, account.login_id, "wrong")).status == 422
        assert len(at.sink.to(account.address)) == len(account.mails) + 1
        assert (await member.submit(page, {"pin": await pin(at, account)})).url.endswith("/home")


async def test_cookies_that_are_gone_or_bent_lead_back_to_the_login(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        (name,) = [one for one in member.client.cookies if one.startswith("mb-pin-")]
        right = await pin(at, account)
        for value in (None, ".", "x", "aaaaaaaaaaaaa.x"):
            member.client.cookies.delete(name)
            if value is not None:
                member.client.cookies.set(name, value, domain="127.0.0.1", path="/")
            shown = await member.get(f"/{ME}/pin")
            assert (shown.status, shown.heading) == (200, "ログイン")
            back = await member.submit(page, {"pin": right})
            assert back.url.endswith("/login?ended=1")
            member.client.cookies.set(name, "y", domain="127.0.0.1", path="/")
        member.client.cookies.clear()
        assert (await member.submit(page, {"pin": "123456"})).status == 403
