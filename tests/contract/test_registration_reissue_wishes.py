"""Which mail a wish brings: shared addresses, old ones, forgotten IDs, and who else is told."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, insert, select, update

from mailbot import credentials
from mailbot.config.society import Reissue
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.office import members
from mailbot.registration import entry, mailfacts, profile, reissue, timetable, wishes
from mailbot.registration.outcomes import Begun, Refused, ReissuePage
from mailbot.registration.wishes import Wish
from mailbot.store.tables import address, audit, link, member, outbox
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, Joined, World, texts

ADDRESS = "hanako@docomo.ne.jp"
SECOND = "hanako@home.example"
NEW = "yama-to-mori-7"
NO_YEAR = "birth_year: 生年月日の「年」は、西暦の4けたか、「昭和20」のように元号を付けて入力してください。"
BORN = {"birth_year": "昭和５５", "birth_month": "1月", "birth_day": "２"}
WRONG = {**BORN, "birth_day": "3"}


def rule(here: World, **reissue_rule: Any) -> None:
    """From now on the society reissues in this shape: a link alone, unless more is said."""
    society = here.society("yokokou").model_copy(update={"reissue": Reissue(**reissue_rule)})
    known = {**here.ctx.settings.societies, "yokokou": society}
    here.ctx = replace(here.ctx, settings=replace(here.ctx.settings, societies=known))


async def registered(here: World, login_id: str = "Hanako7", **person: Any) -> Joined:
    who = await here.join("yokokou", **person)
    await here.register(who, login_id, ADDRESS)
    return replace(who, society=here.society("yokokou"))


async def add_address(here: World, who: Joined, text: str = SECOND, slot: int = 2) -> None:
    row = {"address": text, "address_key": text, "slot": slot, "proved_at": here.now}
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(address).values(society=who.society.id, member_id=who.id, pin=False, **row))


async def ask(here: World, typed: str = ADDRESS, wish: Wish = Wish.PASSWORD) -> None:
    refused = await wishes.request(here.ctx, here.society("yokokou"), typed, NETWORK, here.now, wish)
    assert refused is None, refused


async def expand(here: World) -> wishes.Expanded:
    async with here.ctx.store.begin() as tx:
        return await wishes.expand(here.ctx, tx, here.now)


async def queued(here: World) -> list[tuple[str, str]]:
    """(letter, recipient) of all that wishes brought so far, sorted."""
    names = ("reissue", "reissue-stale", "reissue-staff", "reissue-paper", "reissue-told", "login-id")
    rows = await here.rows(select(outbox.c.letter, outbox.c.recipient).where(outbox.c.letter.in_(names)))
    return sorted((letter, recipient) for letter, recipient in rows)


async def facts(here: World, letter: str) -> list[dict[str, str | int]]:
    async with here.ctx.store.read() as tx:
        found = await mailfacts.mail_facts(here.ctx, tx, await here.mails(letter), here.now)
    assert all(isinstance(one, dict) for one in found), found
    return [one for one in found if isinstance(one, dict)]


async def stale_link(here: World, days: int = 181) -> int:
    """The link of a mail to an address that rested so long."""
    here.now += days * DAY
    await ask(here)
    assert (await expand(here)).mails == 1
    (mail,) = await facts(here, "reissue-stale")
    assert set(mail) == {"url", "code", "expires_at"}
    token = str(mail["url"]).rpartition("/")[2]
    link_id = credentials.read(here.ctx.ring, LinkPurpose.REISSUE, "yokokou", token)
    assert link_id is not None
    return link_id


# --- a link alone -----------------------------------------------------------------------------------------------------


async def test_by_default_the_mail_carries_a_link_and_the_page_tells_the_id(here: World) -> None:
    who = await registered(here, nickname="はな")
    rule(here)
    await ask(here)
    assert await expand(here) == wishes.Expanded(1)
    (mail,) = await facts(here, "reissue")
    assert set(mail) == {"url", "code", "expires_at", "nickname"}
    link_id = await here.rows(select(link.c.id).where(link.c.purpose == "reissue"))
    page = await reissue.first_page(here.ctx, here.society("yokokou"), link_id[0].id, here.now)
    assert page == ReissuePage(None, here.now + 3 * HOUR, "Hanako7")
    assert await reissue.finish(here.ctx, here.society("yokokou"), link_id[0].id, None, NEW, NEW, here.now) is None
    assert await here.log_in(who, "Hanako7", NEW)


@pytest.mark.parametrize("tells", [True, False])
async def test_a_mail_without_the_id_does_not_speak_to_it_either(here: World, tells: bool) -> None:
    await registered(here)
    rule(here, login_id=tells)
    await ask(here)
    await expand(here)
    (mail,) = await facts(here, "reissue")
    assert (mail.get("nickname"), mail.get("login_id")) == (("Hanako7", "Hanako7") if tells else (None, None))


async def test_where_the_id_has_its_own_way_the_link_does_not_tell_it(here: World) -> None:
    await registered(here)
    rule(here, separate_login_id=True)
    await ask(here)
    await expand(here)
    ((link_id,),) = await here.rows(select(link.c.id).where(link.c.purpose == "reissue"))
    page = await reissue.first_page(here.ctx, here.society("yokokou"), link_id, here.now)
    assert page == ReissuePage(None, here.now + 3 * HOUR)


# --- a forgotten login ID ---------------------------------------------------------------------------------------------


async def test_the_id_is_mailed_to_each_who_proved_the_address(here: World) -> None:
    await registered(here, "father-one", nickname="父")
    await registered(here, "mother-one", nickname="母")
    rule(here, separate_login_id=True)
    await ask(here, wish=Wish.LOGIN_ID)
    assert await expand(here) == wishes.Expanded(2)
    told = [(one["nickname"], one["login_id"]) for one in await facts(here, "login-id")]
    assert sorted(told) == [("母", "mother-one"), ("父", "father-one")]
    assert await here.count(link, link.c.purpose == "reissue") == 0


async def test_id_and_password_are_asked_for_in_the_same_hour_but_each_once(here: World) -> None:
    await registered(here)
    rule(here, separate_login_id=True)
    for wish in (Wish.LOGIN_ID, Wish.PASSWORD, Wish.LOGIN_ID, Wish.PASSWORD):
        await ask(here, wish=wish)
        await expand(here)
        here.now += 5 * MINUTE
    assert await queued(here) == [("login-id", ADDRESS), ("reissue", ADDRESS)]


async def test_a_long_address_as_login_id_fits_the_mail(here: World) -> None:
    who = await registered(here)
    rule(here, separate_login_id=True)
    long = "a" * 60 + "@example.jp"
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == who.id).values(login_id=long, login_kind="address"))
    await ask(here, wish=Wish.LOGIN_ID)
    await expand(here)
    assert [one["login_id"] for one in await facts(here, "login-id")] == ["ご登録のメールアドレス"]


@pytest.mark.parametrize("wish", list(Wish))
async def test_asking_costs_the_same_whoever_asks(here: World, wish: Wish) -> None:
    await registered(here)
    rule(here, separate_login_id=True)
    sent: list[tuple[str, int]] = []
    event.listen(
        here.ctx.store.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: sent.append((statement, len(parameters))),
    )
    seen = []
    for typed in (ADDRESS, "nobody@docomo.ne.jp"):
        sent.clear()
        await ask(here, typed, wish)
        seen.append(list(sent))
    assert seen[0] == seen[1]
    assert seen[0]
    assert (await expand(here)).mails == 1


# --- shared addresses -------------------------------------------------------------------------------------------------


async def test_three_share_an_address_one_mail_each_and_at_most_once_an_hour(here: World) -> None:
    for login_id in ("father-one", "mother-one", "child-one"):
        await registered(here, login_id)
    rule(here)
    counts = []
    for _ in range(4):
        await ask(here)
        await ask(here, ADDRESS.upper())  # another spelling in the same second
        counts.append((await expand(here)).mails)
        here.now += 20 * MINUTE
    assert counts == [3, 0, 0, 3]


async def test_every_other_address_of_the_member_is_told_and_holds_no_link(here: World) -> None:
    who = await registered(here, nickname="はな")
    await add_address(here, who)
    await add_address(here, who, ADDRESS, 3)  # the same mailbox once more
    other = await registered(here, "mother-one", nickname="母")
    await add_address(here, other, "mother@home.example")
    rule(here)
    await ask(here)
    await expand(here)
    told = [("reissue-told", SECOND), ("reissue-told", "mother@home.example")]
    assert await queued(here) == sorted([("reissue", ADDRESS), ("reissue", ADDRESS), *told])
    assert all(set(one) == {"requested_at", "nickname"} for one in await facts(here, "reissue-told"))
    await ask(here, SECOND)
    assert (await expand(here)).mails == 0  # the member's hour, by whichever address


async def test_paper_only_mails_one_word_and_no_link_to_a_shared_address(here: World) -> None:
    await registered(here, "father-one")
    rule(here, shared_address="paper-only", separate_login_id=True)
    await ask(here)
    await expand(here)
    assert await queued(here) == [("reissue", ADDRESS)]
    await registered(here, "mother-one")
    rule(here, shared_address="paper-only", separate_login_id=True)
    here.now += HOUR
    counts = []
    for wish in (Wish.PASSWORD, Wish.LOGIN_ID, Wish.PASSWORD):
        await ask(here, wish=wish)
        counts.append((await expand(here)).mails)
        here.now += 30 * MINUTE
    assert counts == [1, 0, 1]
    assert await queued(here) == [("reissue", ADDRESS), ("reissue-paper", ADDRESS), ("reissue-paper", ADDRESS)]
    assert await facts(here, "reissue-paper") == [{}, {}]


async def test_paper_only_tells_nobody_of_a_protected_person(here: World) -> None:
    """One in the open and one protected: for the one in the open the address is not shared."""
    await registered(here, "hidden-one", protected=True)
    await registered(here, "other-one")
    rule(here, shared_address="paper-only")
    await ask(here)
    assert await expand(here) == wishes.Expanded(1)
    (mail,) = await here.mails("reissue")
    ((login_id,),) = await here.rows(select(member.c.login_id).where(member.c.id == mail.member_id))
    assert login_id == "other-one"


# --- old addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["login", "proof", "nothing"])
async def test_a_login_or_a_proof_keeps_the_mailbox_enough(here: World, what: str) -> None:
    who = await registered(here)
    rule(here)
    here.now += 100 * DAY
    async with here.ctx.store.begin() as tx:
        if what == "login":
            await tx.execute(update(member).where(member.c.id == who.id).values(last_login_at=here.now))
        elif what == "proof":
            await tx.execute(update(address).values(proved_at=here.now))
    here.now += 80 * DAY
    await ask(here)
    await expand(here)
    assert await queued(here) == [("reissue-stale" if what == "nothing" else "reissue", ADDRESS)]


async def test_179_days_are_not_old_and_a_society_may_leave_it_out(here: World) -> None:
    await registered(here)
    rule(here)
    here.now += 180 * DAY - 1
    await ask(here)
    await expand(here)
    assert await queued(here) == [("reissue", ADDRESS)]
    rule(here, stale_days=None)
    here.now += 1000 * DAY
    await ask(here)
    await expand(here)
    assert await queued(here) == [("reissue", ADDRESS)] * 2


async def test_an_old_mailbox_needs_the_birth_date(here: World) -> None:
    who = await registered(here, nickname="はな")
    await add_address(here, who)
    rule(here, login_id=True, temporary_password="letters:8")
    here.now += 181 * DAY
    await ask(here)
    assert (await expand(here)).mails == 2
    assert await queued(here) == [("reissue-stale", ADDRESS), ("reissue-told", SECOND)]
    assert [set(one) for one in await facts(here, "reissue-stale")] == [{"url", "code", "expires_at"}]
    assert [one["nickname"] for one in await facts(here, "reissue-told")] == ["ご登録者"]
    ((link_id,),) = await here.rows(select(link.c.id).where(link.c.purpose == "reissue"))
    society = here.society("yokokou")
    page = await reissue.first_page(here.ctx, society, link_id, here.now)
    assert page == ReissuePage("birth-date", here.now + 3 * HOUR)
    for proof in (None, "x" * 43):
        assert await reissue.finish(here.ctx, society, link_id, proof, NEW, NEW, here.now) is LinkState.UNKNOWN
    begun = await reissue.begin(here.ctx, society, link_id, BORN, NETWORK, here.now)
    assert isinstance(begun, Begun)
    page = await reissue.first_page(here.ctx, society, link_id, here.now, begun.proof)
    assert page == ReissuePage("birth-date", here.now + 3 * HOUR, "Hanako7", True)
    assert await reissue.finish(here.ctx, society, link_id, begun.proof, NEW, NEW, here.now) is None
    assert await here.log_in(who, "Hanako7", NEW)
    assert await reissue.begin(here.ctx, society, link_id, BORN, NETWORK, here.now) is LinkState.USED


async def test_a_forgotten_id_at_an_old_mailbox_goes_the_same_way(here: World) -> None:
    await registered(here)
    rule(here, separate_login_id=True)
    here.now += 181 * DAY
    await ask(here, wish=Wish.LOGIN_ID)
    await expand(here)
    assert await queued(here) == [("reissue-stale", ADDRESS)]


async def test_five_wrong_birth_dates_end_the_link_and_what_is_no_date_is_no_guess(here: World) -> None:
    who = await registered(here)
    rule(here)
    link_id = await stale_link(here)
    society = here.society("yokokou")

    async def attempt(form: dict[str, str]) -> Any:
        return await reissue.begin(here.ctx, society, link_id, form, NETWORK, here.now)

    for form, sentence in {
        ("", "", ""): "birth_year: 生年月日の「年」を入力してください。",
        (
            "55",
            "1",
            "2",
        ): NO_YEAR,
        ("1980", "2", "30"): "birth_day: 生年月日は、実際にある日付を入力してください。",
        (
            "ﾃｽﾄ",
            "1",
            "2",
        ): NO_YEAR,
    }.items():
        assert texts(await attempt(dict(zip(BORN, form, strict=True))))[0] == sentence
    for left in (4, 3, 2, 1):
        (text,) = texts(await attempt(WRONG))
        assert text.startswith("birth_year: 生年月日が違います。")
        assert f"あと{left}回" in text
    assert await attempt(WRONG) is LinkState.REVOKED
    assert await attempt(BORN) is LinkState.REVOKED
    events = await here.rows(select(audit.c.event, audit.c.member_id).where(audit.c.event == "reissue-link-revoked"))
    assert [tuple(one) for one in events] == [("reissue-link-revoked", who.id)]


async def test_who_guesses_on_meets_staff(here: World) -> None:
    who = await registered(here)
    rule(here)
    here.now += 181 * DAY
    for _ in range(wishes.WORN_LINKS):
        await ask(here)
        assert await expand(here) == wishes.Expanded(1)
        ((link_id,),) = await here.rows(
            select(link.c.id).where(link.c.asks == "birth-date", link.c.revoked_at.is_(None))
        )
        for _ in range(wishes.WRONG_BIRTH_DATES):
            await reissue.begin(here.ctx, here.society("yokokou"), link_id, WRONG, NETWORK, here.now)
        here.now += HOUR
    await ask(here)
    assert await expand(here) == wishes.Expanded(1, (("yokokou", who.id),))
    assert (await queued(here))[0] == ("reissue-staff", ADDRESS)


async def test_staff_are_asked_where_that_is_the_rule_and_see_it(here: World) -> None:
    who = await registered(here)
    rule(here, stale_asks="staff")
    here.now += 181 * DAY
    for _ in range(2):
        await ask(here)
        async with here.ctx.store.begin() as tx:
            await timetable.due(here.ctx, tx, here.now)
    assert await queued(here) == [("reissue-staff", ADDRESS)]
    assert await facts(here, "reissue-staff") == [{}]
    assert await here.count(link, link.c.purpose == "reissue") == 0
    events = await here.rows(select(audit.c.member_id).where(audit.c.event == "reissue-needs-staff"))
    assert [one.member_id for one in events] == [who.id]


async def test_after_staff_had_the_address_proved_the_mailbox_is_enough_again(here: World) -> None:
    who = await registered(here)
    rule(here, stale_asks="staff")
    here.now += 181 * DAY
    society = here.society("yokokou")
    await members.correct_address(here.ctx, society, who.id, ADDRESS, actor="staff:a", now=here.now)
    (proof,) = await here.mails("address-proof")
    assert proof.link_id is not None
    assert await profile.prove_address(here.ctx, society, proof.link_id, here.now)
    await ask(here)
    assert await expand(here) == wishes.Expanded(1)
    assert await queued(here) == [("reissue", ADDRESS)]


async def test_without_a_birth_date_on_the_roster_staff_are_asked(here: World) -> None:
    who = await registered(here, birth_date="")
    rule(here)
    here.now += 181 * DAY
    await ask(here)
    assert await expand(here) == wishes.Expanded(1, (("yokokou", who.id),))


async def test_the_birth_date_of_another_member_opens_nothing(here: World) -> None:
    await registered(here, "father-one", birth_date="1950-05-05")
    await registered(here, "mother-one", birth_date="1955-06-06")
    rule(here)
    here.now += 181 * DAY
    await ask(here)
    assert (await expand(here)).mails == 2
    rows = await here.rows(
        select(link.c.id, member.c.login_id)
        .join(member, member.c.id == link.c.member_id)
        .where(link.c.asks == "birth-date")
    )
    father = {"birth_year": "1950", "birth_month": "5", "birth_day": "5"}
    answers = {
        row.login_id: await reissue.begin(here.ctx, here.society("yokokou"), row.id, father, NETWORK, here.now)
        for row in rows
    }
    assert isinstance(answers["father-one"], Begun)
    assert isinstance(answers["mother-one"], Refused)


async def _after_the_end(here: World, link_id: int, begun: Begun) -> None:
    here.now += 3 * HOUR
    page = await reissue.first_page(here.ctx, here.society("yokokou"), link_id, here.now, begun.proof)
    assert page is LinkState.EXPIRED


async def _just_after_the_links_end(here: World, link_id: int, begun: Begun) -> None:
    here.now += 30 * MINUTE
    society = here.society("yokokou")
    page = await reissue.first_page(here.ctx, society, link_id, here.now, begun.proof)
    assert isinstance(page, ReissuePage)
    assert page.expires_at == here.now + 30 * MINUTE
    assert await reissue.first_page(here.ctx, society, link_id, here.now) is LinkState.EXPIRED
    assert await reissue.finish(here.ctx, society, link_id, None, NEW, NEW, here.now) is LinkState.EXPIRED
    assert await reissue.finish(here.ctx, society, link_id, begun.proof, NEW, NEW, here.now) is None


@pytest.mark.parametrize("then", [_after_the_end, _just_after_the_links_end])
async def test_an_hour_is_left_to_who_passed_the_birth_date(here: World, then: Callable[..., Any]) -> None:
    await registered(here)
    rule(here)
    link_id = await stale_link(here)
    here.now += 3 * HOUR - 1 if then is _just_after_the_links_end else MINUTE
    begun = await reissue.begin(here.ctx, here.society("yokokou"), link_id, BORN, NETWORK, here.now)
    assert isinstance(begun, Begun)
    await then(here, link_id, begun)


async def test_who_just_got_a_mail_hears_until_when(here: World) -> None:
    async def enter(minute: int) -> Any:
        now = here.now + minute * MINUTE
        return await entry.request_invitation(here.ctx, here.society("yokokou"), ADDRESS, NETWORK, now)

    heard = {}
    for minute in (0, 0, 1, 2, 3, 60, 61, 62, 63):
        if (refused := await enter(minute)) is not None:
            heard[minute] = re.findall(r"、([^、]*)からもう一度", texts(refused)[0])
    assert heard == {0: ["15時52分"], 3: ["16時51分"], 63: ["11月21日 15時51分"]}


async def test_a_storm_from_one_network_hears_until_when(here: World) -> None:
    rule(here)
    answers = [
        await wishes.request(here.ctx, here.society("yokokou"), f"a{n}@docomo.ne.jp", NETWORK, here.now)
        for n in range(121)
    ]
    assert answers[:120] == [None] * 120
    assert isinstance(answers[-1], Refused)
    assert (answers[-1].status, texts(answers[-1])) == (
        429,
        [": 何度も操作されたため、いまは受け付けられません。15時52分から、もう一度お試しください。"],
    )
