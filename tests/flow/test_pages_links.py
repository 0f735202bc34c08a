"""Links of mails at the door of the pages: who may open them, how often, and what everybody else sees."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select, update

from mailbot.credentials import LinkPurpose
from mailbot.registration.people import Person
from mailbot.store import tables
from tests.support.member import Member
from tests.support.pages import House, house

HANAKO = Person(
    symbol="1", number="2", name="山田 花子", kana="ヤマダ ハナコ", birth_date="1945-08-03", nickname="はなこ"
)
TARO = Person(
    symbol="1", number="2", name="山田 太郎", kana="ヤマダ タロウ", birth_date="1943-01-02", nickname="たろう"
)
ADDRESS = "yamada@docomo.ne.jp"
CHOSEN = "sakura2026fuji"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found:
        yield found


def browser(at: House, network: str = "203.0.113.9") -> Member:
    return Member(at.url, transport=httpx2.ASGITransport(app=at.app, client=(network, 5000)))


async def _rows(at: House) -> list[tuple[object, ...]]:
    """Every row that a request could have changed."""
    found: list[tuple[object, ...]] = []
    async with at.ctx.store.read() as tx:
        for table in tables.metadata.sorted_tables:
            found += [(table.name, *row) for row in await tx.execute(select(table))]
    return found


async def test_opening_a_link_changes_nothing_and_a_scanner_cannot_spend_it(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    before = await _rows(at)
    async with browser(at) as scanner:
        for _ in range(20):
            assert (await scanner.get(link)).heading == "新規利用登録"
        assert (await scanner.client.head(link)).status_code == 200
        assert (await scanner.client.get(link, headers={"sec-purpose": "prefetch"})).status_code == 200
        assert (await scanner.client.request("OPTIONS", link)).status_code == 405
        assert await _rows(at) == before
        page = await scanner.get(link)
        assert (await scanner.submit(page, {"login_id": "", "password": ""})).status == 422
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        assert page.heading == "利用者情報入力"


async def test_the_token_leaves_the_address_line_and_the_page_tells_nobody_s_name(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    await at.letter("yokokou", "12345678", HANAKO)
    token = link.rpartition("/")[2]
    async with browser(at) as member:
        page = await member.get(link)
        assert token not in page.url + page.answer.text
        assert all(token not in value for value in member.client.cookies.values())
        for word in (ADDRESS, "山田", "はなこ"):
            assert word not in page.answer.text


async def test_every_dead_link_shows_the_same_bytes(at: House) -> None:
    alive = at.now
    links = {
        "expired": await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS, expires_at=alive),
        "used": await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS, spent_at=alive),
        "revoked": await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS, revoked_at=alive),
        "reissue expired": await at.link("yokokou", LinkPurpose.REISSUE, ADDRESS, expires_at=alive),
        "proof used": await at.link("yokokou", LinkPurpose.ADDRESS_PROOF, ADDRESS, spent_at=alive),
        "wrong door": (await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)).replace("/r/", "/p/"),
        "forged": f"{at.url}/yokokou/r/{'a' * 34}",
        "unknown": "",
    }
    gone = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with at.ctx.store.begin() as tx:
        await tx.execute(tables.link.delete().where(tables.link.c.spent_at.is_(None), tables.link.c.expires_at > alive))
    links["unknown"] = gone
    seen = set()
    for url in links.values():
        async with browser(at) as member:
            page = await member.get(url)
            assert page.status == 410
            seen.add(page.answer.content)
    assert len(seen) == 1
    (text,) = seen
    assert "touroku@yokokou.example" in text.decode()
    assert "新しいご案内をメールで受け取る" in text.decode()


async def test_a_link_opens_in_two_browsers_and_only_the_one_with_the_letter_gets_on(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as one, browser(at) as two:
        first, second = await one.get(link), await two.get(link)
        assert first.heading == second.heading
        step = await one.submit(first, {"login_id": "１２３４５６７８ ", "password": secret})
        assert step.heading == "利用者情報入力"
        other = await two.get(step.url)
        assert other.status == 403
        assert other.heading == "この画面を続けられません"


async def test_back_and_reload_after_the_end_show_facts_and_send_no_second_mail(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        fields = {"login_id": "hanako-y", "password": CHOSEN, "password_again": CHOSEN}
        done = await member.submit(page, fields)
        assert done.heading == "利用者情報登録完了"
        assert "はなこ" in done.text
        again = await member.submit(page, fields)
        assert (again.status, again.heading) == (200, "登録済みです")
        assert (await member.get(done.url)).heading == "利用者情報登録完了"
        assert (await member.get(page.url)).heading == "登録済みです"
        assert (await member.get(link)).heading == "登録済みです"
        assert await at.letters_queued("completion") == [ADDRESS]
    async with browser(at) as stranger:
        assert (await stranger.get(link)).status == 410


async def test_a_double_tap_registers_once(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        fields = {"login_id": "hanako-y", "password": CHOSEN, "password_again": CHOSEN}
        both = await asyncio.gather(member.submit(page, fields), member.submit(page, fields))
        assert {done.status for done in both} == {200}
        assert {done.heading for done in both} <= {"利用者情報登録完了", "登録済みです"}
        assert await at.letters_queued("completion") == [ADDRESS]


async def test_two_of_one_household_in_two_tabs_of_one_browser(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    hers = await at.letter("yokokou", "12345678", HANAKO)
    his = await at.letter("yokokou", "87654321", TARO)
    async with browser(at) as member:
        form = await member.get(link)
        first = await member.submit(form, {"login_id": "12345678", "password": hers})
        second = await member.submit(form, {"login_id": "87654321", "password": his})
        assert first.url != second.url
        end = await member.submit(first, {"login_id": "hanako-y", "password": CHOSEN, "password_again": CHOSEN})
        assert "はなこ さん" in end.text
        end = await member.submit(second, {"login_id": "taro-y", "password": CHOSEN, "password_again": CHOSEN})
        assert "たろう さん" in end.text


async def test_the_next_of_the_family_gets_a_fresh_link_from_the_last_page(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        done = await member.submit(page, {"login_id": "hanako-y", "password": CHOSEN, "password_again": CHOSEN})
        after = await member.submit(done, button="家族の登録を続ける（メールを送る）")
        assert "ご案内のメールを送りました" in after.text
        assert await at.letters_queued("invitation") == [ADDRESS]
        assert "ご案内のメールを送りました" in (await member.get(after.url)).text
        assert await at.letters_queued("invitation") == [ADDRESS]


async def test_what_was_typed_can_be_looked_at_and_is_kept_after_a_mistake(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        shown = await member.submit(
            page, {"login_id": "hanako-y", "password": CHOSEN, "nickname": "花"}, button="入力した文字を表示する"
        )
        (box,) = shown.tree.xpath("//input[@name='password']")
        assert (box.get("type"), box.get("value")) == ("text", CHOSEN)
        assert shown.value("login_id") == "hanako-y"
        wrong = await member.submit(page, {"login_id": "hanako12", "password": CHOSEN, "nickname": "花"})
        assert wrong.status == 422
        assert wrong.tree.xpath("string(//title)").startswith("エラー：")
        assert (wrong.value("login_id"), wrong.value("nickname"), wrong.value("password")) == ("hanako12", "花", "")
        assert any("7文字目と8文字目" in error for error in wrong.errors)
        assert any("確認" in error or "2回" in error for error in wrong.errors)


async def test_a_step_that_is_not_the_current_one_leads_to_the_current_one(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        before = await _rows(at)
        other = await member.submit(page, {"step": "enter-key", "login_id": "x"})
        assert (other.status, other.heading) == (200, "利用者情報入力")
        changed = set(map(repr, await _rows(at))) ^ set(map(repr, before))
        assert all("'budget'" in row for row in changed)
        assert (await member.get(page.url + "/done")).heading == "利用者情報入力"


async def test_a_journey_begun_in_time_may_be_finished_after_the_link_expired(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    secret = await at.letter("yokokou", "12345678", HANAKO)
    async with browser(at) as member:
        at.now += 179 * 60_000
        page = await member.submit(await member.get(link), {"login_id": "12345678", "password": secret})
        at.now += 59 * 60_000
        assert (await member.get(link)).heading == "利用者情報入力"
        assert (await member.get(page.url)).heading == "利用者情報入力"
        at.now += 2 * 60_000
        assert (await member.get(page.url)).status == 410


async def test_a_paused_society_says_so_on_every_page(at: House) -> None:
    link = await at.link("yokokou", LinkPurpose.REGISTRATION, ADDRESS)
    async with at.ctx.store.begin() as tx:
        await tx.execute(tables.society_state.insert().values(society="yokokou", paused_at=at.now, paused_reason="x"))
    async with browser(at) as member:
        for url in (link, "/yokokou/login", "/yokokou/entry", "/yokokou/reissue"):
            page = await member.get(url)
            assert (page.status, page.heading) == (503, "ただいま、受付をお休みしています")
            assert "045-000-0000" in page.text
        assert (await member.get("/shochiku/login")).status == 200
    async with at.ctx.store.begin() as tx:
        await tx.execute(update(tables.society_state).values(paused_at=None))
    async with browser(at) as member:
        assert (await member.get(link)).status == 200
