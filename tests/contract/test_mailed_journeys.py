"""Journeys that go on behind a second link: a key from the screen, other browsers, double taps, what ends them."""

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event, select

from mailbot.config import Start
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.registration import journeys, mailed, stops
from mailbot.registration.outcomes import Begun, End, JourneyEnd, Moved, Refused, StepPage
from mailbot.store.tables import audit, journey, link, member, outbox
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, Joined, World, texts

ME, ADDRESS = "omron", "taku@company.example"
GOOD = "Umi-no-Mieru-9-machi"
FIRST, OTHER = "browser:one-secret", "browser:another-secret"


@dataclass
class Walk:
    """One member's journey, at the page with the key."""

    here: World
    who: Joined
    begun: Begun
    key: str
    link_id: int
    first_link: int

    async def type_key(self, key: str | None = None, browser: str = OTHER, link_id: int | None = None) -> Any:
        form = {"key": self.key if key is None else key}
        target = link_id or self.link_id
        return await mailed.submit(self.here.ctx, self.who.society, target, form, self.here.now, browser)

    async def page(self, begun: Begun | None = None) -> Any:
        one = begun or self.begun
        return await journeys.page(self.here.ctx, self.who.society, one.journey_id, one.proof, self.here.now)

    async def finish(self, begun: Begun, login_id: str = "taku-long") -> Any:
        fields = {"password": GOOD, "password_again": GOOD, "nickname": "たく"}
        return await self.here.submit(self.who, begun, login_id, **fields)

    @property
    def wrong(self) -> str:
        return f"{(int(self.key) + 1) % 10_000:04}"


async def begin(here: World, number: str, link_id: int, browser: str = FIRST, address: str = ADDRESS) -> Any:
    form = {"address": address, "symbol": "12", "number": number}
    form |= {"birth_date_year": "1980", "birth_date_month": "1", "birth_date_day": "2"}
    society = here.society(ME)
    return await journeys.begin(
        here.ctx, society, Start.WEB_FORM, link_id, form, NETWORK, here.now, "identity", browser
    )


async def walk(here: World, number: str = "1", address: str = ADDRESS, who: Joined | None = None) -> Walk:
    """From the link to the page that shows the key."""
    who = who or await here.join(ME, symbol="12", number=number)
    first = await here.link(ME, address)
    begun = await begin(here, number, first, address=address)
    assert isinstance(begun, Begun), begun
    page = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    assert (page.step, page.position, page.total, page.waits) == ("mailed-link", 2, 4, True)
    return Walk(here, who, begun, page.facts["key"], await last_link(here, begun.journey_id), first)


async def last_link(here: World, journey_id: int) -> int:
    rows = await here.rows(select(link.c.id).where(link.c.journey_id == journey_id).order_by(link.c.created_at.desc()))
    return int(rows[0].id)


async def test_the_key_carries_the_journey_to_another_browser(here: World) -> None:
    at = await walk(here)
    assert [one.recipient for one in await here.mails("mailed-link")] == [ADDRESS]
    behind = await mailed.first_page(here.ctx, at.who.society, at.link_id, here.now)
    assert isinstance(behind, StepPage)
    assert (behind.step, behind.position, [one.name for one in behind.fields]) == ("enter-key", 3, ["key"])
    assert "key" not in behind.facts
    begun = await at.type_key()
    assert isinstance(begun, Begun)
    page = await at.page(begun)
    assert isinstance(page, StepPage)
    assert (page.step, page.position) == ("credentials", 4)
    assert page.values == {"login_id": "", "address": ADDRESS, "nickname": "山田　1子"}
    assert await at.page() == JourneyEnd(End.OTHER_BROWSER), "the screen with the key leads no further"
    assert await at.finish(begun) == Moved(None)
    (row,) = await here.rows(select(member.c.state, member.c.login_id).where(member.c.id == at.who.id))
    assert tuple(row) == ("registered", "taku-long")
    assert [one.recipient for one in await here.mails("completion")] == [ADDRESS]


