"""Credentials on paper: guessing, pausing, dying, leaving."""

from typing import Any

import pytest
from sqlalchemy import event, select, update

from mailbot.config import Start
from mailbot.registration import journeys
from mailbot.registration.outcomes import Begun, Refused
from mailbot.registration.steps.temporary_login import FAILURES_A_PAUSE
from mailbot.store.tables import audit, member, temporary
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, NOW, Joined, World, texts

ADDRESS = "hanako@docomo.ne.jp"


async def attempt(here: World, who: Joined, password: str, network: str = NETWORK, login_id: str | None = None) -> Any:
    link_id = await here.link(who.society.id, ADDRESS)
    form = {"login_id": who.login_id if login_id is None else login_id, "password": password}
    return await journeys.begin(here.ctx, who.society, Start.WEB_FORM, link_id, form, network, here.now)


async def test_what_people_type_is_forgiven(here: World) -> None:
    who = await here.join("yokokou", login_id="1234-5678", password="87654321")
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    for login_id in ("12345678", "1234 5678", "１２３４－５６７８", "12345678".translate(wide), "　12345678 "):
        assert isinstance(await attempt(here, who, "8765-4321", login_id=login_id), Begun), login_id
    assert isinstance(await attempt(here, who, "８７６５　４３２１"), Begun)


async def test_letters_without_case_may_be_typed_in_capitals(here: World) -> None:
    who = await here.join("shochiku")
    assert isinstance(await attempt(here, who, who.password.upper()), Begun)


async def test_a_password_the_roster_brought_counts_as_printed(here: World) -> None:
    who = await here.join("shochiku", password="aBcDeFgH")
    assert isinstance(await attempt(here, who, "abcdefgh"), Refused)
    assert isinstance(await attempt(here, who, "aBcDeFgH"), Begun)


async def test_one_sentence_whatever_is_wrong(here: World) -> None:
    live = await here.join("yokokou")
    used = await here.join("yokokou")
    await here.register(used, "used-one", "other@docomo.ne.jp")
    left = await here.join("yokokou", left_on="2026-11-20")
    ended = await here.join("yokokou", expires_at=NOW)
    answers = [
        await attempt(here, live, "wrong"),
        await attempt(here, live, live.password, login_id="00000000"),
        await attempt(here, live, "\0", login_id="\0"),
        await attempt(here, live, "\ud800", login_id="\ud800"),
        await attempt(here, used, used.password),
        await attempt(here, left, left.password),
        await attempt(here, ended, ended.password),
    ]
    assert {tuple(texts(one)) for one in answers} == {tuple(texts(answers[0]))}
    assert {one.status for one in answers} == {422}
    assert "ログイン画面" in texts(answers[0])[0]


async def test_what_is_left_empty_is_named_and_is_no_guess(here: World) -> None:
    live = await here.join("yokokou")
    for _ in range(FAILURES_A_PAUSE + 1):
        assert texts(await attempt(here, live, " ")) == ["password: 仮パスワードを入力してください。"]
        assert texts(await attempt(here, live, "x", login_id="")) == ["login_id: ログインIDを入力してください。"]
    assert isinstance(await attempt(here, live, live.password), Begun)


async def test_known_and_unknown_ids_cost_the_same_statements(here: World) -> None:
    who = await here.join("yokokou")
    await attempt(here, who, who.password)
    link_id = await here.link("yokokou", ADDRESS)
    sent: list[str] = []
    event.listen(
        here.ctx.store.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement),
    )

    async def statements(login_id: str) -> list[str]:
        sent.clear()
        form = {"login_id": login_id, "password": "wrong"}
        await journeys.begin(here.ctx, who.society, Start.WEB_FORM, link_id, form, NETWORK, here.now)
        return list(sent)

    assert await statements(who.login_id) == await statements("00000000")


