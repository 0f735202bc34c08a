"""日本ヒューレット・パッカード: registration, PINs, profile and reissue (docs/features.md), seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in
from tests.support.robot import body, link_in
from tests.support.rows import (
    MINUTE,
    NEXT_PASSWORD,
    PASSWORD,
    PIN,
    Account,
    Stage,
    buttons,
    in_order,
    labels,
    needs,
    pin_in,
    stage,
)
from tests.support.sink import Taken

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME = "hpe"
NO_REPLY, NO_REPLY_NAME = "no-reply@hpe.example", "日本HP健保 健保マイポータル"
DESK = "helpdesk@hpe.example"
INVITED, DONE, AGAIN = "利用登録手続きのご案内", "利用登録完了のご案内", "パスワード再発行のご案内"
PROOF = "メールアドレスの確認のお願い"
RESEND = "PIN Code(暗証キー)をもう一度送る"
REPEAT = "最新の状態を表示する"
CLOSED = "登録のあと完了メールが届くまでは、ログインできません。"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("hpe"), {ME: []}) as running:
        yield running


@contextmanager
def refusing(at: Stage, address: str, reply: str) -> Iterator[None]:
    """The relay answers so for one address."""
    at.sink.rule = lambda step, argument: reply if step == "rcpt" and address in argument else None
    try:
        yield
    finally:
        at.sink.rule = None


async def credentials_page(at: Stage, member: Member, address: str) -> Page:
    return await at.credentials_page(member, ME, at.letter(ME), address)


async def pins(at: Stage, address: str, count: int = 1) -> list[Taken]:
    return await at.mails(address, PIN, count)


async def pass_time(at: Stage, ms: int) -> None:
    """For every login that waits for its PIN."""
    times = ("sent_at", "created_at", "pin_expires_at", "expires_at")
    await at.sql(f"UPDATE pin_login SET {', '.join(f'{name} = {name} - {ms}' for name in times)}")


async def with_second(at: Stage) -> tuple[Account, str]:
    """A member with two proved addresses, both ticked."""
    account, second = await at.register(ME), at.new_address()
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/profile")
        fields = {"address_2": second, "pin_2": "yes", "password": PASSWORD}
        assert "登録しました" in (await member.submit(page, fields)).text
        proof = await member.get(await at.link(second, PROOF))
        await member.submit(proof, button="このアドレスを使う")
    return account, second


# --- registration -----------------------------------------------------------------------------------------------------


@pytest.mark.row("HP-2", "HP-12")
async def test_the_web_entry_names_its_sender_and_brings_a_url_for_three_hours(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as member:
        entry = await member.follow(await member.get(f"/{ME}/login"), "新規利用登録")
        assert in_order(entry.text, NO_REPLY_NAME, NO_REPLY, "受け取れるように", "メールアドレス ※必須", "送信する")
        await member.submit(entry, {"address": address})
        (mail,) = await at.mails(address, INVITED)
        (sender,) = mail.message["From"].addresses
        assert (sender.display_name, sender.addr_spec) == (NO_REPLY_NAME, NO_REPLY)
        assert "発行から3時間" in body(mail)
        assert (await member.get(link_in(mail))).heading == "新規利用登録"
        await at.age_links(address, 3 * 60 * MINUTE)
        late = await member.get(link_in(mail))
        assert late.status == 410
        again = await member.submit(await member.follow(late, "新しいご案内"), {"address": address})
        assert again.heading == "メールをご覧ください"
        (_, fresh) = await at.mails(address, INVITED, 2)
        assert (await member.get(link_in(fresh))).status == 200


@pytest.mark.row("HP-3", "HP-13")
async def test_the_temporary_login_with_its_two_languages(at: Stage) -> None:
    letter = at.letter(ME)
    async with Member(at.robot.web) as member:
        page = await member.get(await at.invite(member, ME, at.new_address()))
        assert labels(page) == ["User ID（ユーザーID）", "Temp password（仮パスワード）"]
        assert "お知らせのメール" in page.text
        assert "紙" not in page.text
        wrong = await member.submit(page, {"login_id": letter.printed_id, "password": "nonsense"})
        assert wrong.errors[0].startswith("User ID（ユーザーID）またはTemp password（仮パスワード）が違います。")
        right = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert right.heading == "利用者情報入力"


@pytest.mark.row("HP-4", "HP-13")
async def test_new_login_id_password_of_four_classes_and_nickname(at: Stage) -> None:
    address, login_id = at.new_address(), at.new_login_id()
    async with Member(at.robot.web) as member:
        page = await credentials_page(at, member, address)
        password = "New Password（新しいパスワード）"
        assert labels(page) == [
            "New Login ID（新しいログインID）",
            password,
            "New Password（新しいパスワード・確認）",
            "nickname（ニックネーム）",
        ]
        assert list(needs(page).values()) == ["※必須", "※必須", "※必須", "※任意"]
        for bad in ("asagiri-2026", "ASAGIRI-2026", "Asagiri-yama", "Asagiri2026y", "As-2026"):
            refused = await member.submit(page, {"login_id": login_id, "password": bad, "password_again": bad})
            assert (refused.status, refused.errors[0].startswith(password)) == (422, True), bad
        eight = {"login_id": login_id, "password": "Yj7~vqmx", "password_again": "Yj7~vqmx", "nickname": "みどり"}
        done = await member.submit(page, eight)
        assert done.heading == "利用者情報登録完了"
    await at.mails(address, DONE)
    await at.opened(ME, login_id)
    async with Member(at.robot.web) as member:
        home = await at.log_in(member, ME, login_id, "Yj7~vqmx")
        assert home.heading == "こんにちは、みどり さん"


@pytest.mark.row("HP-5")
async def test_the_login_opens_when_the_relay_has_taken_the_completion_mail(at: Stage) -> None:
    address, login_id = at.new_address(), at.new_login_id()
    async with Member(at.robot.web) as member:
        page = await credentials_page(at, member, address)
        with refusing(at, address, "451 4.3.0 later"):
            done = await member.submit(page, {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD})
            assert in_order(done.text, "完了メールをお待ちください", "完了メールが届くと、ログインできるようになります")
            assert "ログイン画面" not in buttons(done)
            closed = await log_in(member, ME, login_id, PASSWORD)
            wrong = await log_in(member, ME, login_id, NEXT_PASSWORD)
            assert (closed.status, closed.errors) == (422, wrong.errors)
            assert CLOSED in closed.text
            assert "完了メールをお待ちください" in (await member.follow(done, REPEAT)).text
        await at.sql("UPDATE outbox SET next_attempt_at = 0 WHERE letter = 'completion' AND recipient = ?", address)
        await at.mails(address, DONE)
        await at.opened(ME, login_id)
        open_now = await member.follow(done, REPEAT)
        assert "いまからログインできます" in open_now.text
        assert "完了メールをお待ちください" not in open_now.text
        assert (await member.follow(open_now, "ログイン画面")).heading == "ログイン"
        assert (await at.log_in(member, ME, login_id, PASSWORD)).url.endswith("/home")


@pytest.mark.row("HP-5")
async def test_a_completion_mail_that_cannot_be_delivered_is_shown_to_staff(at: Stage) -> None:
    address, login_id, letter = at.new_address(), at.new_login_id(), at.letter(ME)
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, letter, address)
        with refusing(at, address, "554 5.7.1 not wanted here"):
            await member.submit(page, {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD})
            alarms: list[dict[str, str]] = []
            while not [one for one in alarms if one["kind"] == "completion-undelivered"]:
                await asyncio.sleep(0.1)
                alarms = await asyncio.to_thread(at.robot.json, "alarm", "list")
        record = (await asyncio.to_thread(at.robot.command, "audit", "export", "--society", ME)).stdout
        assert "completion-undelivered" in record
        assert CLOSED in (await log_in(member, ME, login_id, PASSWORD)).text
        (found,) = await asyncio.to_thread(at.robot.json, "member", "find", ME, letter.row["氏名"])
        await asyncio.to_thread(at.robot.command, "member", "unlock", ME, found["member"])
        assert (await at.log_in(member, ME, login_id, PASSWORD)).url.endswith("/home")


# --- login with PIN ---------------------------------------------------------------------------------------------------


@pytest.mark.row("HP-6", "HP-13")
async def test_a_pin_for_every_ticked_address_opens_the_home_page(at: Stage) -> None:
    account, second = await with_second(at)
    before = len(at.sink.to(second))
    async with Member(at.robot.web) as member:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        assert (page.heading, labels(page)) == ("PIN Code(暗証キー)の入力", ["PIN Code(暗証キー)"])
        (field,) = page.tree.xpath("//input[@name='pin']")
        assert (field.get("inputmode"), field.get("autocomplete"), field.get("type")) == (
            "numeric",
            "one-time-code",
            "text",
        )
        for address in (account.address, second):
            assert address not in page.text
            assert f"{address[0]}****@phone.example" in page.text
        assert (await member.get(f"/{ME}/home")).heading == "ログイン"  # no session yet
        (to_first,) = (await pins(at, account.address, 2))[1:]
        (to_second,) = (await at.mails(second, count=before + 1))[before:]
        assert pin_in(to_first) == pin_in(to_second)
        until = page.tree.xpath("string(//strong[contains(., 'まで')])").removesuffix("まで")
        assert f"{until}（日本時間）まで" in body(to_second)
        assert to_second.message["From"].addresses[0].addr_spec == NO_REPLY
        assert not any(digit in str(to_second.message["Subject"]) for digit in pin_in(to_second).split())
        wrong = await member.submit(page, {"pin": "000000" if pin_in(to_second) != "000 000" else "111111"})
        assert wrong.errors == [
            "PIN Code(暗証キー)が違います。メールの数字と見比べて、もう一度入力してください。あと4回まで入力できます。"
        ]
        home = await member.submit(wrong, {"pin": pin_in(to_second)})
        assert home.url.endswith("/home")
        assert home.heading == f"こんにちは、{account.letter.nickname} さん"
        assert (await member.get(f"/{ME}/pin")).heading == "ログイン"  # used up


@pytest.mark.row("HP-6")
async def test_a_pin_lives_ten_minutes_and_a_new_one_is_one_button_away(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        (first,) = await pins(at, account.address)
        await pass_time(at, 10 * MINUTE + 1000)
        late = await member.submit(page, {"pin": pin_in(first)})
        assert (late.status, buttons(late)) == (422, [RESEND])
        assert "使える時間を過ぎました" in late.errors[0]
        assert "もう使えません" in (await member.get(f"/{ME}/pin")).text
        page = await member.submit(late, button=RESEND)
        (_, second) = await pins(at, account.address, 2)
        assert (await member.submit(page, {"pin": pin_in(second)})).url.endswith("/home")


@pytest.mark.row("HP-6")
async def test_the_same_pin_again_after_a_minute_three_mails_in_all(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await log_in(member, ME, account.login_id, PASSWORD)
        await pins(at, account.address)
        for _ in range(3):  # too early: nothing is sent, and the page says when it was
            page = await member.submit(page, button=RESEND)
            assert "PIN Code(暗証キー)を送りました" in page.text
        for count in (2, 3):
            await pass_time(at, MINUTE)
            taps = await asyncio.gather(*(member.submit(page, button=RESEND) for _ in range(4)))
            await pins(at, account.address, count)
        assert {tap.status for tap in taps} == {200}
        page = await member.get(f"/{ME}/pin")
        assert RESEND not in buttons(page)
        assert "ログインからやり直してください" in page.text
        mails = await pins(at, account.address, 3)
        assert len({pin_in(mail) for mail in mails}) == 1
        assert (await member.submit(page, {"pin": pin_in(mails[0])})).url.endswith("/home")
        assert len(at.sink.to(account.address)) == len(account.mails) + 3


# --- profile ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("HP-7", "HP-13")
async def test_the_profile_says_which_addresses_get_pins(at: Stage) -> None:
    account, second = await at.register(ME), at.new_address()
    async with at.logged_in(ME, account) as (member, home):
        page = await member.follow(home, "プロフィール設定")
        tick = "ここにPIN Code(暗証キー)を送る"
        assert labels(page) == [
            "Login ID（ログインID）",
            "nickname（ニックネーム）",
            "メールアドレス1",
            tick,
            "メールアドレス2",
            tick,
            "メールアドレス3",
            tick,
            "Password（現在のパスワード）",
        ]
        assert [needs(page)[f"メールアドレス{slot}"] for slot in (1, 2, 3)] == ["※必須", "※任意", "※任意"]
        assert ticked(page) == ["pin_1"]
        assert "2つ以上に印を付けることをおすすめします" in page.text
        nothing = await untick(member, page, "pin_1")
        assert nothing.errors[0].startswith("PIN Code(暗証キー)を受け取るメールアドレスに、1つ以上の印")
        fields = {"address_2": second, "pin_2": "yes", "password": PASSWORD}
        page = await member.submit(await member.get(f"/{ME}/profile"), fields)
        assert ticked(page) == ["pin_1", "pin_2"]
        waiting = await untick(member, page, "pin_1", password=PASSWORD)  # the other one is not proved yet
        assert waiting.status == 422
        await member.submit(await member.get(await at.link(second, PROOF)), button="このアドレスを使う")
        page = await member.get(f"/{ME}/profile")
        assert ticked(page) == ["pin_1", "pin_2"]
        page = await untick(member, page, "pin_1")  # no password: no address changes
        assert ("登録しました" in page.text, ticked(page)) == (True, ["pin_2"])
    before = len(at.sink.to(account.address))
    async with Member(at.robot.web) as member:
        assert (await at.log_in(member, ME, account.login_id, PASSWORD)).url.endswith("/home")
    assert len(at.sink.to(account.address)) == before


def ticked(page: Page) -> list[str]:
    return [str(name) for name in page.tree.xpath("//input[starts-with(@name, 'pin_')][@checked]/@name")]


async def untick(member: Member, page: Page, name: str, **fields: str) -> Page:
    (box,) = page.tree.xpath(f"//input[@name='{name}']")
    box.attrib.pop("checked", None)
    return await member.submit(page, fields, button="登録")


# --- reissue ----------------------------------------------------------------------------------------------------------


@pytest.mark.row("HP-8")
async def test_a_reissue_by_mail_leads_to_a_new_password_and_again_to_a_pin(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await member.follow(await member.get(f"/{ME}/login"), "ログインID・パスワードを忘れた方はこちら")
        await member.submit(page, {"address": account.address})
        (mail,) = await at.mails(account.address, AGAIN)
        change = await member.get(link_in(mail))
        assert labels(change) == ["New Password（新しいパスワード）", "New Password（新しいパスワード・確認）"]
        done = await member.submit(change, {"password": NEXT_PASSWORD, "password_again": NEXT_PASSWORD})
        assert done.url.endswith("/reissue/done")
        assert (await log_in(member, ME, account.login_id, PASSWORD)).status == 422
    async with at.logged_in(ME, replace(account, password=NEXT_PASSWORD)) as (_, home):
        assert account.login_id in (await at.exported(ME))
        assert home.status == 200


@pytest.mark.row("HP-8")
async def test_the_pages_say_that_only_login_questions_are_served(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        for path in ("login", "entry", "reissue", "help"):
            page = await member.get(f"/{ME}/{path}")
            assert in_order(
                page.text,
                "社員の方",
                DESK,
                "会社名、社員番号、保険証のお名前",
                "ログインについてのご質問だけをお受けします",
            )
            assert in_order(page.text, "任意継続の方", DESK, "保険証の番号、お名前", "ログインについてのご質問だけ")
