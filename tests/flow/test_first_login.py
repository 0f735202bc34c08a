"""First logins by formula and registrations without a mail first, roughly handled: guesses, two windows, double taps,
old pages, no cookies. From outside, on a robot of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.flow.test_rows_kenpos import CONFIRM, PHONE, SOCIETY, agree, child, formula, give, row, to_mail
from tests.support.member import Member, Page
from tests.support.rows import PASSWORD, Stage, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PEOPLE = [
    *(row(f"3000{n:02}", f"試験{n}", f"シケン {chr(0x30A2 + 2 * n)}", f"1970-01-{n + 1:02}") for n in range(28)),
    *(row(f"4000{n:02}", f"家族{n}", f"カゾク {chr(0x30A2 + 2 * n)}", f"1980-02-{n + 1:02}", "子") for n in range(5)),
]
ODD = ["", "　", "x" * 1000, "ﾊﾝｶｸ", "'; DROP TABLE member; --", "<b>", "＝cmd", "\u202e", "٣" * 8, "0" * 64]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("first"), {SOCIETY: []}) as made:
        await asyncio.to_thread(made.robot.import_roster, SOCIETY, *PEOPLE)
        yield made


@pytest.mark.parametrize("typed", ODD, ids=range(len(ODD)))
async def test_odd_input_on_both_pages_of_the_login_gets_a_sentence(here: Stage, typed: str) -> None:
    before = await here.kept("member", "journey")
    async with Member(here.robot.web) as member:
        first = await member.get(f"/{SOCIETY}/login")
        page = await member.submit(first, {"login_id": typed})
        assert page.status in (200, 422)
        second = await member.submit(first, {"login_id": formula(9)[0]})
        refused = await member.submit(second, {"password": typed})
        assert refused.status == 422
        assert refused.errors
        assert refused.value("login_id") == formula(9)[0]
    assert await here.kept("member", "journey") == before


@pytest.mark.parametrize("typed", ODD, ids=range(len(ODD)))
async def test_odd_input_on_every_step_gets_a_sentence_and_changes_nothing(here: Stage, typed: str) -> None:
    address = here.new_address()
    async with Member(here.robot.web) as member:
        start = await member.get(f"/{SOCIETY}/direct?journey=family")
        for name in ("symbol", "number", "kana", "birth_date_year", "birth_date_month", "birth_date_day"):
            bad = await member.submit(start, {**child(4), name: typed})
            assert (bad.status in (422, 429), bool(bad.errors)) == (True, True), (name, bad.text)
    async with Member(here.robot.web) as member:
        consent = await give(member, *formula(10))
        settings = await agree(member, consent)
        good = {"address": address, "password": PASSWORD, "password_again": PASSWORD}
        for name in ("address", "password", "password_again"):
            bad = await member.submit(settings, {**good, name: typed}, button="確認ステップに進む")
            assert bad.status == 422, (name, bad.text)
            assert bad.errors
    assert here.sink.to(address) == []


async def test_without_cookies_a_page_says_what_to_do(here: Stage) -> None:
    async with Member(here.robot.web) as member:
        first = await member.get(f"/{SOCIETY}/login")
        member.client.cookies.clear()
        refused = await member.submit(first, {"login_id": formula(11)[0]})
        assert refused.status == 403
        assert "Cookie" in refused.text
        consent = await give(member, *formula(11))
        member.client.cookies.clear()
        told = await member.get(consent.url)
        assert (told.status, "Cookie" in told.text, PHONE in told.text) == (403, True, True)


async def test_two_windows_are_two_logins(here: Stage) -> None:
    async with Member(here.robot.web) as member:
        one = await member.submit(await member.get(f"/{SOCIETY}/login"), {"login_id": formula(12)[0]})
        two = await member.submit(await member.get(f"/{SOCIETY}/login"), {"login_id": formula(13)[0]})
        assert (await member.submit(one, {"password": formula(12)[1]})).heading == (
            await member.submit(two, {"password": formula(13)[1]})
        ).heading


async def test_a_double_tap_on_every_button_is_one(here: Stage) -> None:
    address = here.new_address()
    async with Member(here.robot.web) as member:

        async def twice(page: Page, fields: dict[str, str], button: str) -> Page:
            first, second = await asyncio.gather(*(member.submit(page, fields, button=button) for _ in range(2)))
            assert (first.status, second.status) == (200, 200), (first.text, second.text)
            return await member.get(first.url)

        page = await give(member, *formula(14))
        page = await twice(page, {}, "最後まで読みました")
        page = await twice(page, {"agree": "yes"}, "基本設定ステップに進む")
        typed = {"address": address, "password": PASSWORD, "password_again": PASSWORD}
        page = await twice(page, typed, "確認ステップに進む")
        page = await twice(page, {}, "メールを送信する")
        assert page.heading == "メールを開いて登録を終える"
        behind = await member.get(await here.link(address, CONFIRM))
        answers = await asyncio.gather(*(member.submit(behind, {"password": PASSWORD}) for _ in range(2)))
        assert any("完了" in one.heading for one in answers)
        assert all(one.status in (200, 410) for one in answers)
    assert len(await here.mails(address, "利用登録完了のご案内")) == 1
    assert len(await here.mails(address, CONFIRM)) == 1


async def test_an_old_page_sent_again_leads_to_where_the_journey_stands(here: Stage) -> None:
    address = here.new_address()
    async with Member(here.robot.web) as member:
        consent = await give(member, *formula(15))
        settings = await agree(member, consent)
        typed = {"address": address, "password": PASSWORD, "password_again": PASSWORD}
        review = await member.submit(settings, typed, button="確認ステップに進む")
        for old in (consent, settings):
            again = await member.submit(old, {} if old is consent else typed)
            assert again.heading == review.heading
        waiting = await member.submit(review, button="メールを送信する")
        for old in (settings, review):
            again = await member.submit(old, typed if old is settings else {})
            assert again.heading == waiting.heading
    assert len(await here.mails(address, CONFIRM)) == 1


async def test_the_screen_that_waited_is_told_that_the_rest_happened_elsewhere(here: Stage) -> None:
    address = here.new_address()
    async with Member(here.robot.web) as desk, Member(here.robot.web) as phone:
        waiting = await to_mail(desk, await give(desk, *formula(16)), address)
        done = await phone.submit(await phone.get(await here.link(address, CONFIRM)), {"password": PASSWORD})
        assert "完了" in done.heading
        told = await desk.get(waiting.url)
        assert told.status in (403, 410)
        assert "別の" in told.text or "ほかの" in told.text, told.text


async def test_ten_wrong_passwords_behind_the_link_end_it(here: Stage) -> None:
    address = here.new_address()
    async with Member(here.robot.web) as member:
        await to_mail(member, await give(member, *formula(17)), address)
        page = await member.get(await here.link(address, CONFIRM))
        for _ in range(10):
            page = await member.submit(page, {"password": "wrong-one-77"})
        assert (page.status, page.heading) == (410, "この手続きを終わりました")
        assert "ログインIDと生年月日" in page.text
        assert (await give(member, *formula(17))).heading == "個人情報の取扱いと利用規約への同意"


async def test_five_wrong_birth_dates_end_the_day_and_many_accounts_close_it_for_all(here: Stage) -> None:
    done = here.new_address()
    async with Member(here.robot.web) as member:
        await to_mail(member, await give(member, *formula(18)), done)
        await member.submit(await member.get(await here.link(done, CONFIRM)), {"password": PASSWORD})
    async with Member(here.robot.web) as member:
        for day in range(5):
            assert (await give(member, formula(19)[0], f"1981010{day + 1}")).status == 422
        paused = await give(member, *formula(19))
        assert (paused.status, "5回違うと" in paused.errors[0]) == (422, True)
        # a morning later, from the eyes of the limit on the network: its hour is over
        await here.sql("UPDATE budget SET hour_count = 0 WHERE scope IN ('formula-network', 'login')")
        for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21):
            await give(member, formula(n)[0], "19811231")
        closed = await give(member, *formula(22))
        assert closed.status == 422
        assert "今日は止めています" in closed.errors[0]
        assert "0時00分から" in closed.errors[0]
        front = await member.get(f"/{SOCIETY}/login")
        assert "お休みしています" in front.text
        assert PHONE in front.text
        # who is registered logs in as ever
        assert (await give(member, formula(18)[0], PASSWORD)).url.endswith("/home")
    (alarms,) = await here.sql("SELECT count(*) FROM alarm WHERE kind = 'formula-login-closed'")
    assert alarms == (1,)
