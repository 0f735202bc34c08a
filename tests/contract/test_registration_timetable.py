"""Reminders and the end of what need not be kept."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Table, insert, update

from mailbot.delivery.mails import Cancelled
from mailbot.delivery.outbox import Lane, NewMail, put
from mailbot.registration import mailfacts, timetable
from mailbot.store import new_id
from mailbot.store.tables import audit, budget, inbox, journey, link, member, outbox, session
from tests.support.factory import DAY, MINUTE, NOW, PASSWORD, Joined, World, settings

YEAR = 365 * DAY


async def due(here: World) -> int:
    async with here.ctx.store.begin() as tx:
        return await timetable.due(here.ctx, tx, here.now)


async def registered(here: World, society: str = "shochiku", **person: Any) -> Joined:
    who = await here.join(society, **person)
    await here.register(who, "hanako-one")
    return who


async def reminders_over(here: World, days: range) -> list[int]:
    """Days before the end on which a reminder was queued, asked once a day."""
    found = []
    for left in days:
        here.now = NOW + YEAR - left * DAY
        found += [left] * await due(here)
    return found


async def test_a_reminder_at_each_day_of_the_file_and_once(here: World) -> None:
    await registered(here)
    assert await reminders_over(here, range(40, -3, -1)) == [30, 14]
    first, second = await here.mails("password-expiry")
    assert first.facts == second.facts == {"expires_on": NOW + YEAR}
    assert (first.recipient, first.lane) == ("hanako@docomo.ne.jp", Lane.BULK)


async def test_after_a_stop_only_the_nearest_reminder_goes_out(here: World) -> None:
    await registered(here)
    assert await reminders_over(here, range(10, -3, -1)) == [10]


async def test_no_reminder_where_nothing_ends_or_who_has_left(here: World) -> None:
    await registered(here, "yokokou")
    left = await registered(here, "shochiku")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == left.id).values(left_on="2027-01-01"))
    assert await reminders_over(here, range(31, 0, -1)) == []


async def test_a_reminder_that_came_too_late_is_cancelled(here: World) -> None:
    await registered(here)
    here.now = NOW + YEAR - 30 * DAY
    assert await due(here) == 1
    mails = await here.mails("password-expiry")
    async with here.ctx.store.read() as tx:
        (found,) = await mailfacts.mail_facts(here.ctx, tx, mails, here.now)
    assert found == {"expires_on": NOW + YEAR, "nickname": "hanako-one"}
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(password_set_at=here.now))
    async with here.ctx.store.read() as tx:
        assert await mailfacts.mail_facts(here.ctx, tx, mails, here.now) == [Cancelled("not-due")]


async def test_a_password_set_anew_is_reminded_anew(here: World) -> None:
    await registered(here)
    here.now = NOW + YEAR - 30 * DAY
    assert await due(here) == 1
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(password_set_at=here.now))
    here.now += YEAR - 30 * DAY
    assert await due(here) == 1


async def test_the_work_of_a_minute_is_done_once(here: World) -> None:
    await registered(here)
    here.now = NOW + YEAR - 30 * DAY - 1
    assert await due(here) == 0
    here.now += MINUTE - 1
    assert await due(here) == 0
    here.now += 1
    assert sorted(await asyncio.gather(*(due(here) for _ in range(4)))) == [0, 0, 0, 1]


def old_rows(at: int) -> list[tuple[Table, dict[str, Any]]]:
    """One row of each table, whose time to be kept begins at `at`."""
    common = {"society": "yokokou"}
    journey_row = {"id": new_id(), "name": "x", "steps": "[]", "position": 0, "started_at": at, "expires_at": at}
    link_row = {"id": new_id(), "purpose": "x", "address": "a", "address_key": "a", "kid": 0, "created_at": at}
    counts = {
        f"{name}_{kind}": at if kind == "at" else 1 for name in ("minute", "hour", "day") for kind in ("at", "count")
    }
    facts = {"source": "smtp", "purpose": "x", "peer": "x", "size": 1, "action": "x", "reason": "x"}
    return [
        (inbox, {**common, "inbox_key": at.to_bytes(8), "received_at": at, **facts}),
        (journey, {**common, **journey_row}),
        (link, {**common, **link_row, "expires_at": at}),
        (budget, {**common, "scope": "x", "subject": str(at), **counts}),
    ]


@pytest.mark.parametrize(
    ("table", "days"),
    [(inbox, 30), (journey, 1), (link, 30), (budget, 2)],
    ids=lambda one: str(getattr(one, "name", one)),
)
async def test_what_is_kept_and_for_how_long(here: World, table: Table, days: int) -> None:
    async with here.ctx.store.begin() as tx:
        for at in (NOW - days * DAY, NOW - days * DAY - 1):
            await tx.execute(insert(table).values(next(row for one, row in old_rows(at) if one is table)))
        assert await timetable.purge(here.ctx, tx, NOW) == 1
        assert await timetable.purge(here.ctx, tx, NOW) == 0
    assert await here.count(table) == 1


async def test_settled_mails_and_ended_sessions_go_and_the_others_stay(here: World) -> None:
    who = await registered(here)
    await here.log_in(who, "hanako-one", PASSWORD)
    async with here.ctx.store.begin() as tx:
        await put(tx, [NewMail("shochiku", "completion", Lane.BULK, "a@b.example")], NOW, "host.example")
        await tx.execute(
            update(outbox).where(outbox.c.letter == "invitation").values(settled_at=NOW, state="delivered")
        )
        before = await here_count(tx, outbox)
        await timetable.purge(here.ctx, tx, NOW + 90 * DAY + 1)
        assert await here_count(tx, outbox) == before - 1
        assert await here_count(tx, session) == 0


async def here_count(tx: Any, table: Table) -> int:
    return len((await tx.execute(table.select())).all())


async def test_a_purge_is_bounded(here: World) -> None:
    rows = [row for n in range(timetable.CHUNK + 10) for one, row in old_rows(1_000_000 + n) if one is budget]
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(budget), rows)
        before = await timetable.overdue(here.ctx, tx, NOW)
        assert {name: count for name, count in before.items() if count} == {"budget": timetable.CHUNK + 10}
        gone: Counter[str] = Counter()
        assert await timetable.purge(here.ctx, tx, NOW, gone) == timetable.CHUNK
        assert await timetable.purge(here.ctx, tx, NOW, gone) == 10
        assert +gone == {"budget": timetable.CHUNK + 10}
        assert not any((await timetable.overdue(here.ctx, tx, NOW)).values())


async def test_who_left_long_ago_is_deleted_where_the_file_says_so(here: World) -> None:
    file = here.ctx.settings.folder / "societies" / "yokokou.toml"
    file.write_text("purge_left_days = 30\n" + file.read_text("utf-8"), "utf-8")
    here.ctx = type(here.ctx)(
        settings(here.ctx.settings.folder.parent), here.ctx.ring, here.ctx.passwords, here.ctx.store
    )
    old = await here.join("yokokou", left_on="2026-10-20")
    kept = [
        await here.join("yokokou", left_on="2026-10-21"),
        await here.join("yokokou"),
        await here.join("shochiku", left_on="2020-01-01"),
    ]
    async with here.ctx.store.begin() as tx:
        assert (await timetable.overdue(here.ctx, tx, NOW))["member"] == 1
        assert await timetable.purge(here.ctx, tx, NOW) == 1
    assert {row.id for row in await here.rows(member.select())} == {one.id for one in kept}
    assert old.id not in {one.id for one in kept}
    assert [row.event for row in await here.rows(audit.select())] == ["left-purged"]
