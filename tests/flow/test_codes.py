"""The code beside a mail's URL, from outside: typed at the page it does what the URL does, and nothing else does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from mailbot.credentials import LinkPurpose, read, short_code
from tests.support.member import Member, Page
from tests.support.pages import House, house
from tests.support.robot import body, link_in
from tests.support.rows import PASSWORD, Stage, stage
from tests.support.sink import Taken

ADDRESS = "yamada@docomo.ne.jp"
ASKS, WRONG = "コードを入力", "2222 2222"
INVITED, REISSUED = "利用登録手続きのご案内", "パスワード再発行のご案内"


def code_in(mail: Taken) -> str:
    """The code as it is written in a mail."""
    found = re.search(r"^コード：([2-9a-z]{4} [2-9a-z]{4})$", body(mail), re.MULTILINE)
    assert found, body(mail)
    return found[1]


async def typed(member: Member, society: str, address: str, code: str) -> Page:
    return await member.submit(await member.get(f"/{society}/code"), {"address": address, "code": code})


# -- a real robot: mails in and out ------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("codes"), {"yokokou": []}) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_a_member_whose_phone_opens_no_link_registers_and_later_gets_a_new_password(at: Stage) -> None:
    address, letter = at.new_address(), at.letter("yokokou")
    await asyncio.to_thread(at.robot.send_blank_mail, address, "touroku@yokokou.example")
    (invitation,) = await at.mails(address, INVITED)
    async with Member(at.robot.web) as member:
        page = await member.follow(await member.get("/yokokou/login"), ASKS)
        code = code_in(invitation).upper().replace(" ", "－")
        page = await member.submit(page, {"address": f" {address}", "code": code})
        assert page.heading == (await member.get(link_in(invitation))).heading == "新規利用登録"
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        fields = {"login_id": at.new_login_id(), "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, fields)).heading == "利用者情報登録完了"
        # again in this browser: what it did; in another: the page of a used link
        page = await typed(member, "yokokou", address, code_in(invitation))
        assert page.heading == (await member.get(link_in(invitation))).heading == "登録済みです"
    async with Member(at.robot.web) as stranger:
        page = await typed(stranger, "yokokou", address, code_in(invitation))
        assert (page.status, page.heading) == (410, "このリンクは使えません")
        await stranger.submit(await stranger.get("/yokokou/reissue"), {"address": address})
        (mail,) = await at.mails(address, REISSUED)
        page = await typed(stranger, "yokokou", address, code_in(mail))
        assert page.heading == (await stranger.get(link_in(mail))).heading == "仮ログイン（パスワード再発行）"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("refusal", "cause"),
    [("550 5.7.1 Message refused by the recipient", "filtered"), ("550 Unknown user", "unknown-user")],
)
async def test_who_lets_no_links_in_gets_a_letter_without_one_until_registered(
    at: Stage, refusal: str, cause: str
) -> None:
    address, letter = f"m{at.new_address()}".replace("phone.example", "docomo.ne.jp"), at.letter("yokokou")
    at.sink.rule = lambda step, said: refusal if step == "rcpt" else None
    await asyncio.to_thread(at.robot.send_blank_mail, address, "touroku@yokokou.example")
    for _ in range(400):
        if known := await at.sql("SELECT cause FROM suppression WHERE address = ?", address):
            break
        await asyncio.sleep(0.05)
    assert known == [(cause,)]
    at.sink.rule = None
    to, again = "touroku@yokokou.example", "<2@phone.example>"
    await asyncio.to_thread(at.robot.send_blank_mail, address, to, message_id=again)
    (mail,) = await at.mails(address, INVITED)
    assert await at.sql("SELECT cause FROM suppression WHERE address = ?", address) == [("filtered",)]
    assert mail.message["Auto-Submitted"] == "auto-replied"
    assert mail.message["In-Reply-To"] == "<2@phone.example>"
    assert not re.search(r"://|www|127\.0\.0\.1|localhost", body(mail))
    assert "特定URL付きメール拒否" in body(mail)
    assert "受け取るアドレス：info@yokokou.example" in body(mail)
    async with Member(at.robot.web) as member:
        page = await typed(member, "yokokou", address, code_in(mail))
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        fields = {"login_id": at.new_login_id(), "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, fields)).heading == "利用者情報登録完了"
    assert await at.sql("SELECT cause FROM suppression WHERE address = ?", address) == []


# -- the page alone ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found:
        yield found


def browser(home: House, network: str = "203.0.113.9") -> Member:
    return Member(home.url, transport=httpx2.ASGITransport(app=home.app, client=(network, 5000)))


def code_of(home: House, url: str, purpose: LinkPurpose = LinkPurpose.REGISTRATION, society: str = "yokokou") -> str:
    link_id = read(home.ctx.ring, purpose, society, url.rpartition("/")[2])
    assert link_id is not None
    return short_code(home.ctx.ring, purpose, society, link_id, 0, 0)


async def test_the_page_is_empty_changes_nothing_and_is_linked(home: House) -> None:
    async with browser(home) as member:
        for place in ("login", "entry", "help"):
            page = await member.follow(await member.get(f"/yokokou/{place}"), ASKS)
            assert (page.status, page.heading) == (200, ASKS)
        page = await member.get(f"/yokokou/code?address={ADDRESS}&code=k7mp3wxq")
        assert (page.value("address"), page.value("code")) == ("", "")
        assert (await member.client.head("/yokokou/code")).status_code == 200


@pytest.mark.parametrize("society", ["hpe", "kenpos", "omron", "shochiku", "yokokou"])
async def test_every_society_has_it(home: House, society: str) -> None:
    url = await home.link(society, LinkPurpose.REGISTRATION, ADDRESS)
    async with browser(home) as member, browser(home) as other:
        reached = await typed(member, society, ADDRESS, code_of(home, url, society=society))
        assert reached.url == (await other.get(url)).url


async def test_wrong_unknown_and_expired_look_the_same(home: House) -> None:
    code = code_of(home, await home.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS))
    async with browser(home) as member:
        pages = [
            await typed(member, "yokokou", ADDRESS, WRONG),
            await typed(member, "yokokou", "nobody@docomo.ne.jp", code),
            await typed(member, "shochiku", ADDRESS, code),
        ]
        home.now += 180 * 60_000
        pages.append(await typed(member, "yokokou", ADDRESS, code))
    assert {(page.status, page.heading, *page.errors) for page in pages} == {(422, ASKS, *pages[0].errors)}
    assert "違うか、期限が過ぎています" in pages[0].errors[0]
    assert pages[0].value("address") == ADDRESS


async def test_bad_input_is_answered_beside_its_field(home: House) -> None:
    async with browser(home) as member:
        page = await typed(member, "yokokou", "", "")
        assert (page.status, len(page.errors)) == (422, 2)
        for code in ("<script>alert(1)</script>", "' OR 1=1 --", "あ" * 300, "k7mp3wx", "①②③④⑤⑥⑦⑧"):
            page = await typed(member, "yokokou", ADDRESS, code)
            assert page.status == 422
            assert [error.partition("。")[0] for error in page.errors] == ["コードは、英字と数字の8文字です"]
            assert page.value("code") == code


async def test_a_form_of_another_site_is_refused(home: House) -> None:
    code = code_of(home, await home.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS))
    async with browser(home) as member:
        await member.get("/yokokou/code")
        data = {"address": ADDRESS, "code": code}
        foreign = await member.client.post("/yokokou/code", data=data, headers={"origin": "https://evil.example"})
        keyless = await member.client.post("/yokokou/code", data=data)
        assert (foreign.status_code, keyless.status_code) == (403, 403)


async def test_a_network_that_guesses_is_told_to_wait(home: House) -> None:
    code = code_of(home, await home.link("yokokou", LinkPurpose.REGISTRATION, "taro@docomo.ne.jp"))
    async with browser(home) as guesser, browser(home, "198.51.100.7") as other:
        tries = [(await typed(guesser, "yokokou", ADDRESS, WRONG)).status for _ in range(22)]
        assert tries == [422] * 20 + [429] * 2
        assert (await typed(guesser, "yokokou", "taro@docomo.ne.jp", code)).status == 429  # nothing is looked at
        assert (await typed(other, "yokokou", "taro@docomo.ne.jp", code)).heading == "新規利用登録"


async def test_who_needs_a_new_code_finds_the_way_in_on_the_page(home: House) -> None:
    ways = {"kenpos": "初回登録ページに移動する", "yokokou": "touroku@yokokou.example"}
    for society, way in ways.items():
        async with browser(home) as member:
            page = await typed(member, society, ADDRESS, WRONG)
            assert "お申し込みの入り口は、この画面の下にあります" in page.errors[0]
            assert way in page.text


async def test_ten_wrong_codes_leave_the_url_as_it_was(home: House) -> None:
    url = await home.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with browser(home) as guesser, browser(home, "198.51.100.7") as member:
        for _ in range(10):
            await typed(guesser, "yokokou", ADDRESS, WRONG)
        assert (await typed(member, "yokokou", ADDRESS, code_of(home, url))).status == 422
        assert (await member.get(url)).heading == "新規利用登録"


async def test_help_shows_the_settings_of_the_chosen_mail(home: House) -> None:
    async with browser(home) as member:
        page = await member.get("/yokokou/help")
        assert "特定URL付きメール拒否" not in page.text
        for name, words in (("ドコモ", "特定URL付き"), ("au・UQ mobile", "URLリンク規制"), ("そのほか", "受信許可")):
            page = await member.follow(page, name)
            assert words in page.text
            assert "受け取るアドレス info@yokokou.example" in page.text
            assert "受け取るドメイン yokokou.example" in page.text
        assert (await member.get("/yokokou/help?carrier=%00nobody")).status == 200
