"""Consent, settings, review and confirmation by mail: what is kept, what is refused, and every odd order; on both
databases."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select, update

from mailbot.config import Formula, Society, Start
from mailbot.credentials import LinkState
from mailbot.registration import choices, consents, formula, journeys, login, mailed, members, profile
from mailbot.registration.outcomes import Begun, End, JourneyEnd, LoggedIn, Moved, Refused, StepPage
from mailbot.store.tables import address, consent, journey, link, member, outbox
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, Joined, World, texts
from tests.support.steps import agree, confirm, link_to, page, send, through

KENPOS = "kenpos"
ADDRESS, OWN = "hanako@docomo.ne.jp", "kumo-no-ue-wo-aruku"


async def insured(here: World, number: int = 4567, **more: str) -> Joined:
    facts: dict[str, Any] = {"symbol": "91", "number": str(number), "relation": "本人", "birth_date": "1964-11-03"}
    return await here.join(KENPOS, **{**facts, **more})


async def begin(here: World, number: int = 4567) -> Begun:
    form = {"login_id": f"7132-091{number:06}", "password": "19641103"}
    begun = await journeys.begin(
        here.ctx, here.society(KENPOS), Start.PAGE, None, form, NETWORK, here.now, journey="insured"
    )
    assert isinstance(begun, Begun), begun
    return begun


async def begin_family(here: World, number: int) -> Begun:
    kana = "ヤマダ　ツマ"
    facts: dict[str, Any] = {"symbol": "91", "number": str(number), "relation": "妻", "birth_date": "1966-02-09"}
    facts["kana"] = kana
    who = await here.join(KENPOS, **facts)
    form = {"symbol": "91", "number": str(number), "kana": kana}
    form |= {"birth_date_year": "1966", "birth_date_month": "2", "birth_date_day": "9"}
    begun = await journeys.begin(
        here.ctx, who.society, Start.PAGE, None, form, f"198.51.{number - 7000}.0/24", here.now, journey="family"
    )
    assert isinstance(begun, Begun), begun
    return begun


def filled(**more: str) -> dict[str, str]:
    return {"address": ADDRESS, "password": OWN, "password_again": OWN, **more}


# --- consent ----------------------------------------------------------------------------------------------------------


async def test_reading_comes_before_the_tick_and_all_of_it_is_kept(here: World) -> None:
    who, society = await insured(here), here.society(KENPOS)
    begun = await begin(here)
    first = await page(here, society, begun)
    assert (first.step, [text.id for text in first.facts["texts"]]) == ("consent", ["privacy"])
    stamp = first.facts["stamp"]
    early = await send(here, society, begun, "consent", texts=stamp, agree="yes")
    assert isinstance(early, Refused)
    for odd in ("terms", "", "nothing", "x" * 900):
        assert await send(here, society, begun, "consent", texts=stamp, read=odd) == Moved("consent")
        assert (await page(here, society, begun)).facts["unread"].id == "privacy"
    for _ in range(2):  # a double tap
        assert await send(here, society, begun, "consent", texts=stamp, read="privacy") == Moved("consent")
    both = await page(here, society, begun)
    assert [text.id for text in both.facts["texts"]] == ["privacy", "terms"]
    for tick in ({}, {"agree": ""}, {"agree": "on"}, {"agree": "ｙｅｓ"}):
        assert texts(await send(here, society, begun, "consent", texts=stamp, **tick))[0].startswith("agree: ")
    ticked_at = here.now
    assert await send(here, society, begun, "consent", texts=stamp, agree="yes") == Moved("settings")
    assert await send(here, society, begun, "consent", texts=stamp, agree="yes") == Moved("settings")  # replayed
    assert await here.count(consent) == 0  # nothing counts before the end
    here.now += HOUR // 2
    await through(here, society, begun, ADDRESS, OWN)
    assert isinstance(await confirm(here, society, ADDRESS, OWN), Begun)
    rows = await here.rows(select(consent).order_by(consent.c.text_id))
    shown = {text.id: text for text in consents.texts(here.ctx, society)}
    assert [(row.member_id, row.text_id, row.version) for row in rows] == [
        (who.id, "privacy", "2026-04"),
        (who.id, "terms", "2026-04"),
    ]
    assert [bytes(row.digest).hex() for row in rows] == [shown["privacy"].digest, shown["terms"].digest]
    assert {row.agreed_at for row in rows} == {ticked_at}
    told = await consents.agreed(here.ctx, society, who.id)
    assert [(one.title, one.version, one.same) for one in told] == [
        ("個人情報の取扱いについて", "2026-04", True),
        ("会員利用規約について", "2026-04", True),
    ]


async def test_a_text_that_changed_meanwhile_is_read_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await insured(here)
    society = here.society(KENPOS)
    begun = await begin(here)
    stamp = (await page(here, society, begun)).facts["stamp"]
    await send(here, society, begun, "consent", texts=stamp, read="privacy")
    before = consents.texts

    def changed(ctx: Any, society: Society) -> tuple[consents.Text, ...]:
        first, *rest = before(ctx, society)
        newer = consents.Text(first.id, first.title, "2027-01", first.html + "。", "ab" * 32, True)
        return (newer, *rest)

    monkeypatch.setattr(consents, "texts", changed)
    assert "文章が新しくなりました" in texts(await send(here, society, begun, "consent", texts=stamp, agree="yes"))[0]
    again = await page(here, society, begun)
    assert again.facts["unread"].version == "2027-01"
    assert isinstance(await send(here, society, begun, "consent", agree="yes"), Refused)  # no stamp at all
    await agree(here, society, begun)
    assert (await page(here, society, begun)).step == "settings"


# --- settings ---------------------------------------------------------------------------------------------------------


async def at_settings(here: World) -> tuple[Society, Begun]:
    await insured(here)
    begun = await begin(here)
    await agree(here, here.society(KENPOS), begun)
    return here.society(KENPOS), begun


BAD_SETTINGS: list[tuple[dict[str, str], str]] = [
    ({}, "address: メールアドレスを入力してください。"),
    (filled(address=""), "address: メールアドレスを入力してください。"),
    (filled(address="hanako"), "address: "),
    (filled(address="花子@docomo.ne.jp"), "address: "),
    (filled(address="x" * 300 + "@docomo.ne.jp"), "address: "),
    (filled(address="a@b.example,c@d.example"), "address: "),
    (filled(address="a@b.example\r\nBcc: c@d.example"), "address: "),
    (filled(address="ﾊﾅｺ@docomo.ne.jp"), "address: "),
    (filled(password=""), "password: 新しいパスワードを入力してください。"),
    (filled(password_again="another-one-77"), "password_again: "),
    (filled(password="short", password_again="short"), "password: "),
    (filled(password="19641103", password_again="19641103"), "password: "),
    (filled(password="1964-11-03xyz", password_again="1964-11-03xyz"), "password: "),
    (filled(password="7132-091004567", password_again="7132-091004567"), "password: "),
    (filled(password="hanako@docomo.ne.jp", password_again="hanako@docomo.ne.jp"), "password: "),
    (filled(password="x" * 1000, password_again="x" * 1000), "password: "),
    (filled(password="password1234", password_again="password1234"), "password: "),
]


@pytest.mark.parametrize(("form", "says"), BAD_SETTINGS, ids=range(len(BAD_SETTINGS)))
async def test_what_is_wrong_is_said_beside_its_field_and_nothing_changes(
    here: World, form: dict[str, str], says: str
) -> None:
    society, begun = await at_settings(here)
    before = await here.rows(select(journey))
    refused = await send(here, society, begun, "settings", **form)
    assert texts(refused)[0].startswith(says), texts(refused)
    assert await here.rows(select(journey)) == before
    assert await here.count(outbox) == 0


async def test_full_width_input_is_read_as_meant(here: World) -> None:
    society, begun = await at_settings(here)
    wide = filled(address="　ｈａｎａｋｏ＠ｄｏｃｏｍｏ．ｎｅ．ｊｐ ")
    assert await send(here, society, begun, "settings", **wide) == Moved("review")
    assert ("settings.address", ADDRESS) in (await page(here, society, begun)).facts["rows"]


async def test_back_from_the_review_everything_is_filled_in_but_the_password(here: World) -> None:
    society, begun = await at_settings(here)
    await send(here, society, begun, "settings", **filled(**{"wanted.event": "yes"}))
    shown = await page(here, society, begun)
    assert shown.back == ("settings",)
    assert ("settings.password", "（表示しません）") in shown.facts["rows"]
    assert OWN not in repr(shown)
    back = await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
    assert back == Moved("settings")
    again = await page(here, society, begun)
    assert again.values == {"address": ADDRESS, "nickname": "", "wanted.event": "yes"}
    assert again.facts["typed"]
    # no way back beyond it, nor to what does not exist
    for name in ("consent", "formula-login", "review", "", "x"):
        there = await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, name, here.now)
        assert there == Moved("settings")


async def test_the_journey_keeps_no_password(here: World) -> None:
    society, begun = await at_settings(here)
    await send(here, society, begun, "settings", **filled())
    (row,) = await here.rows(select(journey.c.sealed, journey.c.address))
    assert OWN.encode() not in bytes(row.sealed)
    place = f"{KENPOS}/journey/sealed/{begun.journey_id}"
    kept = json.loads(here.ctx.ring.open(bytes(row.sealed), place))
    assert kept["settings"]["hash"].startswith("$argon2id$")
    assert OWN not in json.dumps(kept)


# --- the address as login ID ------------------------------------------------------------------------------------------


async def test_two_family_members_at_once_with_one_address(here: World) -> None:
    society = here.society(KENPOS)
    tabs = [await begin_family(here, 7001), await begin_family(here, 7002)]
    for tab in tabs:
        await through(here, society, tab, ADDRESS, OWN)
        here.now += 2 * MINUTE
    links = [row.id for row in await here.rows(select(link.c.id).where(link.c.purpose == "mailed-link"))]
    assert len(links) == 2
    answers = await asyncio.gather(
        *(mailed.submit(here.ctx, society, one, {"password": OWN}, here.now) for one in links)
    )
    assert sorted(type(one).__name__ for one in answers) == ["Begun", "Refused"]
    refused = next(one for one in answers if isinstance(one, Refused))
    assert "ほかの方がログインIDとして使っています" in texts(refused)[0]
    assert await here.count(member, member.c.state == "registered") == 1
    done = await login.log_in(here.ctx, society, ADDRESS.upper(), OWN, NETWORK, here.now)
    assert isinstance(done, LoggedIn)


async def test_addresses_that_only_look_alike_are_two_login_ids(here: World) -> None:
    society = here.society(KENPOS)
    for number, one in ((7001, "ken1@phone.example"), (7002, "kenl@phone.example")):
        begun = await begin_family(here, number)
        await through(here, society, begun, one, OWN)
        assert isinstance(await confirm(here, society, one, OWN), Begun)
    assert await here.count(member, member.c.state == "registered") == 2


async def test_a_long_address_is_a_login_id(here: World) -> None:
    society, long = here.society(KENPOS), "x" * 60 + "@" + "y" * 60 + ".example"
    begun = await begin_family(here, 7001)
    await through(here, society, begun, long, OWN)
    assert isinstance(await confirm(here, society, long, OWN), Begun)
    assert isinstance(await login.log_in(here.ctx, society, long, OWN, NETWORK, here.now), LoggedIn)


async def test_the_login_id_follows_the_first_address_only(here: World) -> None:
    society = here.society(KENPOS)
    begun = await begin_family(here, 7001)
    await through(here, society, begun, ADDRESS, OWN)
    await confirm(here, society, ADDRESS, OWN)
    (who,) = await here.rows(select(member.c.id, member.c.login_id).where(member.c.state == "registered"))
    form = {"nickname": "", "address_1": ADDRESS, "address_2": "second@phone.example", "password": OWN}
    assert not isinstance(await profile.update(here.ctx, society, who.id, form, NETWORK, here.now), Refused)
    (proof,) = await here.rows(select(link.c.id).where(link.c.purpose == "address-proof"))
    assert await profile.prove_address(here.ctx, society, proof.id, here.now) is True
    (row,) = await here.rows(select(member.c.login_id).where(member.c.id == who.id))
    assert row.login_id == ADDRESS
    # the two change places: no mail is needed, and the login ID goes along; a typed login ID is no matter
    swap = {**form, "login_id": "intruder", "address_1": "second@phone.example", "address_2": ADDRESS}
    assert not isinstance(await profile.update(here.ctx, society, who.id, swap, NETWORK, here.now), Refused)
    (row,) = await here.rows(select(member.c.login_id, member.c.login_key).where(member.c.id == who.id))
    assert (row.login_id, row.login_key) == ("second@phone.example", "second@phone.example")


async def test_a_formula_id_stays_whatever_the_profile_form_says(here: World) -> None:
    society, begun = await at_settings(here)
    await through(here, society, begun, ADDRESS, OWN)
    await confirm(here, society, ADDRESS, OWN)
    (who,) = await here.rows(select(member.c.id).where(member.c.state == "registered"))
    form = {"login_id": "hanako-free", "nickname": "", "address_1": ADDRESS, "password": OWN}
    assert not isinstance(await profile.update(here.ctx, society, who.id, form, NETWORK, here.now), Refused)
    shown = await profile.view(here.ctx, society, who.id, here.now)
    assert (shown.login_id, shown.login_kind) == ("7132-091004567", "formula")


async def test_a_formula_id_tells_symbol_and_number_and_is_kept_nowhere(here: World) -> None:
    society, begun = await at_settings(here)
    await through(here, society, begun, ADDRESS, OWN)
    await confirm(here, society, ADDRESS, OWN)
    (row,) = await here.rows(select(member).where(member.c.state == "registered"))
    assert (row.login_id, row.login_kind) == (None, "formula")
    assert "4567" not in row.login_key
    # the key itself, typed, is another one: what is typed loses the capital
    assert formula.login_key(here.ctx.ring, society, row.login_key) != row.login_key
    for typed in ("7132-091004567", "７１３２ー０９１ ００４５６７", "7132091004567"):
        done = await login.log_in(here.ctx, society, typed, OWN, NETWORK, here.now)
        assert isinstance(done, LoggedIn), typed
        seen = await login.session(here.ctx, society, done.session_token, here.now)
        assert seen is not None
        assert (seen.login_id, seen.nickname) == ("7132-091004567", "")
    for typed in (row.login_key, row.login_key.lower(), "F:", "7132-091004568"):
        assert isinstance(await login.log_in(here.ctx, society, typed, OWN, NETWORK, here.now), Refused), typed
    async with here.ctx.store.read() as tx:
        (found,) = await members.find(here.ctx, tx, society, "7132-091004567")
        assert (found.id, found.login_id) == (row.id, "7132-091004567")
        assert await choices.is_taken(here.ctx, tx, society, "7132-091004567", 1)
    # a formula of another look is another ID of the same person
    other = society.model_copy(update={"formula": Formula(login_id="88-{symbol:2}{number:5}")})
    assert isinstance(await login.log_in(here.ctx, other, "88-9104567", OWN, NETWORK, here.now), LoggedIn)


# --- confirm by mail --------------------------------------------------------------------------------------------------


async def waiting(here: World) -> tuple[Society, Begun, int]:
    society, begun = await at_settings(here)
    await through(here, society, begun, ADDRESS, OWN)
    return society, begun, await link_to(here, ADDRESS)


async def test_ten_wrong_passwords_end_the_journey_and_empty_ones_do_not(here: World) -> None:
    society, begun, link_id = await waiting(here)
    for _ in range(3):
        for nothing in ("", "   ", "　"):
            empty = await mailed.submit(here.ctx, society, link_id, {"password": nothing}, here.now)
            assert texts(empty)[0].startswith("password: ")
    for left in range(9, 0, -1):
        wrong = await mailed.submit(here.ctx, society, link_id, {"password": "x" * 900}, here.now)
        assert f"あと{left}回" in texts(wrong)[0]
    last = await mailed.submit(here.ctx, society, link_id, {"password": "wrong"}, here.now)
    assert last == JourneyEnd(End.TOO_MANY_TRIES)
    assert await mailed.submit(here.ctx, society, link_id, {"password": OWN}, here.now) == last
    assert await journeys.page(here.ctx, society, begun.journey_id, begun.proof, here.now) == last
    assert await here.count(member, member.c.state == "registered") == 0
    assert isinstance(await begin(here), Begun)  # from the start again


async def test_the_password_twice_at_once_registers_once(here: World) -> None:
    society, _, link_id = await waiting(here)
    answers = await asyncio.gather(
        *(mailed.submit(here.ctx, society, link_id, {"password": OWN}, here.now) for _ in range(3))
    )
    assert sum(isinstance(one, Begun) for one in answers) == 1
    assert {one for one in answers if not isinstance(one, Begun)} <= {LinkState.USED}
    assert await here.count(outbox, outbox.c.letter == "completion") == 1
    assert [row.slot for row in await here.rows(select(address.c.slot))] == [1]


async def test_back_to_correct_the_address_ends_the_mailed_link(here: World) -> None:
    society, begun, link_id = await waiting(here)
    shown = await page(here, society, begun)
    assert (shown.waits, shown.back) == (True, ("settings",))
    await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
    assert await mailed.submit(here.ctx, society, link_id, {"password": OWN}, here.now) is LinkState.REVOKED
    assert await send(here, society, begun, "confirm-by-mail", password=OWN) == Moved("settings")
    await through(here, society, begun, "right@phone.example", "another-good-one-5")
    assert isinstance(await confirm(here, society, "right@phone.example", "another-good-one-5"), Begun)
    assert [row.address for row in await here.rows(select(address.c.address))] == ["right@phone.example"]


async def test_a_form_of_another_step_leads_to_the_present_one(here: World) -> None:
    society, begun = await at_settings(here)
    for step in ("confirm-by-mail", "review", "consent", "formula-login", "credentials", "", "x"):
        assert await send(here, society, begun, step, **filled()) == Moved("settings")
    assert await here.count(outbox) == 0


async def test_the_mail_again_brings_the_same_link_within_the_budget(here: World) -> None:
    society, begun, link_id = await waiting(here)
    soon = await journeys.send_again(here.ctx, society, begun.journey_id, begun.proof, here.now)
    assert isinstance(soon, Refused)
    assert soon.status == 429
    here.now += 2 * MINUTE
    again = await journeys.send_again(here.ctx, society, begun.journey_id, begun.proof, here.now)
    assert again == Moved("confirm-by-mail")
    mails = await here.mails("confirm-by-mail")
    assert [mail.link_id for mail in mails] == [link_id, link_id]


async def test_no_more_mails_than_the_address_may_get_whoever_types_it(here: World) -> None:
    society = here.society(KENPOS)
    refused = 0
    for number in range(7001, 7007):
        begun = await begin_family(here, number)
        await agree(here, society, begun)
        await send(here, society, begun, "settings", **filled())
        answer = await send(here, society, begun, "review")
        refused += isinstance(answer, Refused)
        here.now += 2 * MINUTE
    assert refused == 3  # three an hour
    assert len(await here.mails("confirm-by-mail")) == 3


@pytest.mark.parametrize("step", ["consent", "settings", "review", "confirm-by-mail"])
async def test_expiry_at_each_step_changes_nothing_and_it_begins_again(here: World, step: str) -> None:
    await insured(here)
    society = here.society(KENPOS)
    begun = await begin(here)
    if step != "consent":
        await agree(here, society, begun)
    if step in ("review", "confirm-by-mail"):
        await send(here, society, begun, "settings", **filled())
    if step == "confirm-by-mail":
        await send(here, society, begun, "review")
    assert (await page(here, society, begun)).step == step
    here.now += DAY + MINUTE if step == "confirm-by-mail" else HOUR + MINUTE
    assert await send(here, society, begun, step, **filled(agree="yes")) == JourneyEnd(End.EXPIRED)
    there = await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
    assert there == JourneyEnd(End.EXPIRED)
    if step == "confirm-by-mail":
        late = await mailed.submit(here.ctx, society, await link_to(here, ADDRESS), {"password": OWN}, here.now)
        assert late is LinkState.EXPIRED
    assert await here.count(member, member.c.state == "registered") == 0
    assert isinstance(await begin(here), Begun)


async def test_the_other_tab_is_told_that_it_is_done(here: World) -> None:
    await insured(here)
    society = here.society(KENPOS)
    one, two = await begin(here), await begin(here)
    await through(here, society, two, "two@phone.example", "another-good-one-5")
    await through(here, society, one, ADDRESS, OWN)
    assert isinstance(await confirm(here, society, ADDRESS, OWN), Begun)
    done = await journeys.page(here.ctx, society, two.journey_id, two.proof, here.now)
    assert done == JourneyEnd(End.DONE, already=True)
    late = await confirm(here, society, "two@phone.example", "another-good-one-5")
    assert late is LinkState.USED
    done_in = await login.log_in(here.ctx, society, "7132-091004567", OWN, NETWORK, here.now)
    assert isinstance(done_in, LoggedIn)


async def test_only_the_browser_that_began_goes_on(here: World) -> None:
    society, begun = await at_settings(here)
    stranger = Begun(begun.journey_id, "x" * 43, "")
    for proof in (None, "", "x" * 43):
        shown = await journeys.page(here.ctx, society, begun.journey_id, proof, here.now)
        assert shown == JourneyEnd(End.OTHER_BROWSER)
    assert await send(here, society, stranger, "settings", **filled()) == JourneyEnd(End.OTHER_BROWSER)


async def test_a_member_deleted_meanwhile_ends_the_journey(here: World) -> None:
    society, begun, link_id = await waiting(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(journey).values(member_id=1))
    assert await mailed.submit(here.ctx, society, link_id, {"password": OWN}, here.now) is LinkState.EXPIRED
    gone = await journeys.page(here.ctx, society, begun.journey_id, begun.proof, here.now)
    assert gone == JourneyEnd(End.EXPIRED)


async def test_the_formula_s_id_of_somebody_else_is_refused_in_words(here: World) -> None:
    """Two roster rows of one person: the second registration says so instead of failing."""
    society, _, link_id = await waiting(here)
    twin = await insured(here, 1, kana="ヤマダ フタゴ")
    key = formula.login_key(here.ctx.ring, society, "7132-091004567")
    columns = {"state": "registered", "login_key": key, "login_kind": "formula"}
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == twin.id).values(columns))
    refused = await mailed.submit(here.ctx, society, link_id, {"password": OWN}, here.now)
    assert "ログインIDを決められませんでした" in texts(refused)[0]
    shown = await mailed.first_page(here.ctx, society, link_id, here.now)
    assert isinstance(shown, StepPage)