async def test_five_wrong_keys_end_the_journey_and_nothing_else(here: World) -> None:
    at = await walk(here)
    for left in (4, 3, 2, 1):
        refused = await at.type_key(at.wrong)
        assert texts(refused) == [
            f"key: 認証キーが違います。ひかえた4けたの数字を、もう一度入力してください。あと{left}回入力できます。"
        ]
    dead = JourneyEnd(End.TOO_MANY_TRIES)
    assert await at.type_key(at.wrong) == dead
    assert await at.type_key() == dead, "the right one comes too late"
    assert await mailed.first_page(here.ctx, at.who.society, at.link_id, here.now) == dead
    assert await at.page() == dead
    assert await journeys.send_again(here.ctx, at.who.society, at.begun.journey_id, at.begun.proof, here.now) == dead
    rows = await here.rows(select(audit.c.event, audit.c.member_id))
    assert [tuple(row) for row in rows] == [("journey-tries-used-up", at.who.id)]
    here.now += MINUTE
    again = await walk(here, who=at.who)
    assert isinstance(await again.type_key(), Begun)


async def test_many_keys_at_once_are_many_tries(here: World) -> None:
    at = await walk(here)
    keys = [f"{(int(at.key) + n) % 10_000:04}" for n in range(1, 21)]
    answers = await asyncio.gather(*(at.type_key(key) for key in keys))
    assert sum(isinstance(one, Refused) for one in answers) == 4
    assert sum(one == JourneyEnd(End.TOO_MANY_TRIES) for one in answers) == 16
    assert await here.count(audit) == 1


async def test_what_is_no_key(here: World) -> None:
    at = await walk(here)
    for empty in ("", " \u3000"):
        assert texts(await at.type_key(empty)) == ["key: 認証キーを入力してください。"]
    for strange in ("<script>", "a\0b", "\ud800", "🎉" * 9):
        assert texts(await at.type_key(strange))[0].startswith("key: 認証キーが違います。")
    wide = "".join(chr(0xFF10 + int(digit)) for digit in at.key)
    assert isinstance(await at.type_key(f" {wide[:2]}-{wide[2:]}　"), Begun), "empty ones were no tries"


async def test_a_very_long_key_is_a_wrong_one(here: World) -> None:
    at = await walk(here)
    assert texts(await at.type_key(at.key * 2500))[0].startswith("key: 認証キーが違います。")


async def test_two_of_a_household_at_once_do_not_meet(here: World) -> None:
    one = await walk(here, "1")
    here.now += MINUTE
    two = await walk(here, "2")
    assert one.first_link != two.first_link, "the first link was spent with its journey"
    assert texts(await two.type_key(one.key))[0].startswith("key: 認証キーが違います。")
    begun = [await one.type_key(), await two.type_key()]
    assert await one.finish(begun[0], "taku-long") == Moved(None)
    assert await two.finish(begun[1], "mika-long") == Moved(None)
    assert await here.count(member, member.c.state == "registered") == 2


async def test_a_double_tap_loses_nothing(here: World) -> None:
    who = await here.join(ME, symbol="12", number="1")
    first = await here.link(ME, ADDRESS)
    answers = list(await asyncio.gather(*(begin(here, "1", first) for _ in range(2))))
    (begun,) = [one for one in answers if isinstance(one, Begun)]
    assert LinkState.USED in answers
    # the answer that the browser never saw is found by the browser's own secret
    found = await journeys.begun_here(here.ctx, who.society, first, FIRST)
    assert found == Begun(begun.journey_id, begun.proof, "")
    for browser in (OTHER, ""):
        assert await journeys.begun_here(here.ctx, who.society, first, browser) is None
    assert len(await here.mails("mailed-link")) == 1
    page = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    at = Walk(here, who, begun, page.facts["key"], await last_link(here, begun.journey_id), first)
    answers = list(await asyncio.gather(at.type_key(), at.type_key()))
    (went_on,) = [one for one in answers if isinstance(one, Begun)]
    assert LinkState.USED in answers or LinkState.REVOKED in answers, answers
    assert await journeys.begun_here(here.ctx, who.society, at.link_id, OTHER) == Begun(
        went_on.journey_id, went_on.proof, ""
    )
    assert await journeys.begun_here(here.ctx, who.society, at.link_id, FIRST) is None
    assert Moved(None) in await asyncio.gather(at.finish(went_on), at.finish(went_on))
    assert len(await here.mails("completion")) == 1


