"""The PIN behind the password: its life, its tries, its mails, and what it is bound to. Cases 72 to 74."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from mailbot.config.journey import Pin
from mailbot.credentials import decode_id
from mailbot.delivery.outbox import Cancelled, Lane, MailState
from mailbot.mail.address import parse_typed
from mailbot.registration import login, mailfacts, notices, password, pin, profile, reissue, stops, timetable, wishes
from mailbot.registration.context import Context
from mailbot.registration.outcomes import LoggedIn, PinAsked, PinPage, PinState, Refused, Updated
from mailbot.store import alarms
from mailbot.store.tables import address, audit, member, outbox, pin_login, session
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, NOW, PASSWORD, Joined, World, texts

SOCIETY = "hpe"
FIRST = "ren@private.example"
SECOND = "ren@work.example"
GOOD = "Umi-no-9-machi"


async def registered(here: World, login_id: str = "ren-hp", invited: str = FIRST) -> Joined:
    who = await here.join(SOCIETY, nickname="れん")
    await here.register(who, login_id, invited, password=GOOD, password_again=GOOD)
    await settle(here)
    return who


async def settle(here: World, state: MailState = MailState.DELIVERED) -> None:
    """What the courier does when the relay has answered for the completion mails."""
    mails = await here.mails("completion")
    async with here.ctx.store.begin() as tx:
        await mailfacts.mail_settled(here.ctx, tx, [(mail, state) for mail in mails], here.now)


async def first_half(here: World, login_id: str = "ren-hp", network: str = NETWORK, typed: str = GOOD) -> Any:
    return await login.log_in(here.ctx, here.society(SOCIETY), login_id, typed, network, here.now)


async def asked(here: World, login_id: str = "ren-hp") -> str:
    """The cookie after the right password."""
    done = await first_half(here, login_id)
    assert isinstance(done, PinAsked), done
    return done.proof


async def second_half(here: World, proof: str | None, typed: str) -> Any:
    return await login.log_in_with_pin(here.ctx, here.society(SOCIETY), proof, typed, here.now)


async def mailed(here: World, proof: str = "") -> str:
    """The PIN of the newest mail (of this login), as it is sent at this moment."""
    login_id = decode_id(proof.partition(".")[0])
    both = zip(await here.mails("pin"), await facts(here), strict=True)
    return str([one for mail, one in both if login_id in (None, mail.link_id) and isinstance(one, dict)][-1]["pin"])


async def facts(here: World) -> list[Any]:
    async with here.ctx.store.read() as tx:
        return list(await mailfacts.mail_facts(here.ctx, tx, await here.mails("pin"), here.now))


async def page(here: World, proof: str | None) -> PinPage:
    found = await pin.page(here.ctx, here.society(SOCIETY), proof, here.now)
    assert found is not None
    return found


async def again(here: World, proof: str | None) -> Any:
    return await pin.send_again(here.ctx, here.society(SOCIETY), proof, here.now)


def changed(here: World, **sections: Any) -> None:
    """The society's file says something else from now on."""
    old = here.ctx
    society = here.society(SOCIETY).model_copy(update=sections)
    settings = replace(old.settings, societies={**old.settings.societies, SOCIETY: society})
    here.ctx = Context(settings, old.ring, old.passwords, old.store)


def wrong(right: str) -> str:
    """Another PIN of the same length."""
    return f"{(int(right.replace(' ', '')) + 1) % 10**6:06}"


async def fail(here: World, proof: str, times: int) -> Any:
    """The answer to the last of some wrong tries."""
    guess, answer = wrong(await mailed(here)), None
    for _ in range(times):
        answer = await second_half(here, proof, guess)
    return answer


async def failures(here: World) -> int:
    (row,) = await here.rows(select(member.c.pin_failures))
    return int(row.pin_failures)


# --- the way through --------------------------------------------------------------------------------------------------


