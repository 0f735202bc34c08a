"""The proof by insurance details: who is found, what nobody can tell from the answer, how often anybody may guess."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from mailbot.config import Journey, Society, Start
from mailbot.registration import journeys, people
from mailbot.registration.outcomes import Begun, Refused
from mailbot.registration.steps import problems
from mailbot.store import Store
from mailbot.store.tables import audit, budget, journey, outbox
from tests.support.factory import DAY, HOUR, NETWORK, Joined, World, settings, texts, world

ME, ADDRESS = "omron", "taku@company.example"
GOOD = "Umi-no-Mieru-9-machi"
BORN = {"birth_date_year": "1980", "birth_date_month": "1", "birth_date_day": "2"}
SENTENCE = "入力された内容では、ご本人を確認できませんでした。"
STRANGE = ["<script>alert(1)</script>", "'><script>", "a\0b", "🎉", "\ud800", "x" * 10_240, "1' OR '1'='1", "%00", "-"]


def asking(society: Society, *fields: str, **changes: Any) -> Society:
    """The society with another list of fields in its journey."""
    one = society.journeys["identity"]
    details = one.details.model_copy(update={"fields": fields or one.details.fields})
    changed = one.model_copy(update={"details": details, **changes})
    return society.model_copy(update={"journeys": {"identity": changed}})


async def prove(
    here: World, society: Society, *, link_id: int | None = None, network: str = NETWORK, **form: str
) -> Any:
    """One form, everything right but what `form` says; symbol and number must be given."""
    page = Start.PAGE in society.journeys["identity"].starts
    if link_id is None and not page:
        link_id = await here.link(society.id, ADDRESS)
    start = Start.PAGE if page else Start.WEB_FORM
    typed = {"address": ADDRESS, **BORN, **form}
    return await journeys.begin(here.ctx, society, start, link_id, typed, network, here.now)


@pytest.mark.parametrize(
    ("on_roster", "typed"),
    [
        (("12", "345"), ("１２", "３４５")),
        (("12", "345"), ("0012", "000345")),
        (("012", "0345"), ("12", "345")),
        (("1-2", "34 5"), ("12", "3-4-5")),
        (("12", "345"), ("　1 2", "３ー４５")),
        (("カ1", "345"), ("ｶ1", "345")),
        (("0", "345"), ("00", "345")),
    ],
)
async def test_symbol_and_number_are_found_however_they_are_written(
    here: World, on_roster: tuple[str, str], typed: tuple[str, str]
) -> None:
    who = await here.join(ME, symbol=on_roster[0], number=on_roster[1])
    society = asking(who.society)
    begun = await prove(here, society, symbol=typed[0], number=typed[1])
    assert isinstance(begun, Begun)
    assert (await here.rows(select(journey.c.member_id)))[0].member_id == who.id


@pytest.mark.parametrize("typed", ["シヨージ　キヨウコ", "ｼｮｰｼﾞ ｷｮｳｺ", "しょーじきょうこ", "ショージ・キョウコ"])
async def test_the_name_in_kana_tells_twins_apart(here: World, typed: str) -> None:
    society = asking(here.society(ME), "symbol", "number", "kana", "birth-date")
    one = await here.join(ME, symbol="12", number="9", kana="ショージ　キョウコ")
    await here.join(ME, symbol="12", number="9", kana="ショージ　ユウコ")
    begun = await prove(here, society, symbol="12", number="9", kana=typed)
    assert isinstance(begun, Begun), begun
    assert (await here.rows(select(journey.c.member_id)))[0].member_id == one.id
    refused = await prove(here, society, symbol="12", number="9", kana="ショージ　リョウコ")
    assert texts(refused)[0].startswith(f": {SENTENCE}")


async def test_whatever_keeps_them_from_fitting_the_answer_is_the_same(here: World) -> None:
    free = await here.join(ME, symbol="12", number="1")
    for kana in ("ア", "イ"):
        await here.join(ME, symbol="12", number="2", kana=kana)
    done = await here.join(ME, symbol="12", number="3", kana="ウ")
    await _registered(here, done)
    await here.join(ME, symbol="12", number="3", kana="エ")  # the twin of a registered one
    await _registered(here, await here.join(ME, symbol="12", number="4"))
    await here.join(ME, symbol="12", number="5", left_on="2026-11-20")
    closing = free.society.model_copy(update={"left_closes_login": True})
    refusals = [
        await prove(here, closing, symbol="12", number="1", birth_date_day="3"),
        await prove(here, closing, symbol="13", number="1"),
        *[await prove(here, closing, symbol="12", number=number) for number in "2345"],
    ]
    assert all(isinstance(one, Refused) for one in refusals)
    assert {(one.status, one.complaints) for one in refusals} == {(422, refusals[0].complaints)}
    assert texts(refusals[0])[0].startswith(f": {SENTENCE}")
    assert await here.count(journey) == 2  # those that registered two of them
    assert isinstance(await prove(here, free.society, symbol="12", number="5"), Begun), "left, but may register here"


async def _registered(here: World, who: Joined) -> None:
    link_id = await here.link(ME, f"m{who.id}@company.example")
    begun = await here.begin(who, link_id, journey="paper")
    moved = await here.submit(who, begun, f"long-{who.letter}", password=GOOD, password_again=GOOD)
    assert getattr(moved, "next", "") is None, moved


async def test_nobody_costs_the_work_that_somebody_costs(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await here.join(ME, symbol="12", number="1")
    link_id = await here.link(ME, ADDRESS)
    opened: list[int] = []
    original = people.open_person

    def counted(*given: Any) -> people.Person:
        opened.append(1)
        return original(*given)

    monkeypatch.setattr(people, "open_person", counted)
    sent: list[str] = []
    engine = here.ctx.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: sent.append(statement))
    work = []
    for number, day in (("1", "3"), ("2", "2"), ("3", "2"), ("1", "4")):
        sent.clear()
        opened.clear()
        form = {"symbol": "12", "number": number, "birth_date_day": day}
        assert isinstance(await prove(here, who.society, link_id=link_id, **form), Refused)
        work.append((tuple(sent), len(opened)))
    assert len(set(work[1:])) == 1
    assert work[0][1] == 1


async def test_five_wrong_ones_a_day_for_a_number_whether_there_is_one_or_not(here: World) -> None:
    who = await here.join(ME, symbol="12", number="1")
    link_id = await here.link(ME, ADDRESS)
    for number in ("1", "404"):
        for month in range(2, 7):
            refused = await prove(
                here, who.society, link_id=link_id, symbol="12", number=number, birth_date_month=str(month)
            )
            assert refused.status == 422
        over = await prove(here, who.society, link_id=link_id, symbol="0012", number=f"0{number}", network="other")
        assert (over.status, texts(over)) == (
            429,
            [": 何度も操作されたため、いまは受け付けられません。11月21日 15時51分から、もう一度お試しください。"],
        )
    here.now += DAY
    assert isinstance(await prove(here, who.society, symbol="12", number="1"), Begun)


async def test_many_guesses_at_once_are_many_guesses(here: World) -> None:
    who = await here.join(ME, symbol="12", number="1")
    link_id = await here.link(ME, ADDRESS)
    guesses = [
        prove(here, who.society, link_id=link_id, symbol="12", number="1", birth_date_day=str(day))
        for day in range(3, 15)
    ]
    answers = await asyncio.gather(*guesses)
    assert sorted(one.status for one in answers) == [422] * 5 + [429] * 7


async def test_right_ones_are_no_guesses(here: World) -> None:
    who = await here.join(ME, symbol="12", number="1")
    for _ in range(7):
        assert isinstance(await prove(here, who.society, symbol="12", number="1"), Begun)


async def test_a_network_may_guess_so_often_in_an_hour(store: Store, tmp_path: Path) -> None:
    here = world(store, tmp_path, {"BUDGETS_LOGIN_FAILURES_PER_HOUR": "1", "BUDGETS_WEB_REQUESTS_PER_MINUTE": "500"})
    who = await here.join(ME, symbol="12", number="1")
    link_id = await here.link(ME, ADDRESS)
    for number in range(100, 110):
        assert (await prove(here, who.society, link_id=link_id, symbol="12", number=str(number))).status == 422
    assert (await prove(here, who.society, link_id=link_id, symbol="12", number="1")).status == 429
    assert isinstance(
        await prove(here, who.society, link_id=link_id, symbol="12", number="1", network="198.51.100.0/24"), Begun
    )
    here.now += HOUR
    assert isinstance(await prove(here, who.society, symbol="12", number="1"), Begun)
    await here.ctx.passwords.close()


@pytest.mark.parametrize("field", ["address", "symbol", "number", "kana", "birth_date_year", "birth_date_day"])
async def test_what_nobody_can_have_is_told_at_its_field_and_is_no_guess(here: World, field: str) -> None:
    society = asking(here.society(ME), "address", "symbol", "number", "kana", "birth-date")
    await here.join(ME, symbol="12", number="1")
    link_id = await here.link(ME, ADDRESS)
    before = await _kept(here)
    for typed in ("", " 　", *STRANGE):
        form = {"symbol": "12", "number": "1", "kana": "ヤマダ", **BORN, field: typed}
        refused = await prove(here, society, link_id=link_id, **form)
        assert isinstance(refused, Refused)
        beside = "birth_date" if field.startswith("birth") else field
        assert (refused.status, {one.field for one in refused.complaints}) == (422, {beside}), typed
        assert all(one.text.endswith("。") for one in refused.complaints)
        assert await _kept(here) == before


async def _kept(here: World) -> list[Any]:
    return [await here.rows(select(table)) for table in (journey, budget, outbox, audit)]


async def test_everything_left_empty_is_told_at_once(here: World) -> None:
    nothing: dict[str, Any] = {"address": "", "symbol": "", "number": "", **dict.fromkeys(BORN, "")}
    assert texts(await prove(here, here.society(ME), **nothing)) == [
        "address: メールアドレスを入力してください。",
        "symbol: 被保険者記号を入力してください。",
        "number: 被保険者番号を入力してください。",
        "birth_date: 生年月日を入力してください。",
    ]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"symbol": "123"}, "symbol: 被保険者記号は、2けた以内で入力してください。"),
        ({"number": "1234567"}, "number: 被保険者番号は、6けた以内で入力してください。"),
        ({"address": "taku@company"}, "address: メールアドレスの「@」より後ろをお確かめください。"),
        ({"birth_date_month": "13"}, "birth_date: 生年月日は、実際にある日付を入力してください。"),
        ({"birth_date_year": "2027"}, "birth_date: 生年月日は、今日までの日付を入力してください。"),
        ({"birth_date_month": ""}, "birth_date: 生年月日の「月」を入力してください。"),
    ],
)
async def test_what_is_wrong_is_said(here: World, typed: dict[str, Any], told: str) -> None:
    assert texts(await prove(here, here.society(ME), **{"symbol": "12", "number": "1", **typed})) == [told]


async def test_the_invited_address_counts_in_its_own_spelling_too(here: World) -> None:
    """A carrier's old address with dots in odd places was accepted when its mail came."""
    await here.join(ME, symbol="12", number="1")
    society = here.society(ME)
    link_id = await here.link(ME, "taku@DOCOMO.ne.jp")
    begun = await prove(here, society, link_id=link_id, symbol="12", number="1", address=" Taku@docomo.ne.jp ")
    assert isinstance(begun, Begun)
    refused = await prove(here, society, symbol="12", number="1", address="taku2@company.example")
    assert texts(refused) == [
        "address: ご案内のメールが届いたメールアドレスを入力してください。いまの入力は、それと違います。"
    ]


