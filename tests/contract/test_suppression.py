"""Rows of suppression on both databases: what covers what, what is kept, and what the relay's refusals teach."""

from sqlalchemy import select

from mailbot.delivery import suppression
from mailbot.delivery.mails import Settlement
from mailbot.delivery.policy import Lane
from mailbot.delivery.suppression import Fate, Known, Note, Source
from mailbot.mail.address import parse_typed
from mailbot.mail.causes import Cause
from mailbot.mail.status import Outcome, OutcomeKind, Stage, Status
from mailbot.mail.verdict import classify
from mailbot.registration import bounces, timetable
from mailbot.store.tables import address
from mailbot.store.tables import suppression as table
from tests.support.factory import DAY, HOUR, NOW, World

SOCIETY = "yokokou"
HANAKO = "Hanako@phone.example"
KEY = (SOCIETY, HANAKO)


async def note(here: World, *causes: Cause, text: str = HANAKO, society: str = SOCIETY) -> None:
    for cause in causes:
        async with here.ctx.store.begin() as tx:
            one = Note(society, parse_typed(text), cause, Source.REPORT, f"because {cause}", 7)
            await suppression.note(tx, [one], here.now)
        here.now += 1


async def causes(here: World, *keys: tuple[str, str]) -> dict[tuple[str, str], Known]:
    async with here.ctx.store.read() as tx:
        return await suppression.causes(tx, keys)


async def test_each_cause_has_its_row(here: World) -> None:
    await note(here, Cause.FULL, Cause.UNKNOWN_USER, Cause.FULL)
    first, second = await here.rows(select(table).order_by(table.c.cause))
    assert (first.cause, first.words, first.count) == ("full", "because full", 2)
    assert (first.first_at, first.last_at) == (NOW, NOW + 2)
    assert (second.cause, second.count) == ("unknown-user", 1)


async def test_one_transaction_tells_several_causes(here: World) -> None:
    two = [Note(SOCIETY, parse_typed(HANAKO), one, Source.RELAY, one) for one in (Cause.UNKNOWN_USER, Cause.FULL)]
    async with here.ctx.store.begin() as tx:
        await suppression.note(tx, two, here.now)
    assert await causes(here, KEY) == {KEY: {Cause.UNKNOWN_USER: NOW, Cause.FULL: NOW}}


async def test_a_blank_mail_disproves_no_complaint_and_no_filter(here: World) -> None:
    await note(here, Cause.COMPLAINT, Cause.FILTERED, Cause.UNKNOWN_USER)
    async with here.ctx.store.begin() as tx:
        assert await suppression.clear(tx, [KEY], suppression.DISPROVED) == 1
    known = (await causes(here, KEY))[KEY]
    assert set(known) == {Cause.COMPLAINT, Cause.FILTERED}
    assert suppression.fate(known, Lane.BULK, NOW) is Fate.NEVER
    assert suppression.fate(known, Lane.LINK, NOW) is Fate.SEND


async def test_what_is_not_the_addresss_fault_is_not_kept(here: World) -> None:
    await note(here, Cause.POLICY, Cause.THROTTLED, Cause.OUR_FAULT, Cause.OTHER)
    assert await here.count(table) == 0


async def test_many_addresses_are_asked_for_at_once_and_societies_stay_apart(here: World) -> None:
    await note(here, Cause.FULL)
    await note(here, Cause.FILTERED, text="a@b.example", society="hpe")
    wanted = [KEY, ("hpe", HANAKO), ("hpe", "a@b.example"), (SOCIETY, "nobody@b.example")]
    found = await causes(here, *wanted)
    assert {key: set(known) for key, known in found.items() if key in wanted} == {
        KEY: {Cause.FULL},
        ("hpe", "a@b.example"): {Cause.FILTERED},
    }
    async with here.ctx.store.begin() as tx:
        assert await suppression.clear(tx, [("hpe", HANAKO), (SOCIETY, "a@b.example")]) == 0
        assert await suppression.clear(tx, wanted, suppression.DISPROVED) == 1
    assert [row.cause for row in await here.rows(select(table))] == ["filtered"]


async def test_it_is_forgotten_after_its_time(here: World) -> None:
    await note(here, Cause.UNKNOWN_USER)
    days = here.ctx.settings.site.retention.suppression_days
    for later, left in ((days - 1, 1), (days + 1, 0)):
        async with here.ctx.store.begin() as tx:
            await timetable.purge(here.ctx, tx, NOW + later * DAY)
        assert await here.count(table) == left


ANSWERS = (
    (550, "5.1.1", "no such user", OutcomeKind.FAILED, "unknown-user"),
    (550, "", "Unknown user hanako@docomo.ne.jp", OutcomeKind.FAILED, "unknown-user"),
    (552, "5.2.2", "over quota", OutcomeKind.FAILED, "full"),
    (452, "4.2.2", "over quota", OutcomeKind.DEFERRED, "full"),
    (550, "5.2.1", "mailbox disabled", OutcomeKind.FAILED, "disabled"),
    (550, "5.7.1", "refused by the recipient", OutcomeKind.FAILED, "filtered"),
    (550, "5.7.26", "not authenticated", OutcomeKind.FAILED, None),
    (450, "4.1.1", "user unknown for now", OutcomeKind.DEFERRED, None),
    (250, "2.0.0", "user unknown was never so full", OutcomeKind.DELIVERED, None),
)


async def test_what_the_relays_answer_teaches(here: World) -> None:
    who = await here.join(SOCIETY)
    await here.register(who, "hanako-y", HANAKO)
    mail = (await here.mails("completion"))[0]
    for code, enhanced, text, kind, cause in ANSWERS:
        verdict = classify(code, enhanced, Stage.DOT, text)
        assert verdict.kind is kind
        one = Settlement(mail, Outcome(kind, Status(code, enhanced, text), "relay", verdict.effect, verdict.cause))
        async with here.ctx.store.begin() as tx:
            if bounces.tells(one):
                await bounces.refused(here.ctx, tx, [one], here.now + HOUR)
        assert [row.cause for row in await here.rows(select(table))] == ([cause] if cause else []), text
        ended = await here.count(address, address.c.unreachable_at == here.now + HOUR)
        assert ended == (1 if cause == "unknown-user" else 0)
        async with here.ctx.store.begin() as tx:
            await suppression.clear(tx, [KEY])
            await bounces.restore_proofs(tx, SOCIETY, HANAKO)


async def test_staff_restore_what_an_address_proves(here: World) -> None:
    who = await here.join(SOCIETY)
    await here.register(who, "hanako-y", HANAKO)
    async with here.ctx.store.begin() as tx:
        await bounces.end_proofs(tx, [KEY], here.now)
    async with here.ctx.store.begin() as tx:
        assert await bounces.restore_proofs(tx, SOCIETY, "nobody@b.example") == 0
        assert await bounces.restore_proofs(tx, SOCIETY, HANAKO) == 1
    assert await here.count(address, address.c.unreachable_at.is_not(None)) == 0