async def test_no_session_before_the_right_pin(here: World) -> None:
    who = await registered(here)
    proof = await asked(here)
    assert await here.count(session) == 0
    done = await second_half(here, proof, await mailed(here))
    assert isinstance(done, LoggedIn)
    assert done.scope == "member"
    view = await login.session(here.ctx, who.society, done.session_token, here.now)
    assert view is not None
    assert (view.member_id, view.last_login_at) == (who.id, None)


async def test_only_a_finished_login_is_the_last_login(here: World) -> None:
    who = await registered(here)
    await second_half(here, await asked(here), await mailed(here))
    here.now += HOUR
    await asked(here)
    here.now += HOUR
    done = await second_half(here, await asked(here), await mailed(here))
    view = await login.session(here.ctx, who.society, done.session_token, here.now)
    assert view is not None
    assert view.last_login_at == NOW


async def test_the_mail(here: World) -> None:
    await registered(here)
    await asked(here)
    (mail,) = await here.mails("pin")
    assert (mail.recipient, mail.lane, mail.deadline_at) == (FIRST, Lane.PIN, NOW + 6 * MINUTE)
    (found,) = await facts(here)
    assert (found["nickname"], found["expires_at"]) == ("れん", NOW + 10 * MINUTE)
    assert [len(half) for half in found["pin"].split(" ")] == [3, 3]


async def test_digits_and_minutes_are_the_societys(here: World) -> None:
    await registered(here)
    society = here.society(SOCIETY)
    changed(here, login=society.login.model_copy(update={"pin": Pin(digits=8, minutes=5)}))
    proof = await asked(here)
    (found,) = await facts(here)
    assert (len(found["pin"]), found["expires_at"]) == (9, NOW + 5 * MINUTE)
    shown = await page(here, proof)
    assert (shown.digits, shown.until, shown.addresses) == (8, NOW + 5 * MINUTE, ("re****@private.example",))
    assert isinstance(await second_half(here, proof, found["pin"]), LoggedIn)


