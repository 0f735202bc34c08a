"""Rows of suppression on both databases: what covers what, what is kept, and what the relay's refusals teach."""

from sqlalchemy import select

from mailbot.delivery import suppression
from mailbot.delivery.mails import Settlement
from mailbot.delivery.suppression import Known, Note, Source
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


async def test_a_weaker_cause_never_covers_a_stronger_one(here: World) -> None:
    await note(here, Cause.FULL, Cause.UNKNOWN_USER, Cause.FILTERED)
    (row,) = await here.rows(select(table))
    assert (row.cause, row.words, row.count) == ("unknown-user", "because unknown-user", 3)
    assert (row.first_at, row.last_at) == (NOW, NOW + 2)


async def test_of_two_words_in_one_transaction_the_stronger_counts(here: World) -> None:
    two = [Note(SOCIETY, parse_typed(HANAKO), one, Source.RELAY, one) for one in (Cause.UNKNOWN_USER, Cause.FULL)]
    async with here.ctx.store.begin() as tx:
        await suppression.note(tx, two, here.now)
    assert (await causes(here, KEY))[KEY].cause is Cause.UNKNOWN_USER


async def test_what_is_not_the_addresss_fault_is_not_kept(here: World) -> None:
    await note(here, Cause.POLICY, Cause.THROTTLED, Cause.OUR_FAULT, Cause.OTHER)
    assert await here.count(table) == 0


async def test_many_addresses_are_asked_for_at_once_and_societies_stay_apart(here: World) -> None:
    await note(here, Cause.FULL)
    await note(here, Cause.FILTERED, text="a@b.example", society="hpe")
    wanted = [KEY, ("hpe", HANAKO), ("hpe", "a@b.example"), (SOCIETY, "nobody@b.example")]
    found = await causes(here, *wanted)
    assert {key: known.cause for key, known in found.items() if key in wanted} == {
        KEY: Cause.FULL,
        ("hpe", "a@b.example"): Cause.FILTERED,
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