async def test_ten_failures_pause_a_letter_and_pauses_double(here: World) -> None:
    who = await here.join("yokokou")
    pauses = []
    for failure in range(1, 100):
        await attempt(here, who, "wrong", network=f"n{failure}")
        (row,) = await here.rows(select(temporary.c.failures, temporary.c.paused_until, temporary.c.state))
        assert (row.failures, row.state) == (failure, "live")
        if row.paused_until is None:
            assert failure % 10
            continue
        pauses.append((row.paused_until - here.now) // MINUTE)
        here.now = row.paused_until - 1
        refused = await attempt(here, who, who.password, network=f"p{failure}")  # right, but too early
        assert texts(refused) == texts(await attempt(here, who, "wrong", network=f"q{failure}"))
        here.now += 1
    assert pauses == [30, 60, 120, 240, 480, 960, 1440, 1440, 1440]
    assert isinstance(await attempt(here, who, who.password, network="right"), Begun)


async def test_a_hundred_failures_kill_a_letter(here: World) -> None:
    who = await here.join("yokokou")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(temporary).values(failures=99))
    await attempt(here, who, "wrong")
    (row,) = await here.rows(select(temporary.c.state, temporary.c.ended_at))
    assert (row.state, row.ended_at) == ("dead", NOW)
    here.now += 30 * DAY
    assert isinstance(await attempt(here, who, who.password), Refused)
    assert [one.event for one in await here.rows(select(audit.c.event))] == ["letter-paused"]


async def test_the_right_password_forgives_the_failures(here: World) -> None:
    who = await here.join("yokokou")
    for _ in range(9):
        await attempt(here, who, "wrong")
    assert isinstance(await attempt(here, who, who.password), Begun)
    await attempt(here, who, "wrong")
    assert (await here.rows(select(temporary.c.failures, temporary.c.paused_until))) == [(1, None)]


async def test_limits_are_halved_where_no_mail_comes_first(here: World) -> None:
    who = await here.join("shochiku", address="taro@company.example")
    for _ in range(5):
        form = {"login_id": who.login_id, "password": "wrong"}
        await journeys.begin(here.ctx, who.society, Start.PAGE, None, form, NETWORK, here.now)
    (row,) = await here.rows(select(temporary.c.paused_until))
    assert row.paused_until == here.now + 30 * MINUTE


@pytest.mark.parametrize(("strict", "allowed"), [(False, 100), (True, 50)])
async def test_a_network_that_guesses_is_stopped_and_others_are_not(here: World, strict: bool, allowed: int) -> None:
    who = await here.join("shochiku", address="taro@company.example")
    link_id = None if strict else await here.link("shochiku", ADDRESS)
    start = Start.PAGE if strict else Start.WEB_FORM

    async def guess(network: str, login_id: str = "00000000", password: str = "wrong") -> Any:
        form = {"login_id": login_id, "password": password}
        return await journeys.begin(here.ctx, who.society, start, link_id, form, network, here.now)

    statuses = [(await guess("one")).status for _ in range(allowed + 1)]
    assert statuses == [422] * allowed + [429]
    assert (await guess("one", who.login_id, who.password)).status == 429
    assert isinstance(await guess("two", who.login_id, who.password), Begun)
    here.now += HOUR
    assert isinstance(await guess("one", who.login_id, who.password), Begun)


async def test_leaving_kills_the_letter_on_that_day_in_japan(here: World) -> None:
    here.now = 1_795_186_799_999  # 2026-11-20 23:59:59.999 in Japan
    who = await here.join("yokokou", left_on="2026-11-21")
    assert isinstance(await attempt(here, who, who.password), Begun)
    here.now += 1
    assert isinstance(await attempt(here, who, who.password), Refused)


async def test_a_letter_without_an_end_opens_years_later(here: World) -> None:
    who = await here.join("yokokou")
    here.now += 3000 * DAY
    assert isinstance(await attempt(here, who, who.password), Begun)


async def test_a_letter_of_a_compromised_key_is_dead(here: World) -> None:
    who = await here.join("yokokou")
    ring = here.ctx.ring.rotate_compromised(here.now)
    here.ctx = type(here.ctx)(here.ctx.settings, ring, here.ctx.passwords, here.ctx.store)
    assert isinstance(await attempt(here, who, who.password), Refused)


async def test_a_letter_opens_no_other_society(here: World) -> None:
    who = await here.join("yokokou", login_id="11112222", password="33334444")
    link_id = await here.link("shochiku", ADDRESS)
    form = {"login_id": "11112222", "password": "33334444"}
    society = here.society("shochiku")
    refused = await journeys.begin(here.ctx, society, Start.WEB_FORM, link_id, form, NETWORK, here.now)
    assert isinstance(refused, Refused)
    assert await here.count(member, member.c.id == who.id) == 1
