"""What one member may make the robot mail to strangers, and what staff may forgive; on both databases."""

import dataclasses

from mailbot.config import Start
from mailbot.registration import journeys, profile
from mailbot.registration.limits import NEW_ADDRESSES_A_DAY, WRONG_DETAILS_A_DAY
from mailbot.registration.outcomes import Begun, End, JourneyEnd, Moved, Refused, StepPage, Updated
from mailbot.registration.unlock import unlock
from tests.contract.test_consent_settings_confirm import at_settings, filled
from tests.contract.test_mailed_journeys import walk
from tests.support.factory import NETWORK, PASSWORD, World
from tests.support.steps import page, send


async def test_going_back_again_and_again_mails_to_no_more_than_so_many_addresses(here: World) -> None:
    society, begun = await at_settings(here)
    for n in range(NEW_ADDRESSES_A_DAY):
        await send(here, society, begun, "settings", **filled(address=f"stranger{n}@elsewhere.example"))
        assert await send(here, society, begun, "review") == Moved("confirm-by-mail")
        await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
    await send(here, society, begun, "settings", **filled(address="one-more@elsewhere.example"))
    late = await send(here, society, begun, "review")
    assert isinstance(late, Refused)
    assert late.status == 429
    assert (await page(here, society, begun)).step == "review"
    assert len(await here.mails("confirm-by-mail")) == NEW_ADDRESSES_A_DAY


async def test_the_profile_mails_to_no_more_than_so_many_strangers(here: World) -> None:
    who = await here.join("yokokou", nickname="はな")
    await here.register(who, "Hanako", "hanako@docomo.ne.jp")
    form = {"login_id": "Hanako", "nickname": "はな", "address_1": "hanako@docomo.ne.jp", "password": PASSWORD}
    for n in range(NEW_ADDRESSES_A_DAY):
        typed = {**form, "address_2": f"s{n}@elsewhere.example", "address_3": f"t{n}@elsewhere.example"}
        assert isinstance(await profile.update(here.ctx, who.society, who.id, typed, NETWORK, here.now), Updated)
    typed = {**form, "address_2": "one-more@elsewhere.example"}
    late = await profile.update(here.ctx, who.society, who.id, typed, NETWORK, here.now)
    assert isinstance(late, Refused)
    assert late.status == 429
    assert len(await here.mails("address-proof")) == 2 * NEW_ADDRESSES_A_DAY
    typed = {**form, "nickname": "花"}  # what mails nothing goes on
    assert isinstance(await profile.update(here.ctx, who.society, who.id, typed, NETWORK, here.now), Updated)


async def test_staff_who_checked_the_person_lift_wrong_insurance_details(here: World) -> None:
    who = await here.join("omron", symbol="12", number="345", birth_date="1980-01-02")
    form = {"address": "taku@company.example", "symbol": "12", "number": "345"}
    form |= {"birth_date_month": "1", "birth_date_day": "2"}

    async def tried(year: str) -> object:
        link_id = await here.link("omron", "taku@company.example")
        typed = {**form, "birth_date_year": year}
        return await journeys.begin(
            here.ctx, who.society, Start.WEB_FORM, link_id, typed, NETWORK, here.now, "identity"
        )

    for _ in range(WRONG_DETAILS_A_DAY):
        assert isinstance(await tried("1981"), Refused)
    closed = await tried("1980")
    assert isinstance(closed, Refused)
    assert closed.status == 429
    lifted = await unlock(here.ctx, who.society, who.id, actor="cli:test", now=here.now)
    assert lifted is not None
    assert (lifted.details, lifted.anything) == (True, True)
    assert isinstance(await tried("1980"), Begun)
    again = await unlock(here.ctx, who.society, who.id, actor="cli:test", now=here.now)
    assert again is not None
    assert not again.anything  # a right entry is no wrong one


async def test_a_key_on_the_screen_ends_with_the_ring_s_key(here: World) -> None:
    one = await walk(here)
    assert isinstance(await one.page(), StepPage)
    here.ctx = dataclasses.replace(here.ctx, ring=here.ctx.ring.rotate_compromised(here.now))
    end = await one.page()
    assert isinstance(end, JourneyEnd)
    assert end.kind is End.EXPIRED
