"""The profile: what changes at once, what needs the password, what needs a proof."""

import asyncio
import json
from typing import Any

from sqlalchemy import select, update

from mailbot.registration import login, profile
from mailbot.registration.outcomes import PendingAddress, ProfileAddress, Refused, Updated
from mailbot.store.tables import address, link, member
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, NOW, PASSWORD, Joined, World, texts

FIRST = "hanako@docomo.ne.jp"
SECOND = "hana@private.example"


async def registered(here: World, login_id: str = "Hanako", society: str = "yokokou", **person: Any) -> Joined:
    who = await here.join(society, **{"nickname": "はな", **person})
    await here.register(who, login_id, FIRST)
    return who


async def update_profile(here: World, who: Joined, **changes: str) -> Any:
    form = {"login_id": "Hanako", "nickname": "はな", "address_1": FIRST, "address_2": "", "address_3": "", **changes}
    return await profile.update(here.ctx, who.society, who.id, form, NETWORK, here.now)


async def prove(here: World, who: Joined, place: int = -1) -> bool:
    mail = (await here.mails("address-proof"))[place]
    assert mail.link_id is not None
    proved = await profile.prove_address(here.ctx, who.society, mail.link_id, here.now)
    assert isinstance(proved, bool), proved
    return proved


async def slots(here: World) -> list[tuple[int, str]]:
    return [tuple(row) for row in await here.rows(select(address.c.slot, address.c.address).order_by(address.c.slot))]


async def with_second(here: World) -> Joined:
    who = await registered(here)
    assert isinstance(await update_profile(here, who, address_2=SECOND, password=PASSWORD), Updated)
    assert await prove(here, who)
    here.now += HOUR
    return who


async def test_the_view(here: World) -> None:
    who = await registered(here)
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert (view.login_id, view.nickname, view.addresses) == ("Hanako", "はな", (ProfileAddress(1, FIRST),))
    assert view.wanted == {"iryouhi": False, "generic": False}
    assert view.disclosure == {"iryouhi": False, "generic": False}
    assert (view.pending, view.household, view.password_expires_at) == ((), ("はな",), None)


async def test_choices_and_nickname_need_no_password(here: World) -> None:
    who = await registered(here)
    done = await update_profile(
        here, who, nickname="花", **{"wanted.generic": "on", "disclosure.iryouhi": "yes", "disclosure.generic": "no"}
    )
    assert done == Updated()
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert view.nickname == "花"
    assert view.wanted == {"iryouhi": False, "generic": True}
    assert view.disclosure == {"iryouhi": True, "generic": False}
    (row,) = await here.rows(select(member.c.choices))
    assert json.loads(row.choices)["wanted"]["generic"] is True


async def test_what_is_required(here: World) -> None:
    who = await registered(here)
    refused = await update_profile(here, who, login_id="", nickname=" ", address_1="", address_2="x")
    assert [one.field for one in refused.complaints] == ["login_id", "nickname", "address_1", "address_2"]


async def test_a_login_id_changes_by_its_rule_and_with_the_password(here: World) -> None:
    who = await registered(here)
    assert [one.field for one in (await update_profile(here, who, login_id="hanako-2")).complaints] == ["login_id"]
    assert [one.field for one in (await update_profile(here, who, login_id="hana-new")).complaints] == ["password"]
    wrong = await update_profile(here, who, login_id="hana-new", password="wrong")
    assert [one.field for one in wrong.complaints] == ["password"]
    assert await update_profile(here, who, login_id="hana-new", password=PASSWORD) == Updated()
    assert await here.log_in(who, "hana-new")
    assert isinstance(await login.log_in(here.ctx, who.society, "Hanako", PASSWORD, NETWORK, here.now), Refused)


async def test_a_taken_login_id_is_told_only_to_who_knows_the_password(here: World) -> None:
    await registered(here, "somebody")
    who = await registered(here)
    assert [one.field for one in (await update_profile(here, who, login_id="SOMEBODY")).complaints] == ["password"]
    refused = await update_profile(here, who, login_id="SOMEBODY", password=PASSWORD)
    assert "ほかの方が使っています" in texts(refused)[0]


async def test_two_who_take_one_login_id_in_the_same_moment(here: World) -> None:
    both = [await registered(here, "Hanako"), await registered(here, "other-hana")]
    answers = await asyncio.gather(
        *(update_profile(here, who, login_id="wanted-by-both", password=PASSWORD) for who in both)
    )
    assert sorted(type(one).__name__ for one in answers) == ["Refused", "Updated"]


async def test_a_look_alike_of_ones_own_id_keeps_the_rule_too(here: World) -> None:
    who = await registered(here, "abcdefio")
    refused = await update_profile(here, who, login_id="abcdef10", password=PASSWORD)
    assert "数字を使えません" in texts(refused)[0]