async def test_a_used_link_opens_nothing_again(here: World) -> None:
    at = await walk(here)
    begun = await at.type_key()
    assert await at.type_key(browser=FIRST) is LinkState.USED
    assert await mailed.first_page(here.ctx, at.who.society, at.link_id, here.now) is LinkState.USED
    assert await begin(here, "1", at.first_link) is LinkState.USED
    await at.finish(begun)
    assert await at.type_key() is LinkState.USED


async def test_links_of_others_and_of_other_kinds_open_nothing(here: World) -> None:
    at = await walk(here)
    other = here.society("yokokou")
    for society, link_id in ((other, at.link_id), (at.who.society, at.first_link), (at.who.society, 7)):
        assert await mailed.first_page(here.ctx, society, link_id, here.now) is LinkState.UNKNOWN
        assert await mailed.submit(here.ctx, society, link_id, {"key": at.key}, here.now) is LinkState.UNKNOWN
    peeked = await journeys.peek_link(here.ctx, at.who.society, LinkPurpose.REGISTRATION, at.link_id, here.now)
    assert peeked.state is LinkState.UNKNOWN
    page = await journeys.page(here.ctx, other, at.begun.journey_id, at.begun.proof, here.now)
    assert page == JourneyEnd(End.UNKNOWN)


async def test_forms_out_of_their_turn_change_nothing(here: World) -> None:
    at = await walk(here)
    rows = await here.rows(select(journey))
    for step in ("credentials", "enter-key", "mailed-link", "insurance-details", "show-key", "", "x" * 9):
        form = {"key": at.key, "login_id": "taku-long", "password": GOOD, "password_again": GOOD}
        moved = await journeys.submit(
            here.ctx, at.who.society, at.begun.journey_id, at.begun.proof, step, form, here.now
        )
        assert moved in (Moved("mailed-link"), JourneyEnd(End.EXPIRED)), step
    back = await journeys.go_back(
        here.ctx, at.who.society, at.begun.journey_id, at.begun.proof, "insurance-details", here.now
    )
    assert back == Moved("mailed-link")
    assert await here.rows(select(journey)) == rows
    assert await here.count(member, member.c.state == "registered") == 0


async def test_each_step_has_its_end(here: World) -> None:
    life = here.society(ME).links.registration_minutes * MINUTE
    who = await here.join(ME, symbol="12", number="9")
    first, started = await here.link(ME, ADDRESS), here.now
    here.now = started + life
    assert await begin(here, "9", first) is LinkState.EXPIRED
    at = await walk(here, who=who, number="9")
    until = here.now + who.society.links.journey_minutes * MINUTE
    here.now = until - 1
    assert isinstance(await at.page(), StepPage)
    here.now = until
    assert await at.page() == JourneyEnd(End.EXPIRED)
    assert await at.type_key() is LinkState.EXPIRED
    assert await mailed.first_page(here.ctx, who.society, at.link_id, here.now) is LinkState.EXPIRED
    again = await walk(here, who=who, number="9")
    begun = await again.type_key()
    here.now += DAY
    assert await again.page(begun) == JourneyEnd(End.EXPIRED)
    form = {"login_id": "taku-long", "password": GOOD, "password_again": GOOD}
    ended = await journeys.submit(
        here.ctx, who.society, begun.journey_id, begun.proof, "credentials", form, here.now
    )
    assert ended == JourneyEnd(End.EXPIRED)
    assert await here.count(member, member.c.state == "registered") == 0


