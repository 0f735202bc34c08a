"""Reissue: the same work for everybody who asks, one mail an account, a new password at the end."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, select, update

from mailbot import credentials
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.delivery import suppression
from mailbot.delivery.mails import Cancelled
from mailbot.mail.address import parse_typed
from mailbot.mail.causes import Cause
from mailbot.registration import login, mailfacts, reissue, timetable, wishes
from mailbot.registration.outcomes import Begun, Refused, ReissuePage
from mailbot.store.tables import address, journey, link, member, outbox
from tests.support.factory import HOUR, MINUTE, NETWORK, PASSWORD, Joined, World, texts

ADDRESS = "hanako@docomo.ne.jp"
SUPPRESSED = parse_typed("gone@docomo.ne.jp")
NEW = "yama-to-mori-7"


async def registered(here: World, login_id: str = "Hanako7", society: str = "yokokou", **person: Any) -> Joined:
    who = await here.join(society, **person)
    await here.register(who, login_id, ADDRESS)
    return who


async def ask(here: World, typed: str = ADDRESS, society: str = "yokokou", network: str = NETWORK) -> Any:
    return await wishes.request(here.ctx, here.society(society), typed, network, here.now)


async def expand(here: World) -> int:
    async with here.ctx.store.begin() as tx:
        return (await wishes.expand(here.ctx, tx, here.now)).mails


async def mailed(here: World) -> list[dict[str, str | int]]:
    """The facts of the reissue mails there are."""
    async with here.ctx.store.read() as tx:
        found = await mailfacts.mail_facts(here.ctx, tx, await here.mails("reissue"), here.now)
    assert all(isinstance(one, dict) for one in found), found
    return [one for one in found if isinstance(one, dict)]


async def the_mail(here: World) -> tuple[int, dict[str, str | int]]:
    """(link id, facts) of the only reissue mail, after asking for it."""
    assert await ask(here) is None
    assert await expand(here) == 1
    (facts,) = await mailed(here)
    token = str(facts["url"]).rpartition("/")[2]
    link_id = credentials.read(here.ctx.ring, LinkPurpose.REISSUE, "yokokou", token)
    assert link_id is not None
    return link_id, facts


def form(facts: dict[str, str | int]) -> dict[str, str]:
    return {"login_id": str(facts["login_id"]), "temporary_password": str(facts["temporary_password"])}


async def test_the_whole_way(here: World) -> None:
    who = await registered(here, nickname="はな")
    session = await here.log_in(who, "Hanako7")
    link_id, facts = await the_mail(here)
    assert (facts["login_id"], facts["nickname"], facts["expires_at"]) == ("Hanako7", "はな", here.now + 3 * HOUR)
    assert len(str(facts["temporary_password"])) == 8
    assert str(facts["temporary_password"]).isalpha()
    assert await login.session(here.ctx, who.society, session, here.now) is not None
    page = await reissue.first_page(here.ctx, who.society, link_id, here.now)
    assert page == ReissuePage("temporary-login", here.now + 3 * HOUR)
    begun = await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now)
    assert isinstance(begun, Begun)
    short = await reissue.finish(here.ctx, who.society, link_id, begun.proof, "short1", "short1", here.now)
    assert texts(short)[0].startswith("password: ")
    assert await reissue.finish(here.ctx, who.society, link_id, begun.proof, NEW, NEW, here.now) is None
    assert await login.session(here.ctx, who.society, session, here.now) is None
    assert isinstance(await login.log_in(here.ctx, who.society, "Hanako7", PASSWORD, NETWORK, here.now), Refused)
    assert await here.log_in(who, "Hanako7", NEW)
    assert [one.recipient for one in await here.mails("password-changed")] == [ADDRESS]
    again = await reissue.finish(here.ctx, who.society, link_id, begun.proof, NEW, NEW, here.now)
    assert again is LinkState.USED


async def test_asking_costs_the_same_whoever_asks(here: World) -> None:
    """Case 75."""
    await registered(here)
    async with here.ctx.store.begin() as tx:
        gone = suppression.Note("yokokou", SUPPRESSED, Cause.UNKNOWN_USER, suppression.Source.REPORT, "5.1.1", None)
        await suppression.note(tx, [gone], here.now)
    sent: list[tuple[str, int]] = []
    event.listen(
        here.ctx.store.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: sent.append((statement, len(parameters))),
    )

    async def statements(typed: str) -> list[tuple[str, int]]:
        sent.clear()
        assert await ask(here, typed) is None
        return list(sent)

    known, unknown, suppressed = [
        await statements(typed) for typed in (ADDRESS, "nobody@docomo.ne.jp", SUPPRESSED.text)
    ]
    assert known == unknown == suppressed


async def test_an_unknown_address_gets_nothing_and_is_forgotten(here: World) -> None:
    await registered(here)
    assert await ask(here, "nobody@docomo.ne.jp") is None
    assert await expand(here) == 0
    assert await here.count(link, link.c.purpose == wishes.Wish.PASSWORD) == 0
    assert await here.count(outbox, outbox.c.letter == "reissue") == 0


async def test_asking_changes_nothing(here: World) -> None:
    who = await registered(here)
    token = await here.log_in(who, "Hanako7")
    before = await here.rows(select(member))
    await the_mail(here)
    assert await here.rows(select(member)) == before
    assert await login.session(here.ctx, who.society, token, here.now) is not None
    assert await here.log_in(who, "Hanako7")


async def test_one_mail_for_each_account_of_a_shared_address(here: World) -> None:
    await registered(here, "father-one", nickname="父")
    await registered(here, "mother-one", nickname="母")
    await ask(here)
    assert await expand(here) == 2
    facts = await mailed(here)
    assert {(one["nickname"], one["login_id"]) for one in facts} == {("父", "father-one"), ("母", "mother-one")}
    assert len({one["temporary_password"] for one in facts}) == 2


async def test_a_protected_person_is_left_out_where_the_address_is_shared(here: World) -> None:
    await registered(here, "hidden-one", protected=True)
    await ask(here)
    assert await expand(here) == 1
    here.now += HOUR
    await registered(here, "other-one")
    await ask(here)
    assert await expand(here) == 1
    assert {one.get("login_id") for one in await mailed(here)} == {"hidden-one", "other-one"}
    assert (await here.mails("reissue"))[-1].created_at == here.now


async def test_who_has_left_or_is_not_registered_gets_none(here: World) -> None:
    who = await registered(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == who.id).values(left_on="2026-11-20"))
    await ask(here)
    assert await expand(here) == 0


async def test_an_address_that_is_not_proved_gets_none(here: World) -> None:
    who = await here.join("shochiku")
    await here.register(who, who.login_id, ADDRESS, address="new@private.example")
    await ask(here, "new@private.example", "shochiku")
    assert await expand(here) == 0


async def test_one_mail_an_hour(here: World) -> None:
    await registered(here)
    sent = []
    for _ in range(3):
        await ask(here)
        sent.append(await expand(here))
        here.now += 30 * MINUTE
    assert sent == [1, 0, 1]


async def test_typing_errors_and_floods(here: World) -> None:
    assert texts(await ask(here, "hanako@")) == ["address: メールアドレスの「@」より後ろをお確かめください。"]
    answers = [await ask(here, f"a{n}@docomo.ne.jp") for n in range(121)]
    assert [one for one in answers if one is None] == [None] * 120
    assert answers[-1].status == 429


async def test_the_timetable_sends_what_was_asked_for(here: World) -> None:
    await registered(here)
    await ask(here)
    async with here.ctx.store.begin() as tx:
        assert await timetable.due(here.ctx, tx, here.now) == 1


async def test_wrong_temporary_logins_say_one_thing_and_kill_the_link(here: World) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    right = form(facts)
    wrong = [
        {**right, "login_id": "other"},
        {**right, "temporary_password": right["temporary_password"].swapcase()},
        {"login_id": "\ud800", "temporary_password": "\ud800"},
    ]
    answers = [await reissue.begin(here.ctx, who.society, link_id, one, NETWORK, here.now) for one in wrong]
    assert len({tuple(texts(one)) for one in answers}) == 1
    for _ in range(10):
        empty = await reissue.begin(here.ctx, who.society, link_id, {}, NETWORK, here.now)
        assert texts(empty) == [
            "login_id: ログインIDを入力してください。",
            "temporary_password: 仮パスワードを入力してください。",
        ]
    for _ in range(7):
        await reissue.begin(here.ctx, who.society, link_id, wrong[0], NETWORK, here.now)
    dead = await reissue.begin(here.ctx, who.society, link_id, right, NETWORK, here.now)
    assert dead is LinkState.REVOKED


async def test_the_new_password_needs_the_browser_of_the_temporary_login(here: World) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    for proof in (None, "x" * 43):
        answer = await reissue.finish(here.ctx, who.society, link_id, proof, NEW, NEW, here.now)
        assert answer is LinkState.UNKNOWN
    begun = await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now)
    assert isinstance(begun, Begun)
    assert await reissue.finish(here.ctx, who.society, link_id, None, NEW, NEW, here.now) is LinkState.UNKNOWN
    here.now += 3 * HOUR
    late = await reissue.finish(here.ctx, who.society, link_id, begun.proof, NEW, NEW, here.now)
    assert late is LinkState.EXPIRED


async def test_two_tabs_change_it_once(here: World) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    begun = await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now)
    assert isinstance(begun, Begun)
    answers = await asyncio.gather(
        *(reissue.finish(here.ctx, who.society, link_id, begun.proof, new, new, here.now) for new in (NEW, NEW + "x"))
    )
    assert sorted(map(str, answers)) == ["None", str(LinkState.USED)]
    assert len(await here.mails("password-changed")) == 1


async def test_neither_the_temporary_password_nor_the_forgotten_one_is_taken(here: World) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    begun = await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now)
    assert isinstance(begun, Begun)
    temporary = str(facts["temporary_password"])
    refused = await reissue.finish(here.ctx, who.society, link_id, begun.proof, temporary, temporary, here.now)
    assert any("いままでと違う" in text for text in texts(refused))
    refused = await reissue.finish(here.ctx, who.society, link_id, begun.proof, PASSWORD, PASSWORD, here.now)
    assert texts(refused) == ["password: いままでと違うパスワードを入力してください。"]


async def test_a_mail_without_a_temporary_password_leads_straight_on(here: World) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(link).where(link.c.id == link_id).values(format=None))
    page = await reissue.first_page(here.ctx, who.society, link_id, here.now)
    assert page == ReissuePage(None, here.now + 3 * HOUR, "Hanako7")
    begun = await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now)
    assert begun is LinkState.UNKNOWN
    assert await reissue.finish(here.ctx, who.society, link_id, None, NEW, NEW, here.now) is None
    assert await here.log_in(who, "Hanako7", NEW)


@pytest.mark.parametrize("state", [LinkState.EXPIRED, LinkState.UNKNOWN, LinkState.REVOKED])
async def test_dead_links(here: World, state: LinkState) -> None:
    who = await registered(here)
    link_id, facts = await the_mail(here)
    if state is LinkState.EXPIRED:
        here.now += 3 * HOUR
    elif state is LinkState.REVOKED:
        async with here.ctx.store.begin() as tx:
            await tx.execute(update(link).values(revoked_at=here.now))
    else:
        link_id += 1
    assert await reissue.first_page(here.ctx, who.society, link_id, here.now) is state
    assert await reissue.begin(here.ctx, who.society, link_id, form(facts), NETWORK, here.now) is state
    assert await reissue.finish(here.ctx, who.society, link_id, None, NEW, NEW, here.now) is state
    assert await here.count(journey, journey.c.name == reissue.JOURNEY) == 0


async def test_a_second_link_dies_with_the_first(here: World) -> None:
    who = await registered(here)
    first, facts = await the_mail(here)
    here.now += HOUR
    await ask(here)
    assert await expand(here) == 1
    second = next(one.link_id for one in await here.mails("reissue") if one.link_id != first)
    begun = await reissue.begin(here.ctx, who.society, first, form(facts), NETWORK, here.now)
    assert isinstance(begun, Begun)
    assert await reissue.finish(here.ctx, who.society, first, begun.proof, NEW, NEW, here.now) is None
    assert second is not None
    assert await reissue.first_page(here.ctx, who.society, second, here.now) is LinkState.REVOKED


async def test_the_mail_is_cancelled_when_the_address_was_removed(here: World) -> None:
    await registered(here)
    await ask(here)
    await expand(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(address.delete())
    async with here.ctx.store.read() as tx:
        found = await mailfacts.mail_facts(here.ctx, tx, await here.mails("reissue"), here.now)
    assert found == [Cancelled("address-removed")]
