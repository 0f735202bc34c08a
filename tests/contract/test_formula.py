"""First logins by formula: who may have them, how guesses are counted, and when they close; on both databases."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from mailbot.config import Formula, Society, Start
from mailbot.registration import formula, journeys, login
from mailbot.registration.outcomes import Begun, LoggedIn, Refused
from mailbot.store.tables import alarm, budget, journey
from tests.support.factory import HOUR, MINUTE, NETWORK, Joined, World, texts
from tests.support.steps import confirm, through

KENPOS = "kenpos"
OWN = "kumo-no-ue-wo-aruku"
FORMULA = Formula(login_id="7132-{symbol:3}{number:6}")


async def joined(here: World, number: int = 4567, **more: str) -> Joined:
    facts: dict[str, Any] = {"symbol": "91", "number": str(number), "relation": "本人", "birth_date": "1964-11-03"}
    return await here.join(KENPOS, **{**facts, **more})


async def enter(
    here: World, login_id: str, password: str, network: str = NETWORK, society: Society | None = None, **form: str
) -> Any:
    typed = {"login_id": login_id, "password": password, **form}
    chosen = society or here.society(KENPOS)
    return await journeys.begin(here.ctx, chosen, Start.PAGE, None, typed, network, here.now, journey="insured")


def known(n: int) -> str:
    return f"7132-091{n:06}"


@pytest.mark.parametrize(
    ("symbol", "number", "made"),
    [
        ("91", "200001", "7132-091200001"),
        ("123", "4567", "7132-123004567"),
        ("０００９１", "12", "7132-091000012"),
        ("1234", "1", None),
        ("イ12", "1", None),
        ("1", "1234567", None),
    ],
)
def test_login_ids_of_the_formula(symbol: str, number: str, made: str | None) -> None:
    assert formula.login_id(FORMULA, symbol, number) == made


@pytest.mark.parametrize(
    "typed", ["7132-091200001", "７１３２－０９１２００００１", "7132 091 200001", "7132ー091200001", " 7132091200001 "]
)
def test_ids_are_read_however_they_are_typed(typed: str) -> None:
    assert formula.read(FORMULA, typed) == ("091", "200001")


@pytest.mark.parametrize(
    "typed", ["", "7132-09120000", "7132-0912000011", "7133-091200001", "7132-09120000٢", "x" * 5000]
)
def test_other_texts_are_no_ids_of_the_formula(typed: str) -> None:
    assert formula.read(FORMULA, typed) is None


@pytest.mark.parametrize(
    ("typed", "iso"),
    [
        ("20000121", "2000-01-21"),
        ("２０００－０１－２１", "2000-01-21"),
        ("2000/01/21", "2000-01-21"),
        ("2000年01月21日", "2000-01-21"),
        ("20000132", None),
        ("18791231", None),
        ("20270101", None),
        ("2000121", None),
        ("٢0000121", None),
        ("", None),
    ],
)
def test_birth_dates_as_passwords(here: World, typed: str, iso: str | None) -> None:
    day = formula.born(typed, here.now)
    assert (day.isoformat() if day else None) == iso


async def test_only_an_insured_person_who_is_invited_and_has_not_left(here: World) -> None:
    await joined(here)
    await joined(here, 4567, relation="妻", birth_date="1966-02-09", kana="ヤマダ ツマ")
    await joined(here, 5000, relation="任意継続")
    gone: dict[str, Any] = {"symbol": "91", "number": "6000", "relation": "本人", "birth_date": "1964-11-03"}
    await here.join(KENPOS, left_on="2026-11-19", **gone)
    assert isinstance(await enter(here, known(4567), "19641103"), Begun)
    wrong = [
        await enter(here, known(4567), "19660209"),
        await enter(here, known(5000), "19641103"),
        await enter(here, known(6000), "19641103"),
        await enter(here, known(9999), "19641103"),
        await enter(here, known(4567), "hello"),
        await enter(here, "hanako", "19641103"),
    ]
    assert {tuple(texts(one)) for one in wrong} == {tuple(texts(wrong[0]))}
    assert await here.count(journey) == 1


async def test_two_whom_everything_fits_are_neither(here: World) -> None:
    await joined(here, name="山田一郎", kana="ヤマダ イチロウ")
    await joined(here, name="山田二郎", kana="ヤマダ ジロウ")
    assert isinstance(await enter(here, known(4567), "19641103"), Refused)
    kana = here.society(KENPOS).model_copy(update={"formula": FORMULA.model_copy(update={"ask_kana": True})})
    begun = await enter(here, known(4567), "19641103", society=kana, kana="ﾔﾏﾀﾞ ｼﾞﾛｳ")
    assert isinstance(begun, Begun)
    assert isinstance(await enter(here, known(4567), "19641103", society=kana, kana="やまだ さぶろう"), Refused)
    empty = await enter(here, known(4567), "19641103", society=kana, kana=" ")
    assert texts(empty) == ["kana: お名前（カナ）を入力してください。"]


@pytest.mark.parametrize("number", [4567, 9999])
async def test_five_wrong_tries_a_day_whether_anybody_has_the_id_or_not(here: World, number: int) -> None:
    await joined(here)
    for n in range(5):
        said = await enter(here, known(number), f"1970010{n + 1}", f"198.51.{n}.0/24")
    paused = await enter(here, known(number), "19641103", "203.0.113.0/24")
    assert texts(paused) == texts(said)
    here.now += 8 * HOUR + 10 * MINUTE  # midnight in Japan is past
    answer = await enter(here, known(number), "19641103", "203.0.113.0/24")
    assert isinstance(answer, Begun) is (number == 4567)
    kept = {row.subject for row in await here.rows(select(budget.c.subject).where(budget.c.scope == "formula"))}
    assert not any(str(number) in subject for subject in kept)


async def test_a_hundred_guesses_at_once_are_a_hundred_guesses(here: World) -> None:
    await joined(here)
    guesses = [f"1964{month:02}{day:02}" for month in (9, 10, 11) for day in range(1, 12)]
    tries = (enter(here, known(4567), one, f"198.51.{n}.0/24") for n, one in enumerate(guesses))
    answers = await asyncio.gather(*tries)
    tried = await here.rows(select(budget.c.day_count).where(budget.c.scope == "formula"))
    assert [row.day_count for row in tried] in ([5], [4])  # 4: the right one was among the first five, and is no try
    assert sum(isinstance(one, Begun) for one in answers) == (1 if tried[0].day_count == 4 else 0)


async def test_twenty_wrong_tries_an_hour_from_one_network(here: World) -> None:
    await joined(here)
    for n in range(20):
        assert (await enter(here, known(100 + n), "19641103")).status == 422
    over = await enter(here, known(4567), "19641103")
    assert over.status == 429
    assert isinstance(await enter(here, known(4567), "19641103", "203.0.113.0/24"), Begun)
    here.now += HOUR
    assert isinstance(await enter(here, known(4567), "19641103"), Begun)


async def test_right_ones_and_what_cannot_be_right_are_no_tries(here: World) -> None:
    await joined(here)
    for _ in range(25):
        assert isinstance(await enter(here, known(4567), "19641103"), Begun)
        assert isinstance(await enter(here, known(4567), "himitsu-no-kotoba"), Refused)
    assert await here.count(budget, budget.c.scope == "formula", budget.c.day_count > 0) == 0


async def test_too_many_accounts_with_failures_close_the_first_login_until_midnight(here: World) -> None:
    for number in range(1, 14):
        await joined(here, number)
    for number in range(100, 120):  # IDs that nobody has do not close it
        await enter(here, known(number), "19700101", f"198.51.{number}.0/24")
    for number in range(1, 12):
        assert await here.count(alarm) == 0
        said = await enter(here, known(number), "19700101", f"203.0.{number}.0/24")
    (raised,) = await here.rows(select(alarm.c.kind, alarm.c.text))
    assert raised.kind == "formula-login-closed"
    assert "11 of 13" in raised.text
    closed = await enter(here, known(13), "19641103")
    assert texts(closed) != texts(said)
    assert "11月21日 0時00分から" in texts(closed)[0]
    here.now += 8 * HOUR + 10 * MINUTE
    assert isinstance(await enter(here, known(13), "19641103"), Begun)


async def test_a_large_society_closes_at_its_share(here: World) -> None:
    society = here.society(KENPOS)
    wide = society.model_copy(update={"formula": FORMULA.model_copy(update={"close_per_mille": 900})})
    for number in range(1, 15):
        await joined(here, number)
    for number in range(1, 13):
        await enter(here, known(number), "19700101", f"203.0.{number}.0/24", wide)
    assert await here.count(alarm) == 0  # 12 of 14 are not more than nine tenths
    await enter(here, known(13), "19700101", "203.0.13.0/24", wide)
    assert await here.count(alarm) == 1


async def test_a_registered_member_s_birth_date_opens_nothing(here: World) -> None:
    who = await joined(here)
    begun = await enter(here, known(4567), "19641103")
    await through(here, who.society, begun, "hanako@phone.example", OWN)
    assert isinstance(await confirm(here, who.society, "hanako@phone.example", OWN), Begun)
    assert isinstance(await enter(here, known(4567), "19641103"), Refused)
    network = NETWORK
    refused = await login.log_in(here.ctx, who.society, known(4567), "19641103", network, here.now)
    assert isinstance(refused, Refused)
    done = await login.log_in(here.ctx, who.society, known(4567), OWN, network, here.now)
    assert isinstance(done, LoggedIn)


async def test_the_first_password_is_no_wrong_password_at_the_login(here: World) -> None:
    """Whoever logs in for the first time from a network many share does not use up its share."""
    society, network = here.society(KENPOS), NETWORK
    await login.log_in(here.ctx, society, known(4567), "19641103", network, here.now)
    counted = await here.rows(select(budget.c.hour_count).where(budget.c.scope == "login"))
    assert [row.hour_count for row in counted] == [1, 1]
    await login.forgive(here.ctx, society, known(4567), network)
    counted = await here.rows(select(budget.c.hour_count).where(budget.c.scope == "login"))
    assert [row.hour_count for row in counted] == [0, 0]


def test_the_words_of_the_formula_follow_its_digits() -> None:
    first, second = formula.hint(FORMULA)
    assert "7132-091200001" in first
    assert "20000121" in second
    short = formula.hint(FORMULA.model_copy(update={"login_id": "{symbol:1}-{number:4}"}))
    assert "9-2000" in short[0]
