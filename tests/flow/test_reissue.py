"""A forgotten login from outside, in every shape a society may choose: mails over SMTP, pages over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in
from tests.support.robot import body, link_in
from tests.support.rows import (
    DAY,
    HOUR,
    NEXT_PASSWORD,
    PASSWORD,
    Account,
    Stage,
    buttons,
    in_order,
    labels,
    stage,
)
from tests.support.sink import Taken

pytestmark = pytest.mark.asyncio(loop_scope="module")
AGAIN, WHO, STAFF = "パスワード再発行のご案内", "ご本人の確認のお願い", "窓口へのご連絡のお願い"
PAPER, TOLD, ID = "パスワード再発行についてのお知らせ", "再発行のお申し込みのお知らせ", "ログインIDのご案内"
SENT, DEAD, CHANGED = "メールをご覧ください", "このリンクは使えません", "パスワードを変更しました"


def _file(name: str, reissue: str) -> str:
    """A society with paper credentials and this rule."""
    return f"""
name = "{name}健康保険組合"

[addresses]
robot = "info@{name}.example"
bounce = "bounce@{name}.example"

[[help]]
kind = "phone"
name = "{name}健康保険組合の窓口"
value = "06-0000-0000"

[journeys.paper]
starts = ["web-form"]
steps = ["temporary-login", "credentials"]

