"""Registrations from the link to the end, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from sqlalchemy import event, select

from mailbot.config import Start
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.registration import entry, journeys, people, progress, stops
from mailbot.registration.context import Context
from mailbot.registration.outcomes import Begun, End, JourneyEnd, Moved, Refused, StepPage
from mailbot.registration.steps import JourneyState, Passed
from mailbot.registration.steps.credentials import CREDENTIALS
from mailbot.store.tables import address, audit, budget, journey, link, member, outbox, temporary
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, NOW, PASSWORD, World, texts

ADDRESS = "hanako@docomo.ne.jp"


async def test_a_whole_registration(here: World) -> None:
    who = await here.join("yokokou", nickname="はな")
    link_id = await here.link("yokokou", ADDRESS)
    first = await journeys.first_page(here.ctx, who.society, Start.BLANK_MAIL, link_id, here.now)
    assert isinstance(first, StepPage)
    assert (first.step, first.position, first.total, first.journey_id) == ("temporary-login", 1, 2, None)
    assert [one.name for one in first.fields] == ["login_id", "password"]
    assert await here.count(journey) == 0

    begun = await here.begin(who, link_id)
    assert begun.next == "credentials"
    page = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    assert (page.step, page.position) == ("credentials", 2)
    assert page.values == {"login_id": "", "address": ADDRESS, "nickname": "はな"}

    assert await here.submit(who, begun, "Hanako7") == Moved(None)
    done = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert done == JourneyEnd(End.DONE, "はな", "Hanako7")
    (row,) = await here.rows(select(member))
    assert (row.state, row.login_id, row.login_opens_at, row.registered_at) == ("registered", "Hanako7", NOW, NOW)
    assert PASSWORD not in row.password_hash
    (slot,) = await here.rows(select(address))
    assert (slot.slot, slot.address, slot.proved_at) == (1, ADDRESS, NOW)
    assert [one.recipient for one in await here.mails("completion")] == [ADDRESS]
    assert (await here.rows(select(temporary.c.state)))[0].state == "used"
    assert (await here.rows(select(link.c.spent_at)))[0].spent_at == NOW
    assert [one.event for one in await here.rows(select(audit.c.event))] == ["registered"]
    peeked = await journeys.peek_link(here.ctx, who.society, LinkPurpose.REGISTRATION, link_id, here.now)
    assert (peeked.state, peeked.address) == (LinkState.USED, "")


async def test_reading_pages_writes_nothing(here: World) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    begun = await here.begin(who, link_id)
    sent: list[str] = []
    event.listen(
        here.ctx.store.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement.lstrip().upper()),
    )
    await journeys.peek_link(here.ctx, who.society, LinkPurpose.REGISTRATION, link_id, here.now)
    await journeys.first_page(here.ctx, who.society, Start.WEB_FORM, link_id, here.now)
    await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    await journeys.page(here.ctx, who.society, begun.journey_id, None, here.now)
    assert len(sent) >= 4
    assert all(one.startswith(("SELECT", "BEGIN")) for one in sent)


async def test_the_same_form_twice_registers_once(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    answers = await asyncio.gather(*(here.submit(who, begun, "hanako") for _ in range(2)))
    assert answers.count(Moved(None)) == 1
    assert {getattr(one, "kind", None) for one in answers if one != Moved(None)} == {End.DONE}
    assert await here.count(outbox, outbox.c.letter == "completion") == 1
    again = await here.submit(who, begun, "other")
    assert again == JourneyEnd(End.DONE, "", "hanako")
    assert await here.count(outbox, outbox.c.letter == "completion") == 1


async def test_one_member_in_two_tabs_registers_once(here: World) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    tabs = [await here.begin(who, link_id), await here.begin(who, link_id)]
    answers = await asyncio.gather(
        *(here.submit(who, tab, login_id) for tab, login_id in zip(tabs, ("one-hana", "two-hana"), strict=True))
    )
    assert sorted(map(str, answers)) == sorted(map(str, [Moved(None), JourneyEnd(End.DONE, already=True)]))
    assert await here.count(outbox, outbox.c.letter == "completion") == 1
    later = [await journeys.page(here.ctx, who.society, tab.journey_id, tab.proof, here.now) for tab in tabs]
    assert sorted(one.already for one in later if isinstance(one, JourneyEnd)) == [False, True]


async def test_another_tab_finishes_between_reading_the_journey_and_checking_the_form(here: World) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    first, second = await here.begin(who, link_id), await here.begin(who, link_id)
    async with here.ctx.store.read() as tx:
        state = await progress.open_for(here.ctx, tx, who.society, second.journey_id, second.proof, here.now)
    assert isinstance(state, JourneyState)
    assert await here.submit(who, first, "one-hana") == Moved(None)
    passed = await CREDENTIALS.check(here.ctx, who.society, state, {}, here.now)
    assert isinstance(passed, Passed)
    with pytest.raises(progress.UndoneError) as undone:
        async with here.ctx.store.begin() as tx:
            await progress.advance(here.ctx, tx, who.society, state, CREDENTIALS, passed, here.now)
    assert undone.value.end == JourneyEnd(End.DONE, already=True)


async def test_a_household_with_one_mailbox_at_the_same_time(here: World) -> None:
    first = await here.join("yokokou", nickname="父", household="12-1001")
    second = await here.join("yokokou", nickname="母", household="12-1001")
    link_id = await here.link("yokokou", ADDRESS)
    tabs = [(first, await here.begin(first, link_id)), (second, await here.begin(second, link_id))]
    answers = await asyncio.gather(*(here.submit(who, tab, f"oya{i}abc") for i, (who, tab) in enumerate(tabs)))
    assert answers == [Moved(None), Moved(None)]
    assert await here.count(member, member.c.state == "registered") == 2
    assert await here.count(outbox, outbox.c.letter == "completion") == 2
    third = await here.join("yokokou")
    refused = await journeys.begin(
        here.ctx,
        third.society,
        Start.WEB_FORM,
        link_id,
        {"login_id": third.login_id, "password": third.password},
        NETWORK,
        here.now,
    )
    assert refused is LinkState.USED


async def test_one_after_the_other_by_a_fresh_link(here: World) -> None:
    first, second = await here.join("yokokou"), await here.join("yokokou")
    begun = await here.register(first, "first-one", ADDRESS)
    old = (await here.mails("invitation"))[0].link_id
    assert not await journeys.invite_family(here.ctx, first.society, begun.journey_id, "stranger", here.now)
    assert await journeys.invite_family(here.ctx, first.society, begun.journey_id, begun.proof, here.now)
    fresh = next(one.link_id for one in await here.mails("invitation") if one.link_id != old)
    assert fresh is not None
    assert await here.submit(second, await here.begin(second, fresh), "second-one") == Moved(None)


async def test_family_is_invited_within_the_budget_only(here: World) -> None:
    begun = await here.register(await here.join("yokokou"), "first-one", ADDRESS)
    society = here.society("yokokou")
    sent = [
        await journeys.invite_family(here.ctx, society, begun.journey_id, begun.proof, here.now + n * 2 * MINUTE)
        for n in range(4)
    ]
    assert sent == [True, True, True, False]


async def test_only_the_browser_that_passed_the_proof_goes_on(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    for proof in (None, "", "x" * 43, begun.proof + "x"):
        page = await journeys.page(here.ctx, who.society, begun.journey_id, proof, here.now)
        assert page == JourneyEnd(End.OTHER_BROWSER)
    stranger = Begun(begun.journey_id, "x" * 43, "credentials")
    assert await here.submit(who, stranger, "hanako", address=ADDRESS) == JourneyEnd(End.OTHER_BROWSER)
    unknown = await journeys.page(here.ctx, who.society, begun.journey_id + 1, begun.proof, here.now)
    assert unknown == JourneyEnd(End.UNKNOWN)
    other = here.society("shochiku")
    assert await journeys.page(here.ctx, other, begun.journey_id, begun.proof, here.now) == JourneyEnd(End.UNKNOWN)


async def test_a_journey_has_an_hour_left_after_its_proof(here: World) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    here.now = NOW + 3 * HOUR - 1
    begun = await here.begin(who, link_id)
    here.now = NOW + 4 * HOUR - 2
    assert isinstance(await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now), StepPage)
    here.now += 1
    ended = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert ended == JourneyEnd(End.EXPIRED)
    assert await here.submit(who, begun, "hanako", address=ADDRESS) == JourneyEnd(End.EXPIRED)


async def test_an_early_proof_lasts_as_long_as_the_link(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    here.now = NOW + 3 * HOUR - 1
    assert await here.submit(who, begun, "hanako") == Moved(None)


@pytest.mark.parametrize(("after", "state"), [(3 * HOUR, LinkState.EXPIRED), (3 * HOUR + DAY, LinkState.EXPIRED)])
async def test_an_expired_link_opens_nothing(here: World, after: int, state: LinkState) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    here.now = NOW + after
    form = {"login_id": who.login_id, "password": who.password}
    assert await journeys.first_page(here.ctx, who.society, Start.WEB_FORM, link_id, here.now) is state
    begun = await journeys.begin(here.ctx, who.society, Start.WEB_FORM, link_id, form, NETWORK, here.now)
    assert begun is state
    assert await here.count(journey) == 0


async def test_a_link_is_for_its_purpose_and_society_only(here: World) -> None:
    await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    for society, purpose in (("yokokou", LinkPurpose.REISSUE), ("shochiku", LinkPurpose.REGISTRATION)):
        view = await journeys.peek_link(here.ctx, here.society(society), purpose, link_id, here.now)
        assert view.state is LinkState.UNKNOWN
        assert view.address == ""


async def test_a_form_for_another_step_changes_nothing(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    moved = await journeys.submit(here.ctx, who.society, begun.journey_id, begun.proof, "temporary-login", {}, here.now)
    assert moved == Moved("credentials")
    assert await here.count(member, member.c.state == "registered") == 0


async def test_revoked_links_end_their_journeys(here: World) -> None:
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", ADDRESS)
    begun = await here.begin(who, link_id)
    assert await stops.revoke_links(here.ctx, "yokokou", None, "staff:test", here.now) == 1
    assert await here.submit(who, begun, "hanako", address=ADDRESS) == JourneyEnd(End.EXPIRED)
    assert await here.count(member, member.c.state == "registered") == 0
    view = await journeys.peek_link(here.ctx, who.society, LinkPurpose.REGISTRATION, link_id, here.now)
    assert view.state is LinkState.REVOKED


async def test_a_letter_revoked_meanwhile_ends_the_journey_and_leaves_nothing(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    await stops.revoke_letters(here.ctx, "yokokou", None, "staff:test", here.now)
    assert await here.submit(who, begun, "hanako", address=ADDRESS) == JourneyEnd(End.EXPIRED)
    assert await here.count(link, link.c.spent_at.is_not(None)) == 0
    assert await here.count(journey, journey.c.done_at.is_not(None)) == 0


async def test_web_entry_mails_the_same_link_and_keeps_its_budgets(here: World) -> None:
    society = here.society("shochiku")
    bad = await entry.request_invitation(here.ctx, society, "hanako.docomo.ne.jp", NETWORK, here.now)
    assert texts(bad) == ["address: メールアドレスに「@」が入っていません。お確かめください。"]
    assert await entry.request_invitation(here.ctx, society, "ｈａｎａｋｏ＠docomo.ne.jp", NETWORK, here.now) is None
    (mail,) = await here.mails("invitation")
    assert (mail.recipient, mail.facts) == (ADDRESS, {})
    too_soon = await entry.request_invitation(here.ctx, society, ADDRESS, NETWORK, here.now + MINUTE - 1)
    assert isinstance(too_soon, Refused)
    assert too_soon.status == 429
    assert await entry.request_invitation(here.ctx, society, ADDRESS, NETWORK, here.now + MINUTE) is None
    links = {one.link_id for one in await here.mails("invitation")}
    assert len(links) == 1


async def test_a_finished_registration_gives_the_address_its_budget_back(here: World) -> None:
    society, who = here.society("yokokou"), await here.join("yokokou")
    assert await entry.request_invitation(here.ctx, society, ADDRESS, NETWORK, here.now) is None
    link_id = (await here.mails("invitation"))[0].link_id
    assert link_id is not None
    await here.submit(who, await here.begin(who, link_id), "hanako")
    assert await here.count(budget, budget.c.scope == "address") == 0
    assert await entry.request_invitation(here.ctx, society, ADDRESS, NETWORK, here.now) is None


async def test_a_page_start_needs_an_address_on_file(here: World) -> None:
    society = here.society("shochiku")
    with_address = await here.join("shochiku", address="taro@company.example")
    without = await here.join("shochiku")
    first = await journeys.first_page(here.ctx, society, Start.PAGE, None, here.now)
    assert isinstance(first, StepPage)
    assert first.journey == "printed-address"

    async def begin(login_id: str, password: str) -> object:
        form = {"login_id": login_id, "password": password}
        return await journeys.begin(here.ctx, society, Start.PAGE, None, form, NETWORK, here.now)

    refused = await begin(without.login_id, without.password)
    assert texts(refused) == texts(await begin("99999999", "wrong"))
    begun = await begin(with_address.login_id, with_address.password)
    assert isinstance(begun, Begun)
    page = await journeys.page(here.ctx, society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    assert page.values["address"] == "taro@company.example"
    assert page.values["login_id"] == with_address.login_id
    assert await here.submit(with_address, begun, with_address.login_id) == Moved(None)
    (slot,) = await here.rows(select(address))
    assert slot.address == "taro@company.example"


async def test_a_society_without_a_page_start_has_none(here: World) -> None:
    society, who = here.society("yokokou"), await here.join("yokokou", address="taro@company.example")
    assert await journeys.first_page(here.ctx, society, Start.PAGE, None, here.now) is LinkState.UNKNOWN
    form = {"login_id": who.login_id, "password": who.password}
    for start in (Start.PAGE, Start.WEB_FORM, Start.BLANK_MAIL):
        begun = await journeys.begin(here.ctx, society, start, None, form, NETWORK, here.now)
        assert begun is LinkState.UNKNOWN


async def test_answers_so_far_are_sealed(here: World) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    (row,) = await here.rows(select(journey))
    assert begun.proof.encode() not in row.proof_hash
    place = people.place("yokokou", "journey", "sealed", begun.journey_id)
    assert str(who.letter).encode() in here.ctx.ring.open(row.sealed, place)


class Meanwhile:
    """Password hashes during which something else happens: the moment between the check of a form and its writing."""

    def __init__(self, here: World, happens: Callable[[], Awaitable[object]]) -> None:
        self._passwords, self._happens = here.ctx.passwords, happens
        old = here.ctx
        here.ctx = Context(old.settings, old.ring, cast(Any, self), old.store)

    async def hash(self, text: str) -> str:
        await self._happens()
        return await self._passwords.hash(text)

    async def close(self) -> None:
        await self._passwords.close()


@pytest.mark.parametrize("stop", [stops.revoke_links, stops.revoke_letters])
async def test_a_stop_in_the_last_moment_counts(here: World, stop: Any) -> None:
    who = await here.join("yokokou")
    begun = await here.begin(who, await here.link("yokokou", ADDRESS))
    Meanwhile(here, lambda: stop(here.ctx, None, None, "staff:test", here.now))
    assert await here.submit(who, begun, "hanako") == JourneyEnd(End.EXPIRED)
    assert await here.count(member, member.c.state == "registered") == 0
    assert await here.count(link, link.c.spent_at.is_not(None)) == 0
    assert await here.count(outbox, outbox.c.letter == "completion") == 0
