"""Login, sessions, and changing the password."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, select, update

from mailbot.credentials import Passwords
from mailbot.registration import login, password
from mailbot.registration.context import Context
from mailbot.registration.outcomes import Changed, LoggedIn, Refused
from mailbot.store.tables import audit, budget, member, session
from tests.support.factory import CHEAP, DAY, MINUTE, NETWORK, NOW, PASSWORD, Joined, World, texts

OTHER_PASSWORD = "yama-to-mori-7"


async def try_login(here: World, login_id: str, typed: str, network: str = NETWORK, society: str = "yokokou") -> Any:
    return await login.log_in(here.ctx, here.society(society), login_id, typed, network, here.now)


async def registered(here: World, society: str = "yokokou", login_id: str = "Hanako7", **person: Any) -> Joined:
    who = await here.join(society, **person)
    await here.register(who, login_id)
    return who


@pytest.mark.parametrize("typed", ["Hanako7", "hanako7", "ＨＡＮＡＫＯ７", " hanako7 "])
async def test_login_by_any_spelling_of_the_id(here: World, typed: str) -> None:
    who = await registered(here, nickname="はな")
    token = await here.log_in(who, typed)
    view = await login.session(here.ctx, who.society, token, here.now)
    assert view is not None
    assert (view.member_id, view.scope, view.nickname, view.login_id) == (who.id, "member", "はな", "Hanako7")
    assert view.last_login_at is None


async def test_the_home_page_tells_the_login_before(here: World) -> None:
    who = await registered(here)
    await here.log_in(who, "Hanako7")
    here.now += DAY
    view = await login.session(here.ctx, who.society, await here.log_in(who, "Hanako7"), here.now)
    assert view is not None
    assert view.last_login_at == NOW
    assert view.nickname == "Hanako7"


async def test_only_the_hash_of_a_session_is_kept(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    (row,) = await here.rows(select(session))
    assert len(token) >= 43
    assert token.encode() not in row.token_hash
    assert len(row.token_hash) == 32


async def test_every_failure_says_the_same_and_costs_one_hash(here: World) -> None:
    who = await registered(here)
    waiting = await here.join("yokokou")
    left = await registered(here, login_id="left-one")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == left.id).values(left_on="2026-11-20"))
    tries = [
        ("nobody", PASSWORD),
        ("\0", "\0"),
        ("Hanako7", "wrong"),
        ("Hanako7\0", PASSWORD),
        ("\ud800", "\ud800"),
        (waiting.login_id, waiting.password),
        ("left-one", PASSWORD),
        (who.login_id, who.password),
    ]
    answers = []
    for login_id, typed in tries:
        before = here.ctx.passwords.hashes_run
        answers.append(await try_login(here, login_id, typed))
        assert here.ctx.passwords.hashes_run == before + 1
    assert len({tuple(texts(one)) for one in answers}) == 1
    assert {one.status for one in answers} == {422}
    assert "利用登録がまだお済みでない方" in texts(answers[0])[0]
    assert await here.count(session) == 0


async def test_what_is_left_empty_is_named_and_is_no_guess(here: World) -> None:
    await registered(here)
    for login_id, typed, fields in (("", " ", ["login_id", "password"]), ("Hanako7", "", ["password"])):
        for _ in range(here.ctx.settings.site.budgets.login_failures_per_hour + 1):
            answer = await try_login(here, login_id, typed)
            assert isinstance(answer, Refused)
            assert [one.field for one in answer.complaints] == fields
            assert "password: パスワードを入力してください。" in texts(answer)
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), LoggedIn)


async def test_known_and_unknown_ids_cost_the_same_statements(here: World) -> None:
    await registered(here)
    sent: list[str] = []
    event.listen(
        here.ctx.store.engine.sync_engine, "before_cursor_execute", lambda _c, _u, statement, *_: sent.append(statement)
    )

    async def statements(login_id: str) -> list[str]:
        sent.clear()
        await try_login(here, login_id, "wrong")
        return list(sent)

    assert await statements("Hanako7") == await statements("nobody-here")


async def test_ten_wrong_ones_pause_the_id_for_that_network_only(here: World) -> None:
    who = await registered(here)
    answers = [await try_login(here, "Hanako7", "wrong") for _ in range(10)]
    paused = await try_login(here, "Hanako7", PASSWORD)
    assert texts(paused) == texts(answers[0])
    assert await here.log_in(who, "Hanako7", network="198.51.100.0/24")
    here.now += 30 * MINUTE - 1
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), Refused)
    here.now += 1
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), LoggedIn)


async def test_a_thousand_guesses_at_once_are_no_more_than_ten(here: World) -> None:
    await registered(here)
    await asyncio.gather(*(try_login(here, "Hanako7", f"wrong{n}") for n in range(30)))
    (row,) = await here.rows(select(budget.c.hour_count).where(budget.c.scope == "login", ~budget.c.subject.like("*%")))
    assert row.hour_count == 11
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), Refused)


async def test_the_right_password_forgets_the_wrong_ones(here: World) -> None:
    who = await registered(here)
    for _ in range(3):
        for _ in range(9):
            await try_login(here, "Hanako7", "wrong")
        await here.log_in(who, "Hanako7")
    (row,) = await here.rows(select(budget.c.subject, budget.c.hour_count).where(budget.c.scope == "login"))
    assert (row.subject, row.hour_count) == (f"*|{NETWORK}", 27)


async def test_a_network_that_tries_many_ids_pauses(here: World) -> None:
    who = await registered(here)
    for n in range(100):
        await try_login(here, f"nobody-{n}", "wrong")
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), Refused)
    assert await here.log_in(who, "Hanako7", network="198.51.100.0/24")


async def test_a_flood_of_forms_from_one_network_is_told_so(here: World) -> None:
    await registered(here)
    answers = [await try_login(here, "x", "y", network="198.51.100.0/24") for _ in range(121)]
    assert [one.status for one in answers] == [422] * 120 + [429]


async def test_a_megabyte_of_password_costs_no_hash(here: World) -> None:
    await registered(here)
    before = here.ctx.passwords.hashes_run
    assert isinstance(await try_login(here, "Hanako7", "x" * 1_000_000), Refused)
    assert isinstance(await try_login(here, "x" * 1_000_000, "x" * 1_000_000), Refused)
    assert here.ctx.passwords.hashes_run == before


async def test_sessions_rest_a_quarter_of_an_hour_and_end_after_one(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")

    async def alive() -> bool:
        return await login.session(here.ctx, who.society, token, here.now) is not None

    for _ in range(3):
        here.now += 15 * MINUTE - 1
        assert await alive()
    here.now += 15 * MINUTE
    assert not await alive()
    token = await here.log_in(who, "Hanako7")
    start = here.now
    while here.now < start + 60 * MINUTE - 1:
        assert await alive()
        here.now = min(here.now + 10 * MINUTE, start + 60 * MINUTE - 1)
    assert await alive()
    here.now += 1
    assert not await alive()


async def test_a_session_is_written_at_most_once_a_minute(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    seen = []
    for after in (0, 59_999, 60_000, 119_999, 120_000):
        await login.session(here.ctx, who.society, token, NOW + after)
        seen.append((await here.rows(select(session.c.seen_at)))[0].seen_at - NOW)
    assert seen == [0, 0, 60_000, 60_000, 120_000]


async def test_a_session_is_for_its_society_and_dies_at_logout_and_leaving(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    assert await login.session(here.ctx, here.society("shochiku"), token, here.now) is None
    assert await login.session(here.ctx, who.society, "x" * 43, here.now) is None
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(left_on="2026-11-20"))
    assert await login.session(here.ctx, who.society, token, here.now) is None
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(left_on="2026-11-21"))
    assert await login.session(here.ctx, who.society, token, here.now) is not None
    await login.log_out(here.ctx, who.society, token)
    assert await login.session(here.ctx, who.society, token, here.now) is None


async def test_a_hash_of_other_parameters_is_made_anew(here: World) -> None:
    who = await registered(here)
    (old,) = await here.rows(select(member.c.password_hash))
    stronger = Passwords(type(CHEAP)(CHEAP.type, 19, 16, 32, 2, 16, 1), concurrency=2)
    here.ctx = Context(here.ctx.settings, here.ctx.ring, stronger, here.ctx.store)
    await here.log_in(who, "Hanako7")
    (new,) = await here.rows(select(member.c.password_hash))
    assert new != old
    assert "m=16,t=2" in new.password_hash
    await here.log_in(who, "Hanako7")
    assert await here.rows(select(member.c.password_hash)) == [new]
    await stronger.close()


# --- changing the password -------------------------------------------------------------------------------------------


async def change(here: World, who: Joined, token: str, old: str, new: str, again: str | None = None) -> Any:
    typed = new if again is None else again
    return await password.change(here.ctx, who.society, who.id, old, new, typed, token, here.now)


async def test_changing_the_password_ends_the_other_sessions(here: World) -> None:
    who = await registered(here)
    this, other = await here.log_in(who, "Hanako7"), await here.log_in(who, "Hanako7")
    here.now += MINUTE
    done = await change(here, who, this, PASSWORD, OTHER_PASSWORD)
    assert isinstance(done, Changed)
    for dead in (this, other):
        assert await login.session(here.ctx, who.society, dead, here.now) is None
    assert await login.session(here.ctx, who.society, done.session_token, here.now) is not None
    assert isinstance(await try_login(here, "Hanako7", PASSWORD), Refused)
    assert isinstance(await try_login(here, "Hanako7", OTHER_PASSWORD), LoggedIn)
    (told,) = await here.mails("password-changed")
    assert (told.recipient, told.facts) == ("hanako@docomo.ne.jp", {"changed_at": here.now})
    assert "password-changed" in [one.event for one in await here.rows(select(audit.c.event))]


async def test_what_is_wrong_with_a_change(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    fields = []
    for old, new, again in (
        ("wrong", OTHER_PASSWORD, OTHER_PASSWORD),
        (PASSWORD, "short1", "short1"),
        (PASSWORD, OTHER_PASSWORD, OTHER_PASSWORD + "x"),
        (PASSWORD, PASSWORD, PASSWORD),
        (PASSWORD, "hanako71", "hanako71"),
    ):
        refused = await change(here, who, token, old, new, again)
        assert isinstance(refused, Refused)
        fields.append([one.field for one in refused.complaints])
    assert fields == [["old"], ["new"], ["again"], ["new"], ["new"]]
    assert await login.session(here.ctx, who.society, token, here.now) is not None


async def test_who_has_only_the_session_cannot_guess_the_password(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    for _ in range(10):
        await change(here, who, token, "wrong", OTHER_PASSWORD)
    assert isinstance(await change(here, who, token, PASSWORD, OTHER_PASSWORD), Refused)
    here.now += 30 * MINUTE
    assert isinstance(await change(here, who, token, PASSWORD, OTHER_PASSWORD), Changed)


async def test_two_changes_at_once_are_one(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    answers = await asyncio.gather(
        change(here, who, token, PASSWORD, OTHER_PASSWORD), change(here, who, token, PASSWORD, "kawa-no-soba-3")
    )
    assert sorted(type(one).__name__ for one in answers) == ["Changed", "Refused"]


async def test_a_password_of_a_year_leads_to_changing_it(here: World) -> None:
    who = await here.join("shochiku")
    await here.register(who, who.login_id)
    here.now += 365 * DAY - 1
    first = await try_login(here, who.login_id, PASSWORD, society="shochiku")
    assert isinstance(first, LoggedIn)
    assert first.scope == "member"
    here.now += 1
    later = await try_login(here, who.login_id, PASSWORD, society="shochiku")
    assert isinstance(later, LoggedIn)
    assert later.scope == "expired-password"
    done = await change(here, who, later.session_token, PASSWORD, OTHER_PASSWORD)
    assert isinstance(done, Changed)
    view = await login.session(here.ctx, who.society, done.session_token, here.now)
    assert view is not None
    assert (view.scope, view.password_expires_at) == ("member", here.now + 365 * DAY)