async def test_the_spelling_of_ones_own_id_may_change(here: World) -> None:
    who = await registered(here)
    assert await update_profile(here, who, login_id="HANAKO", password=PASSWORD) == Updated()
    assert (await profile.view(here.ctx, who.society, who.id, here.now)).login_id == "HANAKO"


async def test_a_new_address_counts_once_proved_and_the_old_is_told(here: World) -> None:
    who = await registered(here)
    done = await update_profile(here, who, address_1=SECOND, password=PASSWORD)
    assert done == Updated((SECOND,))
    assert await slots(here) == [(1, FIRST)]
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert view.pending == (PendingAddress(1, SECOND, here.now + 3 * HOUR),)
    assert await here.mails("address-changed") == []
    here.now += MINUTE
    assert await prove(here, who)
    assert await slots(here) == [(1, SECOND)]
    (told,) = await here.mails("address-changed")
    assert (told.recipient, told.facts) == (FIRST, {"changed_at": here.now})
    assert not await prove(here, who)
    assert (await profile.view(here.ctx, who.society, who.id, here.now)).pending == ()


async def test_a_proof_is_good_for_three_hours_and_its_own_society(here: World) -> None:
    who = await registered(here)
    await update_profile(here, who, address_2=SECOND, password=PASSWORD)
    link_id = (await here.mails("address-proof"))[0].link_id
    assert link_id is not None
    assert not await profile.prove_address(here.ctx, here.society("shochiku"), link_id, here.now)
    here.now += 3 * HOUR
    assert not await prove(here, who)
    here.now -= 1
    assert await prove(here, who)


async def test_the_later_of_two_wishes_for_a_slot_counts(here: World) -> None:
    who = await registered(here)
    await update_profile(here, who, address_2=SECOND, password=PASSWORD)
    here.now += MINUTE
    await update_profile(here, who, address_2="third@private.example", password=PASSWORD)
    assert not await prove(here, who, 0)
    assert await prove(here, who, 1)
    assert await slots(here) == [(1, FIRST), (2, "third@private.example")]


async def test_removing_an_address_is_at_once_and_told(here: World) -> None:
    who = await with_second(here)
    assert [one.field for one in (await update_profile(here, who)).complaints] == ["password"]
    assert await update_profile(here, who, password=PASSWORD) == Updated()
    assert await slots(here) == [(1, FIRST)]
    told = [one.recipient for one in await here.mails("address-changed") if one.created_at == here.now]
    assert sorted(told) == sorted([FIRST, SECOND])


async def test_proved_addresses_change_places_without_a_new_proof(here: World) -> None:
    who = await with_second(here)
    assert await update_profile(here, who, address_1=SECOND, address_2=FIRST, password=PASSWORD) == Updated()
    assert await slots(here) == [(1, SECOND), (2, FIRST)]


async def test_one_address_in_two_fields_is_refused(here: World) -> None:
    who = await registered(here)
    refused = await update_profile(here, who, address_2=FIRST.upper(), password=PASSWORD)
    assert [one.field for one in refused.complaints] == ["address_2"]


async def test_proofs_keep_the_budget_of_the_address(here: World) -> None:
    who = await registered(here)
    assert isinstance(await update_profile(here, who, address_2=SECOND, password=PASSWORD), Updated)
    refused = await update_profile(here, who, address_2=SECOND, password=PASSWORD)
    assert isinstance(refused, Refused)
    assert refused.status == 429
    assert await here.count(link, link.c.purpose == "address-proof") == 1


async def test_who_has_only_the_session_cannot_guess_the_password(here: World) -> None:
    who = await registered(here)
    for _ in range(10):
        await update_profile(here, who, address_1=SECOND, password="wrong")
    assert isinstance(await update_profile(here, who, address_1=SECOND, password=PASSWORD), Refused)
    assert await here.log_in(who, "Hanako")


async def test_the_household_by_nickname_ones_own_first(here: World) -> None:
    house: Any = {"household": "12-1001"}
    father = await registered(here, "father-one", nickname="父", **house)
    mother = await registered(here, "mother-one", nickname="母", **house)
    here.now += 1
    await here.join("yokokou", nickname="子", birth_date="2011-04-05", **house)
    await here.join("yokokou", nickname="隠", protected=True, **house)
    await here.join("yokokou", nickname="去", left_on="2026-11-20", **house)
    await here.join("yokokou", **house)
    await here.join("yokokou", nickname="隣", household="12-1002")
    await here.join("shochiku", nickname="他", **house)
    seen = (await profile.view(here.ctx, mother.society, mother.id, here.now)).household
    assert seen == ("母", "父", "子")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == father.id).values(protected=True))
    assert (await profile.view(here.ctx, mother.society, mother.id, here.now)).household == ("母", "子")


async def test_no_household_where_the_file_lists_none(here: World) -> None:
    who = await registered(here, "hanako", "shochiku", household="1")
    await here.join("shochiku", nickname="子", household="1")
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert (view.household, view.password_expires_at) == ((), NOW + 365 * DAY)