async def test_nothing_of_the_pin_is_kept(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    digits = (await mailed(here)).replace(" ", "")
    for table in (pin_login, outbox, audit):
        for row in await here.rows(select(table)):
            assert digits not in [str(value) for value in row]
            assert proof.partition(".")[2] not in str(tuple(row))


async def test_an_old_password_leads_only_to_a_new_one(here: World) -> None:
    who = await registered(here)
    rule = who.society.password.model_copy(update={"expires_days": 30})
    changed(here, password=rule)
    here.now += 30 * DAY
    done = await second_half(here, await asked(here), await mailed(here))
    assert done.scope == "expired-password"


# --- case 72: what is typed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["{}{}", "{} {}", "{}-{}", " {}　{} ", "{}－{}", "wide", "{}ー{}"])
async def test_72_a_pin_in_any_spelling(here: World, spelling: str) -> None:
    await registered(here)
    proof = await asked(here)
    left, right = (await mailed(here)).split(" ")
    typed = spelling.format(left, right)
    if spelling == "wide":
        typed = f"{left} {right}".translate(str.maketrans("0123456789", "０１２３４５６７８９"))
    assert isinstance(await second_half(here, proof, typed), LoggedIn)


@pytest.mark.parametrize(
    "typed",
    ["", " ", "²³4567", "12345", "1234567", "①②③④⑤⑥", "abcdef", "\0", "\ud800", "١٢٣٤٥٦", "x" * 5000, "1" * 1025],
)
async def test_72_what_is_no_pin_gets_a_sentence_and_is_no_try(here: World, typed: str) -> None:
    await registered(here)
    proof = await asked(here)
    for _ in range(pin.TRIES + 1):
        answer = await second_half(here, proof, typed)
        assert [one.field for one in answer.complaints] == ["pin"]
        assert "PIN Code(暗証キー)を入力してください。" in texts(answer)[0]
    assert await failures(here) == 0
    assert isinstance(await second_half(here, proof, await mailed(here)), LoggedIn)


# --- case 73: time and tries ------------------------------------------------------------------------------------------


async def test_73_a_pin_lives_ten_minutes(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    here.now += 10 * MINUTE - 1
    assert (await page(here, proof)).state is PinState.LIVE
    here.now += MINUTE // 60 + 1
    refused = await second_half(here, proof, code)
    assert "使える時間を過ぎました" in texts(refused)[0]
    assert (await page(here, proof)).state is PinState.EXPIRED
    assert await facts(here) == [Cancelled("pin-dead")]
    assert await failures(here) == 0


async def test_73_the_last_moment_counts(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    here.now += 10 * MINUTE - 1
    assert isinstance(await second_half(here, proof, code), LoggedIn)


async def test_73_the_sixth_try_finds_a_dead_pin_and_a_new_one_forgets_nothing(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    for left in (4, 3, 2, 1):
        assert f"あと{left}回" in texts(await second_half(here, proof, wrong(code)))[0]
    assert "使えなくなりました" in texts(await second_half(here, proof, wrong(code)))[0]
    assert (await page(here, proof)).state is PinState.DEAD
    assert isinstance(await second_half(here, proof, code), Refused)
    assert await failures(here) == 5
    assert await again(here, proof) is True
    assert (await page(here, proof)).state is PinState.LIVE
    assert await failures(here) == 5
    assert isinstance(await second_half(here, proof, code), Refused)  # the old PIN
    assert await failures(here) == 6
    assert isinstance(await second_half(here, proof, await mailed(here)), LoggedIn)
    assert await failures(here) == 0


async def test_73_ten_wrong_ones_in_an_hour_pause_the_account_for_half_an_hour(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    await fail(here, proof, 5)
    await again(here, proof)
    code = await mailed(here)
    paused = await fail(here, proof, 5)
    assert "16時21分を過ぎてから" in texts(paused)[0]
    shown = await page(here, proof)
    assert (shown.state, shown.paused_until) == (PinState.PAUSED, NOW + 30 * MINUTE)
    assert isinstance(await second_half(here, proof, code), Refused)
    before = await here.count(outbox)
    assert await again(here, proof) is True
    refused = await first_half(here)
    assert (refused.status, await here.count(outbox)) == (429, before)
    assert "16時21分を過ぎてから" in texts(refused)[0]
    here.now += 30 * MINUTE - 1
    assert isinstance(await first_half(here), Refused)
    here.now += 1
    assert isinstance(await second_half(here, await asked(here), await mailed(here)), LoggedIn)


async def test_73_a_hundred_in_a_row_lock_the_account_until_staff_or_a_reissue(here: World) -> None:
    who = await registered(here)
    for _ in range(10):
        here.now += DAY
        proof = await asked(here)
        await fail(here, proof, 5)
        await again(here, proof)
        locked = await fail(here, proof, 5)
    assert await failures(here) == 100
    assert "パスワードの再発行" in texts(locked)[0]
    assert (await page(here, proof)).state is PinState.LOCKED
    here.now += DAY
    assert "パスワードの再発行" in texts(await first_half(here))[0]
    async with here.ctx.store.read() as tx:
        assert [one.kind for one in await alarms.alarms(tx)] == [pin.LOCKED]
    events = await here.rows(select(audit.c.member_id).where(audit.c.event == pin.LOCKED))
    assert [row.member_id for row in events] == [who.id]
    async with here.ctx.store.begin() as tx:
        assert await pin.unlock(here.ctx, tx, who.society, who.id, here.now)
    assert isinstance(await second_half(here, await asked(here), await mailed(here)), LoggedIn)


async def test_a_reissue_lifts_what_wrong_pins_did(here: World) -> None:
    who = await registered(here)
    proof = await asked(here)
    await fail(here, proof, 5)
    await again(here, proof)
    await fail(here, proof, 5)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(pin_failures=100))
    assert await wishes.request(here.ctx, who.society, FIRST, NETWORK, here.now) is None
    async with here.ctx.store.begin() as tx:
        await timetable.due(here.ctx, tx, here.now)
    (mail,) = await here.mails("reissue")
    new = "Kawa-no-7-mizu"
    assert await reissue.finish(here.ctx, who.society, mail.link_id or 0, None, new, new, here.now) is None
    assert await pin.page(here.ctx, who.society, proof, here.now) is None
    done = await first_half(here, typed=new)
    assert isinstance(done, PinAsked)
    assert isinstance(await second_half(here, done.proof, await mailed(here)), LoggedIn)


async def test_many_tries_at_once_are_as_many_tries(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    guess = wrong(await mailed(here))
    await asyncio.gather(*(second_half(here, proof, guess) for _ in range(12)))
    assert await failures(here) == 5


async def test_the_right_pin_twice_at_once_is_one_login(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    answers = await asyncio.gather(*(second_half(here, proof, code) for _ in range(4)))
    assert sorted(type(one).__name__ for one in answers) == ["LoggedIn", "NoneType", "NoneType", "NoneType"]
    assert await here.count(session) == 1


# --- case 74: whom it can hurt ----------------------------------------------------------------------------------------


async def test_74_a_thousand_posts_without_the_password_hurt_nobody(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    name = proof.partition(".")[0]
    forged = [None, "", ".", name, f"{name}.", f"{name}.{'A' * 43}", f"aaaaaaaaaaaaa.{proof.partition('.')[2]}", "\0"]
    for number in range(1000):
        assert await second_half(here, forged[number % len(forged)], f"{number:06}") is None
    assert await again(here, forged[5]) is False
    assert await failures(here) == 0
    assert isinstance(await second_half(here, proof, await mailed(here)), LoggedIn)


async def test_74_wrong_passwords_bring_no_pin_and_pause_no_pin(here: World) -> None:
    await registered(here)
    for number in range(40):
        assert isinstance(await first_half(here, network="198.51.100.0/24", typed=f"wrong{number}"), Refused)
    assert await here.mails("pin") == []
    assert isinstance(await second_half(here, await asked(here), await mailed(here)), LoggedIn)


# --- what a PIN is bound to -------------------------------------------------------------------------------------------


async def test_the_pin_of_one_browser_fails_in_another(here: World) -> None:
    await registered(here)
    one = await asked(here)
    first = await mailed(here)
    other = await asked(here)
    assert first in [str(found["pin"]) for found in await facts(here)]
    assert isinstance(await second_half(here, other, first), Refused)
    assert isinstance(await second_half(here, one, first), LoggedIn)


async def test_a_pin_is_good_once(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    assert isinstance(await second_half(here, proof, code), LoggedIn)
    assert await second_half(here, proof, code) is None
    assert await facts(here) == [Cancelled("pin-ended")]


async def test_of_two_members_each_has_a_pin_of_its_own(here: World) -> None:
    await registered(here)
    await registered(here, "midori-hp", "midori@private.example")
    one, other = await asked(here), await asked(here, "midori-hp")
    codes = {
        mail.recipient: found["pin"] for mail, found in zip(await here.mails("pin"), await facts(here), strict=True)
    }
    assert isinstance(await second_half(here, one, codes["midori@private.example"]), Refused)
    assert isinstance(await second_half(here, other, codes["midori@private.example"]), LoggedIn)


async def test_it_is_no_cookie_of_another_society(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    assert await login.log_in_with_pin(here.ctx, here.society("yokokou"), proof, await mailed(here), here.now) is None


@pytest.mark.parametrize("what", ["password", "sessions", "left", "deleted", "half an hour"])
async def test_a_waiting_login_ends_with_its_reason(here: World, what: str) -> None:
    who = await registered(here)
    inside = await second_half(here, await asked(here), await mailed(here))
    proof = await asked(here)
    code = await mailed(here)
    if what == "password":
        new = "Kawa-no-7-mizu"
        token = inside.session_token
        assert not isinstance(
            await password.change(here.ctx, who.society, who.id, GOOD, new, new, token, here.now), Refused
        )
    elif what == "sessions":
        await stops.revoke_sessions(here.ctx, SOCIETY, None, "staff", here.now)
    elif what == "half an hour":
        here.now += pin.LOGIN_MS
    else:
        async with here.ctx.store.begin() as tx:
            left = update(member).values(left_on="2026-11-20")
            await tx.execute(left if what == "left" else member.delete())
    assert await second_half(here, proof, code) is None
    assert await pin.page(here.ctx, who.society, proof, here.now) is None


async def test_a_compromised_key_kills_the_pin_and_a_new_one_is_at_hand(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    old = here.ctx
    here.ctx = Context(old.settings, old.ring.rotate_compromised(NOW), old.passwords, old.store)
    assert await facts(here) == [Cancelled("key-refused")]
    assert (await page(here, proof)).state is PinState.EXPIRED
    assert await again(here, proof) is True
    assert isinstance(await second_half(here, proof, await mailed(here)), LoggedIn)


# --- mails ------------------------------------------------------------------------------------------------------------


async def test_tapping_ten_times_brings_three_mails_with_one_pin(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    code = await mailed(here)
    for _ in range(10):
        assert await again(here, proof) is True
    assert len(await here.mails("pin")) == 1  # nothing in the first minute
    for _ in range(10):
        here.now += 30_000
        await asyncio.gather(again(here, proof), again(here, proof))
    assert [found["pin"] for found in await facts(here)] == [code] * 3
    assert not (await page(here, proof)).may_send
    assert isinstance(await second_half(here, proof, code), LoggedIn)


async def test_an_expired_pin_is_replaced_at_once_and_only_once(here: World) -> None:
    await registered(here)
    proof = await asked(here)
    here.now += 10 * MINUTE
    assert all(await asyncio.gather(again(here, proof), again(here, proof)))
    mails = await here.mails("pin")
    assert [mail.deadline_at for mail in mails] == [NOW + 6 * MINUTE, NOW + 16 * MINUTE]
    assert (await facts(here))[0] == Cancelled("pin-ended")
    assert isinstance(await second_half(here, proof, await mailed(here)), LoggedIn)


async def test_ten_mails_a_day_that_lead_nowhere(here: World) -> None:
    await registered(here)
    for _ in range(9):
        await asked(here)
    proof = await asked(here)
    here.now += MINUTE
    refused = await again(here, proof)
    assert (refused.status, len(await here.mails("pin"))) == (429, 10)
    assert (await first_half(here)).status == 429
    assert isinstance(await second_half(here, proof, await mailed(here, proof)), LoggedIn)
    await asked(here)  # who got in gets mail again


async def test_every_ticked_address_gets_it(here: World) -> None:
    who = await registered(here)
    await tick(here, who, {1: True, 2: True})
    await asked(here)
    assert sorted(mail.recipient for mail in await here.mails("pin")) == sorted([FIRST, SECOND])
    assert len({found["pin"] for found in await facts(here)}) == 1


async def test_two_spellings_of_a_mailbox_get_one_mail(here: World) -> None:
    who = await registered(here, invited="Ren@gmail.com")
    async with here.ctx.store.begin() as tx:
        row = {"society": SOCIETY, "member_id": who.id, "address_key": "ren@gmail.com", "proved_at": NOW, "pin": True}
        await tx.execute(address.insert().values(slot=2, address="ren@gmail.com", **row))
    await asked(here)
    assert [mail.recipient for mail in await here.mails("pin")] == ["Ren@gmail.com"]


async def test_who_ticked_nothing_gets_it_at_the_first_address(here: World) -> None:
    who = await registered(here)
    await tick(here, who, {1: True, 2: True})
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(address).values(pin=False))
    await asked(here)
    assert [mail.recipient for mail in await here.mails("pin")] == [FIRST]


async def test_an_address_that_was_removed_meanwhile_gets_none(here: World) -> None:
    await registered(here)
    await asked(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(address.delete())
    assert await facts(here) == [Cancelled("address-removed")]


async def test_waiting_logins_are_not_kept(here: World) -> None:
    await registered(here)
    await asked(here)
    here.now += 30 * MINUTE + DAY + 1
    async with here.ctx.store.begin() as tx:
        await timetable.purge(here.ctx, tx, here.now)
    assert await here.count(pin_login) == 0


async def test_a_double_tap_on_the_login_is_one_login_and_one_mail(here: World) -> None:
    await registered(here)

    async def tap(browser: str) -> str:
        args = (here.ctx, here.society(SOCIETY), "ren-hp", GOOD, NETWORK, here.now)
        done = await login.log_in(*args, browser)
        assert isinstance(done, PinAsked), done
        return done.proof

    one, same = await asyncio.gather(tap("cookie-of-one"), tap("cookie-of-one"))
    assert one == same
    other = await tap("cookie-of-another")
    assert other != one
    assert len(await here.mails("pin")) == 2
    here.now += pin.TAP_MS
    later = await tap("cookie-of-one")
    assert later != one
    code = await mailed(here, later)
    assert isinstance(await second_half(here, later, code), LoggedIn)
    assert await tap("cookie-of-one") != later


# --- the profile's ticks ----------------------------------------------------------------------------------------------


async def tick(here: World, who: Joined, pins: dict[int, bool], **more: str) -> Any:
    """Saves the profile with these ticks; SECOND becomes the second address where it is not yet."""
    form = {"login_id": "ren-hp", "nickname": "れん", "address_1": FIRST, "address_2": SECOND, "address_3": "", **more}
    form |= {f"pin_{slot}": "yes" for slot, on in pins.items() if on}
    known = await here.count(address, address.c.address == SECOND)
    if not known:
        form["password"] = GOOD
    done = await profile.update(here.ctx, who.society, who.id, form, NETWORK, here.now)
    if isinstance(done, Updated) and not known:
        link_id = (await here.mails("address-proof"))[-1].link_id
        assert await profile.prove_address(here.ctx, who.society, link_id or 0, here.now)
    return done


async def ticks(here: World) -> dict[int, bool]:
    return {row.slot: bool(row.pin) for row in await here.rows(select(address.c.slot, address.c.pin))}


async def test_the_first_address_is_ticked_at_first(here: World) -> None:
    who = await registered(here)
    assert await ticks(here) == {1: True}
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert [(one.slot, one.pin) for one in view.addresses] == [(1, True)]


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_new_address_keeps_its_tick_until_it_is_proved(here: World, wanted: bool) -> None:
    who = await registered(here)
    assert await tick(here, who, {1: True, 2: wanted}) == Updated((SECOND,))
    assert await ticks(here) == {1: True, 2: wanted}


async def test_ticks_change_without_the_password(here: World) -> None:
    who = await registered(here)
    await tick(here, who, {1: True, 2: False})
    assert await tick(here, who, {1: False, 2: True}) == Updated()
    assert await ticks(here) == {1: False, 2: True}
    await asked(here)
    assert [mail.recipient for mail in await here.mails("pin")] == [SECOND]


async def test_one_proved_address_must_be_ticked(here: World) -> None:
    who = await registered(here)
    nothing = await tick(here, who, {})
    assert [one.field for one in nothing.complaints] == ["pin_1"]
    waiting = await tick(here, who, {2: True})
    assert [one.field for one in waiting.complaints] == ["pin_1"]
    assert await ticks(here) == {1: True}
    await tick(here, who, {1: False, 2: True} | {1: True})
    gone = await tick(here, who, {2: True}, address_2="", password=GOOD)
    assert [one.field for one in gone.complaints] == ["pin_1"]


async def test_ticks_stay_with_their_fields_when_addresses_change_places(here: World) -> None:
    who = await registered(here)
    await tick(here, who, {1: True, 2: False})
    assert await tick(here, who, {1: True}, address_1=SECOND, address_2=FIRST, password=GOOD) == Updated()
    rows = await here.rows(select(address.c.address, address.c.pin).order_by(address.c.slot))
    assert [tuple(row) for row in rows] == [(SECOND, True), (FIRST, False)]


async def test_an_address_that_no_form_would_take_is_kept_as_it_is(here: World) -> None:
    who = await registered(here)
    async with here.ctx.store.begin() as tx:
        odd = "a..b@private.example"
        await tx.execute(update(address).values(address=odd, address_key=odd))
    form = {"login_id": "ren-hp", "nickname": "新", "address_1": odd, "address_2": "", "address_3": "", "pin_1": "yes"}
    assert await profile.update(here.ctx, who.society, who.id, form, NETWORK, here.now) == Updated()


# --- when the login opens ---------------------------------------------------------------------------------------------


async def waiting(here: World) -> Joined:
    who = await here.join(SOCIETY, nickname="れん")
    await here.register(who, "ren-hp", FIRST, password=GOOD, password_again=GOOD)
    return who


async def test_the_login_opens_with_the_completion_mail(here: World) -> None:
    await waiting(here)
    closed = await first_half(here)
    assert texts(closed) == texts(await first_half(here, typed="wrong"))
    assert "完了メールが届くまでは、ログインできません" in texts(closed)[0]
    await settle(here, MailState.QUEUED)
    assert isinstance(await first_half(here), Refused)
    here.now += MINUTE
    await settle(here)
    assert isinstance(await first_half(here), PinAsked)
    (row,) = await here.rows(select(member.c.login_opens_at))
    here.now += MINUTE
    await settle(here)
    assert await here.rows(select(member.c.login_opens_at)) == [row]


@pytest.mark.parametrize("state", [MailState.FAILED, MailState.EXPIRED])
async def test_a_completion_mail_that_failed_alarms_and_staff_may_open(here: World, state: MailState) -> None:
    who = await waiting(here)
    await settle(here, state)
    async with here.ctx.store.read() as tx:
        assert [(one.society, one.kind) for one in await alarms.alarms(tx)] == [(SOCIETY, mailfacts.UNDELIVERED)]
    events = await here.rows(select(audit.c.member_id).where(audit.c.event == mailfacts.UNDELIVERED))
    assert [row.member_id for row in events] == [who.id]
    assert isinstance(await first_half(here), Refused)
    async with here.ctx.store.begin() as tx:
        assert await pin.unlock(here.ctx, tx, who.society, who.id, here.now)
    assert isinstance(await first_half(here), PinAsked)


async def test_an_address_proved_by_its_own_mail_opens_too(here: World) -> None:
    """Staff mended the address: the completion mail to the old one is cancelled, and nothing else would open it."""
    who = await waiting(here)
    async with here.ctx.store.begin() as tx:
        await notices.ask_proof(here.ctx, tx, who.society, who.id, 1, parse_typed(SECOND), here.now)
    (mail,) = await here.mails("address-proof")
    assert await profile.prove_address(here.ctx, who.society, mail.link_id or 0, here.now)
    assert isinstance(await second_half(here, await asked(here), await mailed(here)), LoggedIn)
    assert await ticks(here) == {1: True}


async def test_elsewhere_the_login_is_open_at_once(here: World) -> None:
    who = await here.join("yokokou")
    await here.register(who, "hanako", FIRST)
    assert await here.log_in(who, "hanako", PASSWORD)


async def test_who_is_not_registered_cannot_be_unlocked(here: World) -> None:
    who = await here.join(SOCIETY)
    async with here.ctx.store.begin() as tx:
        assert not await pin.unlock(here.ctx, tx, who.society, who.id, here.now)
