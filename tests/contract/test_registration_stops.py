"""Emergency stops and what staff see of a member."""

from sqlalchemy import select

from mailbot.delivery.outbox import ALL
from mailbot.registration import login, members, stops
from mailbot.registration.outcomes import Refused
from mailbot.store.tables import audit, link, temporary
from tests.support.factory import HOUR, NETWORK, NOW, PASSWORD, World

ACTOR = "staff:sato"


async def test_pausing_and_going_on(here: World) -> None:
    assert not await stops.is_paused(here.ctx, "yokokou")
    assert await stops.pause(here.ctx, "yokokou", "wrong roster", ACTOR, NOW)
    assert not await stops.pause(here.ctx, "yokokou", "again", ACTOR, NOW)
    assert await stops.is_paused(here.ctx, "yokokou")
    assert not await stops.is_paused(here.ctx, "shochiku")
    assert await stops.resume(here.ctx, "yokokou", ACTOR, NOW)
    assert not await stops.resume(here.ctx, "yokokou", ACTOR, NOW)
    assert await stops.pause(here.ctx, "yokokou", "once more", ACTOR, NOW)
    rows = await here.rows(select(audit.c.actor, audit.c.event, audit.c.society).order_by(audit.c.number))
    assert rows == [
        (ACTOR, "society-paused", "yokokou"),
        (ACTOR, "society-resumed", "yokokou"),
        (ACTOR, "society-paused", "yokokou"),
    ]


async def test_holding_mails_and_letting_them_go(here: World) -> None:
    assert await stops.hold_mails(here.ctx, ALL, "relay moves", ACTOR, NOW)
    assert not await stops.hold_mails(here.ctx, ALL, "again", ACTOR, NOW)
    assert await stops.hold_mails(here.ctx, "yokokou", "wrong letter", ACTOR, NOW + 1)
    async with here.ctx.store.read() as tx:
        assert await stops.held(tx) == {ALL: (NOW, "relay moves"), "yokokou": (NOW + 1, "wrong letter")}
        assert await stops.paused(tx) == frozenset()
    assert await stops.release_mails(here.ctx, ALL, ACTOR, NOW)
    assert not await stops.release_mails(here.ctx, ALL, ACTOR, NOW)
    async with here.ctx.store.read() as tx:
        assert set(await stops.held(tx)) == {"yokokou"}
    rows = await here.rows(select(audit.c.event, audit.c.society).order_by(audit.c.number))
    assert rows == [("mails-held", ""), ("mails-held", "yokokou"), ("mails-released", "")]


async def test_links_made_since_a_moment_are_revoked(here: World) -> None:
    old = await here.link("yokokou", "a@docomo.ne.jp")
    here.now += HOUR
    new = await here.link("yokokou", "b@docomo.ne.jp")
    other = await here.link("shochiku", "c@docomo.ne.jp")
    assert await stops.revoke_links(here.ctx, "yokokou", here.now, ACTOR, here.now) == 1
    rows = {row.id: row.revoked_at for row in await here.rows(select(link))}
    assert rows == {old: None, new: here.now, other: None}
    assert await stops.revoke_links(here.ctx, None, None, ACTOR, here.now) == 2
    assert await stops.revoke_links(here.ctx, None, None, ACTOR, here.now) == 0


async def test_sessions_are_ended(here: World) -> None:
    who = await here.join("yokokou")
    await here.register(who, "hanako")
    token = await here.log_in(who, "hanako")
    assert await stops.revoke_sessions(here.ctx, "shochiku", None, ACTOR, here.now) == 0
    assert await stops.revoke_sessions(here.ctx, None, None, ACTOR, here.now) == 1
    assert await login.session(here.ctx, who.society, token, here.now) is None
    assert await here.log_in(who, "hanako")


async def test_unused_letters_are_revoked_in_pieces(here: World) -> None:
    used = await here.join("yokokou")
    await here.register(used, "hanako")
    size, stops.CHUNK = stops.CHUNK, 2
    try:
        for _ in range(5):
            await here.join("yokokou")
        assert await stops.revoke_letters(here.ctx, "yokokou", None, ACTOR, here.now) == 5
    finally:
        stops.CHUNK = size
    states = sorted(row.state for row in await here.rows(select(temporary.c.state)))
    assert states == ["revoked"] * 5 + ["used"]
    events = [row.event for row in await here.rows(select(audit.c.event).order_by(audit.c.number))]
    assert events == ["registered", "letters-revoked"]


async def test_staff_find_a_member_by_anything(here: World) -> None:
    who = await here.join(
        "yokokou", name="山田　花子", kana="ヤマダ　ハナコ", symbol="12", number="3456", address="taro@company.example"
    )
    await here.join("yokokou")
    await here.join("shochiku", name="山田　花子")
    await here.register(who, "Hanako-2026", "hana@docomo.ne.jp")
    society = here.society("yokokou")
    ways = ["山田花子", "山田 花子", "ﾔﾏﾀﾞ ﾊﾅｺ", "hanako-2026", "HANA@docomo.ne.jp", "taro@company.example"]
    ways += ["12-3456", "１２－３４５６", "12‐3456", "12ー3456"]
    for text in [*ways, who.login_id]:
        async with here.ctx.store.read() as tx:
            found = await members.find(here.ctx, tx, society, text)
        assert [one.id for one in found] == [who.id], text
    async with here.ctx.store.read() as tx:
        assert await members.find(here.ctx, tx, society, "誰か") == []
        assert await members.view(here.ctx, tx, here.society("shochiku"), who.id) is None
        record = await members.view(here.ctx, tx, society, who.id)
    assert record is not None
    assert (record.state, record.person.name, record.login_id) == ("registered", "山田　花子", "Hanako-2026")
    assert record.addresses == ((1, "hana@docomo.ne.jp"),)
    assert [(one.login_id, one.state) for one in record.letters] == [(who.login_id, "used")]
    assert PASSWORD not in repr(record)
    assert who.password not in repr(record)


async def test_a_revoked_letter_opens_nothing(here: World) -> None:
    who = await here.join("yokokou")
    await stops.revoke_letters(here.ctx, None, NOW, ACTOR, here.now)
    answer = await login.log_in(here.ctx, who.society, who.login_id, who.password, NETWORK, here.now)
    assert isinstance(answer, Refused)