[reissue]
{reissue}
"""


FILES = {
    "hama": _file("hama", ""),
    "yama": _file("yama", 'separate_login_id = true\nshared_address = "paper-only"'),
    "kawa": _file("kawa", 'stale_asks = "staff"\nmails_an_hour = 2'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    people: dict[str, list[dict[str, str]]] = {name: [] for name in FILES}
    async with stage(tmp_path_factory.mktemp("reissue"), people, FILES) as running:
        yield running


async def ask(at: Stage, society: str, address: str, place: str = "reissue") -> Page:
    async with Member(at.robot.web) as member:
        page = await member.submit(await member.get(f"/{society}/{place}"), {"address": address})
    assert page.heading == SENT
    return page


async def mail(at: Stage, society: str, address: str, subject: str, place: str = "reissue") -> Taken:
    """The first mail of this subject, after asking."""
    await ask(at, society, address, place)
    return (await at.mails(address, subject))[0]


async def rest(at: Stage, account: Account, days: int = 181) -> None:
    """Nobody logged in nor proved the address for so long."""
    ms = days * DAY
    await at.sql("UPDATE member SET registered_at = registered_at - ?1, last_login_at = last_login_at - ?1 "
                 "WHERE login_id = ?2", ms, account.login_id)  # fmt: skip
    await at.sql("UPDATE address SET proved_at = proved_at - ?1 WHERE address = ?2", ms, account.address)


async def second_address(at: Stage, society: str, account: Account) -> str:
    """One more proved address."""
    second = at.new_address()
    async with at.logged_in(society, account) as (member, home):
        page = await member.follow(home, "プロフィール設定")
        fields = {"nickname": "なみ", "address_2": second, "password": PASSWORD}
        await member.submit(page, fields)
        proof = await member.get(await at.link(second, "メールアドレスの確認のお願い"))
        await member.submit(proof, button="このアドレスを使う")
    return second


async def settled(at: Stage) -> None:
    """Every wish was read, and all mails are out."""
    for _ in range(400):
        wishes = await at.sql("SELECT 1 FROM link WHERE purpose LIKE '%-request'")
        waiting = await at.sql("SELECT 1 FROM outbox WHERE state = 'queued'")
        if not wishes and not waiting:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("mails still wait")


def subjects(at: Stage, address: str) -> list[str]:
    """What came after the registration."""
    return [str(one.message["Subject"]) for one in at.sink.to(address) if "利用登録" not in str(one.message["Subject"])]


def new_password(text: str = NEXT_PASSWORD) -> dict[str, str]:
    return {"password": text, "password_again": text}


def birth(year: str, month: str, day: str) -> dict[str, str]:
    return {"birth_year": year, "birth_month": month, "birth_day": day}


# --- a link alone -----------------------------------------------------------------------------------------------------


async def test_a_link_alone_leads_to_the_new_password_and_tells_the_id(at: Stage) -> None:
    account = await at.register("hama")
    second = await second_address(at, "hama", account)
    sent = await mail(at, "hama", account.address, AGAIN)
    assert account.login_id not in body(sent)
    assert "仮パスワード" not in body(sent)
    (told,) = await at.mails(second, TOLD)
    assert "http" not in body(told)
    assert in_order(body(told), "なみ 様", "お申し込みがありました", "おぼえがないとき", "窓口")
    async with Member(at.robot.web) as member, Member(at.robot.web) as other:
        page = await member.get(link_in(sent))
        assert page.heading == "パスワード変更（パスワード再発行）"
        assert account.login_id in page.text
        assert labels(page) == ["新しいパスワード", "パスワード確認"]
        stale_tab = await member.get(link_in(sent))
        for typed in ({"password": "", "password_again": ""}, new_password("短い"), new_password("x" * 300)):
            refused = await member.submit(page, typed)
            assert (refused.status, bool(refused.errors)) == (422, True)
        done = await member.submit(page, new_password())
        assert done.heading == CHANGED
        for again in (await member.submit(stale_tab, new_password("Nidome-2028-umi")), await member.get(link_in(sent))):
            assert again.heading == CHANGED
        assert (await other.get(link_in(sent))).heading == DEAD
        for place in (account.address, second):
            await at.mails(place, "パスワード変更のお知らせ")
        assert (await log_in(member, "hama", account.login_id, PASSWORD)).status == 422
        assert (await log_in(member, "hama", account.login_id, "Nidome-2028-umi")).status == 422
        assert (await log_in(member, "hama", account.login_id, NEXT_PASSWORD)).url.endswith("/home")


async def test_a_link_dies_after_three_hours(at: Stage) -> None:
    account = await at.register("hama")
    sent = await mail(at, "hama", account.address, AGAIN)
    async with Member(at.robot.web) as member:
        page = await member.get(link_in(sent))
        await at.age_links(account.address, 3 * HOUR)
        for late in (await member.submit(page, new_password()), await member.get(link_in(sent))):
            assert (late.status, late.heading) == (410, DEAD)
            assert late.link("忘れた方").endswith("/hama/reissue")
    async with at.logged_in("hama", account):
        pass


async def test_wrong_addresses_are_named_and_nothing_is_mailed(at: Stage) -> None:
    before = await at.kept("link", "outbox")
    async with Member(at.robot.web) as member:
        for place in ("hama/reissue", "yama/reissue", "yama/reissue-id"):
            page = await member.get(f"/{place}")
            for typed in (
                "",
                "hanako",
                "ﾊﾅｺ@ﾄﾞｺﾓ",
                "a@b@c.example",
                "a" * 400 + "@phone.example",
                "a@b\r\nBcc: c@d.example",
            ):
                refused = await member.submit(page, {"address": typed})
                assert refused.status == 422, typed
                assert refused.errors[0].startswith("メールアドレス"), typed
    assert await at.kept("link", "outbox") == before


# --- old addresses ----------------------------------------------------------------------------------------------------


async def test_an_old_address_is_asked_the_birth_date(at: Stage) -> None:
    account = await at.register("hama")
    second = await second_address(at, "hama", account)
    await rest(at, account)
    await at.sql("UPDATE address SET proved_at = proved_at - ?1 WHERE address = ?2", 181 * DAY, second)
    sent = await mail(at, "hama", account.address, WHO)
    for secret in (account.login_id, "なみ", "1970"):
        assert secret not in body(sent)
    (told,) = await at.mails(second, TOLD)
    assert "なみ" not in body(told)
    async with Member(at.robot.web) as member, Member(at.robot.web) as thief:
        page = await member.get(link_in(sent))
        assert page.heading == "ご本人の確認"
        assert account.login_id not in page.text
        for typed, words in {
            ("", "", ""): "生年月日の「年」を入力してください。",
            ("70", "4", "1"): "「昭和20」のように",
            ("1970", "4", "31"): "実際にある日付",
            ("2970", "4", "1"): "今日までの日付",
            ("<b>", "1' OR 1", "ﾃｽﾄ"): "「年」は",
        }.items():
            refused = await member.submit(page, birth(*typed))
            assert refused.status == 422, typed
            assert words in refused.errors[0], typed
        refused = await member.submit(page, birth("1970", "4", "2"))
        assert refused.errors == [
            "生年月日が違います。ご家族あてのメールを開いていないかお確かめのうえ、もう一度入力してください。"
            "あと4回違うと、このリンクは使えなくなります。"
        ]
        assert [refused.value(name) for name in birth("", "", "")] == ["1970", "4", "2"]
        passed = await member.submit(page, birth("昭和４５年", "４月", "１日"))
        assert passed.heading == "パスワード変更（パスワード再発行）"
        assert account.login_id in passed.text
        page_of_thief = await thief.get(link_in(sent))
        assert page_of_thief.heading == "ご本人の確認"  # what one browser proved counts there alone
        assert (await thief.get(passed.url)).heading == "ご本人の確認"
        assert (await member.submit(passed, new_password())).heading == CHANGED
        assert (await thief.submit(page_of_thief, birth("1970", "4", "1"))).heading == DEAD
        assert (await log_in(member, "hama", account.login_id, NEXT_PASSWORD)).url.endswith("/home")


async def test_five_wrong_birth_dates_end_the_link(at: Stage) -> None:
    account = await at.register("hama")
    await rest(at, account)
    sent = await mail(at, "hama", account.address, WHO)
    async with Member(at.robot.web) as member:
        page = await member.get(link_in(sent))
        answers = await asyncio.gather(*(member.submit(page, birth("1971", "1", str(n))) for n in range(1, 9)))
        assert sorted(one.status for one in answers) == [410] * 4 + [422] * 4
        assert (await member.submit(page, birth("1970", "4", "1"))).heading == DEAD
    async with at.logged_in("hama", account):
        pass
    timeline = at.robot.command("audit", "export", "--json").stdout
    assert "reissue-link-revoked" in timeline


async def test_the_birth_date_expires_with_its_link(at: Stage) -> None:
    account = await at.register("hama")
    await rest(at, account)
    sent = await mail(at, "hama", account.address, WHO)
    async with Member(at.robot.web) as member:
        page = await member.get(link_in(sent))
        await at.age_links(account.address, 3 * HOUR)
        late = await member.submit(page, birth("1970", "4", "1"))
        assert (late.status, late.heading) == (410, DEAD)


async def test_staff_are_asked_where_that_is_the_rule(at: Stage) -> None:
    account = await at.register("kawa")
    await rest(at, account)
    sent = await mail(at, "kawa", account.address, STAFF)
    assert "http" not in body(sent)
    assert in_order(body(sent), "窓口へご連絡ください", "06-0000-0000")
    assert "reissue-needs-staff" in at.robot.command("audit", "export", "--json").stdout


# --- shared addresses -------------------------------------------------------------------------------------------------


async def test_three_share_an_address(at: Stage) -> None:
    address = at.new_address()
    three = [await at.register("hama", address=address, nickname=name) for name in ("父", "母", "子")]
    for _ in range(3):
        await ask(at, "hama", address)
    mails = await at.mails(address, AGAIN, 3)
    await settled(at)
    assert len(await at.mails(address, AGAIN)) == 3
    for name, account in zip(("父", "母", "子"), three, strict=True):
        (mine,) = (one for one in mails if f"{name} 様" in body(one))
        async with Member(at.robot.web) as member:
            page = await member.get(link_in(mine))
            assert account.login_id in page.text
            assert (await member.submit(page, new_password())).heading == CHANGED
            assert (await log_in(member, "hama", account.login_id, NEXT_PASSWORD)).url.endswith("/home")


async def test_paper_only_for_a_shared_address(at: Stage) -> None:
    address, alone = at.new_address(), await at.register("yama")
    for _ in range(2):
        await at.register("yama", address=address)
    pages = {(await ask(at, "yama", one)).text.replace(one, "") for one in (address, alone.address, at.new_address())}
    assert len(pages) == 1
    await ask(at, "yama", address, "reissue-id")
    await at.mails(alone.address, AGAIN)
    (sent,) = await at.mails(address, PAPER)
    await settled(at)
    assert subjects(at, address) == [PAPER]
    assert in_order(body(sent), "複数の方", "窓口へご連絡ください", "新しい書面", "06-0000-0000")
    assert "http" not in body(sent)


# --- a forgotten login ID ---------------------------------------------------------------------------------------------


async def test_the_forgotten_id_has_a_way_of_its_own(at: Stage) -> None:
    account = await at.register("yama")
    async with Member(at.robot.web) as member:
        login = await member.get("/yama/login")
        assert login.link("パスワードをお忘れの方").endswith("/yama/reissue")
        page = await member.follow(login, "ログインIDをお忘れの方")
        assert page.heading == "ログインIDのお知らせ"
        assert (labels(page), buttons(page)) == (["メールアドレス"], ["送信"])
        pages = []
        for address in (at.new_address(), account.address):
            answer = await member.submit(await member.get(page.url), {"address": address})
            pages.append((answer.status, answer.url, answer.answer.text.replace(address, "")))
        assert pages[0] == pages[1]
        (sent,) = await at.mails(account.address, ID)
        assert account.login_id in body(sent)
        assert link_in(sent).endswith("/yama/login")
        again = await mail(at, "yama", account.address, AGAIN)
        changing = await member.get(link_in(again))
        assert account.login_id not in changing.text
        assert (await member.submit(changing, new_password())).heading == CHANGED
    async with Member(at.robot.web) as member:
        for place in ("reissue-id", "reissue-id/sent"):
            assert (await member.get(f"/hama/{place}")).status == 404


async def test_known_and_unknown_addresses_look_and_leave_the_same(at: Stage) -> None:
    account = await at.register("kawa")
    seen = []
    for address in (account.address, at.new_address()):
        async with Member(at.robot.web) as member:
            page = await member.submit(await member.get("/kawa/reissue"), {"address": address})
            text = re.sub(r'name="form-key" value="[^"]*"', "", page.answer.text.replace(address, ""))
            seen.append((page.status, page.url, text, sorted(member.client.cookies)))
    assert seen[0] == seen[1]
    await at.mails(account.address, AGAIN)


async def test_two_tabs_set_one_password(at: Stage) -> None:
    account = await at.register("kawa")
    sent = await mail(at, "kawa", account.address, AGAIN)
    async with Member(at.robot.web) as one, Member(at.robot.web) as two:
        pages = [await one.get(link_in(sent)), await two.get(link_in(sent))]
        passwords = [NEXT_PASSWORD, "Nidome-2028-umi"]
        ends = await asyncio.gather(
            *(
                who.submit(page, new_password(text))
                for who, page, text in zip((one, two), pages, passwords, strict=True)
            )
        )
        assert sorted(end.heading for end in ends) == sorted([CHANGED, DEAD])
        won = passwords[[end.heading for end in ends].index(CHANGED)]
        assert (await log_in(one, "kawa", account.login_id, won)).url.endswith("/home")
