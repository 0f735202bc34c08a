"""Letters on paper: made anew, printed once, reprinted, revoked; on both databases."""

from typing import Any

from sqlalchemy import select, update

from mailbot import credentials
from mailbot.config import Start
from mailbot.credentials import Format
from mailbot.registration import journeys, people
from mailbot.registration.letters_on_paper import carry_out, new_letter, new_letters, plan
from mailbot.registration.outcomes import Begun, Refused
from mailbot.store.tables import member, temporary
from tests.support.factory import DAY, NETWORK, Joined, World

ADDRESS = "hanako@docomo.ne.jp"


async def attempt(here: World, who: Joined, login_id: str, password: str) -> Any:
    link_id = await here.link(who.society.id, ADDRESS)
    form = {"login_id": login_id, "password": password}
    return await journeys.begin(here.ctx, who.society, Start.WEB_FORM, link_id, form, NETWORK, here.now)


async def letters(here: World, who: Joined) -> list[Any]:
    async with here.ctx.store.read() as tx:
        mine = temporary.c.member_id == who.id
        return list((await tx.execute(select(temporary).where(mine).order_by(temporary.c.state))).all())


def printed(here: World, who: Joined, row: Any) -> tuple[str, str]:
    """What stands on paper."""
    ring, place = here.ctx.ring, (who.society.id, "temporary", "sealed_login_id", row.id)
    password = credentials.password(ring, row.kid, who.society.id, row.id, row.generation, Format.parse(row.format))
    return people.open_text(ring, row.sealed_login_id, *place), password


async def test_a_new_letter_works_and_ends_the_old_one(here: World) -> None:
    who = await here.join("yokokou", password="87654321")
    async with here.ctx.store.begin() as tx:
        made = await new_letter(here.ctx, tx, who.society, who.id, here.now)
    live, revoked = await letters(here, who)
    assert (live.id, live.state, live.generation, live.sealed_password) == (made, "live", 0, None)
    assert (revoked.id, revoked.state, revoked.ended_at) == (who.letter, "revoked", here.now)
    login_id, password = printed(here, who, live)
    assert login_id != who.login_id
    assert Format.parse(who.society.temporary.login_id).fits(login_id)
    assert isinstance(await attempt(here, who, who.login_id, who.password), Refused)
    assert isinstance(await attempt(here, who, login_id, password), Begun)


async def test_a_member_without_any_letter_gets_one(here: World) -> None:
    who = await here.join("yokokou")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(temporary).where(temporary.c.id == who.letter).values(state="dead", failures=100))
        await new_letter(here.ctx, tx, who.society, who.id, here.now)
    live = (await letters(here, who))[1]
    assert (live.state, live.failures) == ("live", 0)
    assert isinstance(await attempt(here, who, *printed(here, who, live)), Begun)


async def test_a_reprint_keeps_the_login_id_and_ends_journeys_begun_with_the_old_password(here: World) -> None:
    who = await here.join("yokokou", login_id="12345678", password="87654321")
    begun = await attempt(here, who, who.login_id, who.password)
    async with here.ctx.store.read() as tx:
        planned = await plan(here.ctx, tx, who.society, [who.id], here.now, keep_login_id=True)
    assert len(await letters(here, who)) == 1
    async with here.ctx.store.begin() as tx:
        assert await carry_out(tx, who.society, planned, here.now)
    live = (await letters(here, who))[0]
    assert live.generation == 1
    login_id, password = printed(here, who, live)
    assert login_id == "12345678"
    assert isinstance(await attempt(here, who, login_id, who.password), Refused)
    assert isinstance(await attempt(here, who, login_id, password), Begun)
    form = {"login_id": "hanako-no-id", "password": "umi-no-mieru-9", "password_again": "umi-no-mieru-9"}
    form |= {"address": ADDRESS, "nickname": "はな"}
    late = await journeys.submit(here.ctx, who.society, begun.journey_id, begun.proof, "credentials", form, here.now)
    assert not hasattr(late, "step"), late
    assert (await letters(here, who))[0].state == "live"


async def test_what_was_planned_does_not_count_where_things_changed_meanwhile(here: World) -> None:
    registered, reprinted = await here.join("yokokou"), await here.join("yokokou")
    async with here.ctx.store.read() as tx:
        first = await plan(here.ctx, tx, registered.society, [registered.id], here.now, keep_login_id=True)
        second = await plan(here.ctx, tx, reprinted.society, [reprinted.id], here.now, keep_login_id=True)
    await here.register(registered, "hanako-no-id", ADDRESS)
    async with here.ctx.store.begin() as tx:
        await new_letter(here.ctx, tx, reprinted.society, reprinted.id, here.now)
    async with here.ctx.store.begin() as tx:
        assert not await carry_out(tx, registered.society, first, here.now)
        assert not await carry_out(tx, reprinted.society, second, here.now)
    assert [row.state for row in await letters(here, registered)] == ["used"]
    assert [row.state for row in await letters(here, reprinted)] == ["live", "revoked"]


async def test_new_ids_meet_neither_letters_nor_chosen_ids(here: World, monkeypatch: Any) -> None:
    """Where all drawn IDs are one, the generation rises until they differ."""
    one, two, three = [await here.join("yokokou") for _ in range(3)]
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == three.id).values(login_key=people.login_key("31415999")))
    drawn = iter(["31415999", one.login_id, "27182818", "27182818"])
    real = credentials.login_id

    def draw(*args: Any) -> str:
        return next(drawn, None) or real(*args)

    monkeypatch.setattr(credentials, "login_id", draw)
    async with here.ctx.store.begin() as tx:
        await new_letters(here.ctx, tx, one.society, [one.id, two.id], here.now)
    ids = {printed(here, who, (await letters(here, who))[0])[0] for who in (one, two)}
    assert len(ids) == 2
    assert not ids & {"31415999", one.login_id}


async def test_a_new_letter_has_the_society_s_lifetime(here: World) -> None:
    who = await here.join("yokokou")
    society = who.society.model_copy(
        update={"temporary": who.society.temporary.model_copy(update={"lifetime_days": 30})}
    )
    async with here.ctx.store.begin() as tx:
        await new_letter(here.ctx, tx, society, who.id, here.now)
    assert (await letters(here, who))[0].expires_at == here.now + 30 * DAY