async def test_a_start_without_a_mail_takes_the_address_on_file(here: World) -> None:
    society = asking(
        here.society(ME),
        "symbol",
        "number",
        "birth-date",
        starts=(Start.PAGE,),
        steps=("insurance-details", "credentials"),
        requires_address_on_file=True,
        captcha=False,
    )
    assert problems(society) == []
    await here.join(ME, symbol="12", number="1", address="file@company.example")
    await here.join(ME, symbol="12", number="2")
    assert isinstance(await prove(here, society, symbol="12", number="1"), Begun)
    assert (await here.rows(select(journey.c.address)))[0].address == "file@company.example"
    assert texts(await prove(here, society, symbol="12", number="2"))[0].startswith(f": {SENTENCE}")


def _journey(fields: tuple[str, ...], **changes: Any) -> Journey:
    given = {"starts": ["web-form"], "steps": ["insurance-details", "credentials"], **changes}
    return Journey.model_validate({**given, "details": {"fields": list(fields)}})


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (_journey(("symbol", "birth-date")), ["details.fields: number is needed to find a member"]),
        (_journey(("symbol", "number")), ["details.fields: birth-date is needed to find a member"]),
        (_journey(("number", "number", "birth-date")), ["details.fields: a field stands twice"]),
        (
            _journey(("number", "birth-date"), starts=["page"]),
            ["steps: a start by page knows no address: the step 'settings' must ask for it"],
        ),
        (
            _journey(("address", "number", "birth-date"), starts=["page"], requires_address_on_file=True),
            ["details.fields: a start by page has no invited address to compare with"],
        ),
        (_journey(("number", "birth-date")), []),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, one: Journey, found: list[str]) -> None:
    society = settings(tmp_path).societies[ME].model_copy(update={"journeys": {"x": one}})
    assert problems(society) == [f"journeys.x: {text}" for text in found]