async def test_the_mail_may_be_asked_for_again_with_the_same_link_and_within_the_budget(here: World) -> None:
    at = await walk(here)
    given = (here.ctx, at.who.society, at.begun.journey_id)
    answers = [await journeys.send_again(*given, at.begun.proof, here.now) for _ in range(20)]
    assert answers[0] == Moved("mailed-link")
    sent = answers.count(Moved("mailed-link"))
    assert 1 <= sent < 20
    assert {one.status for one in answers if isinstance(one, Refused)} == {429}
    mails = await here.mails("mailed-link")
    assert len(mails) == 1 + sent
    assert {one.link_id for one in mails} == {at.link_id}, "mails cross: each of them works"
    stranger = await journeys.send_again(*given, "another cookie", here.now)
    assert stranger == JourneyEnd(End.OTHER_BROWSER)
    assert isinstance(await at.type_key(), Begun)


async def test_who_registered_on_another_way_meanwhile_is_told_nothing_by_the_link(here: World) -> None:
    at = await walk(here)
    paper = await here.begin(at.who, await here.link(ME, "taku@home.example"), journey="paper")
    assert await at.finish(paper, "by-paper") == Moved(None)
    assert await mailed.first_page(here.ctx, at.who.society, at.link_id, here.now) is LinkState.USED
    assert await at.type_key() is LinkState.USED
    assert await at.page() == JourneyEnd(End.DONE, already=True)


async def test_two_journeys_of_one_member_end_in_one_registration(here: World) -> None:
    one = await walk(here)
    here.now += MINUTE
    two = await walk(here, who=one.who)
    tabs = [await one.type_key(), await two.type_key()]
    assert await two.finish(tabs[1]) == Moved(None)
    assert await one.finish(tabs[0], "else-long") == JourneyEnd(End.DONE, already=True)
    assert len(await here.mails("completion")) == 1


async def test_an_emergency_stop_ends_both_links(here: World) -> None:
    at = await walk(here)
    begun = await (await walk(here, "2", "mika@company.example")).type_key()
    await stops.revoke_links(here.ctx, ME, None, "tanaka", here.now)
    assert await at.type_key() in (LinkState.REVOKED, LinkState.EXPIRED)
    assert await at.page() == JourneyEnd(End.EXPIRED)
    assert await at.page(begun) == JourneyEnd(End.EXPIRED)


async def test_an_address_sent_along_is_not_looked_at(here: World) -> None:
    """The page shows it as text; a form that holds one was not ours."""
    at = await walk(here)
    begun = await at.type_key()
    fields = {"login_id": "taku-long", "password": GOOD, "password_again": GOOD, "nickname": ""}
    moved = await journeys.submit(
        here.ctx,
        at.who.society,
        begun.journey_id,
        begun.proof,
        "credentials",
        {**fields, "address": "other@else.example"},
        here.now,
    )
    assert moved == Moved(None)
    assert {one.recipient for one in await here.mails()} == {ADDRESS}
    assert await here.count(outbox, outbox.c.letter == "address-proof") == 0


async def test_reading_pages_behind_the_link_writes_nothing(here: World) -> None:
    at = await walk(here)
    sent: list[str] = []
    event.listen(
        here.ctx.store.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement.lstrip().upper()),
    )
    for _ in range(2):
        await mailed.first_page(here.ctx, at.who.society, at.link_id, here.now)
        await at.page()
    await journeys.begun_here(here.ctx, at.who.society, at.link_id, FIRST)
    assert len(sent) >= 5
    assert all(one.startswith(("SELECT", "BEGIN")) for one in sent)


async def test_a_journey_whose_mail_waits_outlives_the_first_link(here: World) -> None:
    who = await here.join(ME, symbol="12", number="1")
    first = await here.link(ME, ADDRESS)
    here.now += who.society.links.registration_minutes * MINUTE - MINUTE
    begun = await begin(here, "1", first)
    assert isinstance(begun, Begun)
    here.now += 2 * HOUR
    page = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    at = Walk(here, who, begun, page.facts["key"], await last_link(here, begun.journey_id), first)
    assert isinstance(await at.type_key(), Begun)
