"""One challenge counts once, however many web processes share the database."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from starlette.requests import Request

from mailbot.config.journey import Captcha as CaptchaSection
from mailbot.credentials import KeyRing
from mailbot.registration import timetable
from mailbot.store import Store, open_store
from mailbot.web.captcha import LIFE_MS, QUESTIONS_PER_HOUR, Captcha
from mailbot.web.captcha.challenge import Challenge
from mailbot.web.marks import Marks
from mailbot.web.visit import Visit
from tests.support.factory import World

NOON = 1_795_143_600_000
RING = KeyRing.create(NOON - 1)
NETWORK = "203.0.113.0/24"


def _visit(store: Store, kind: str = "proof") -> Visit:
    """What the captcha asks of a request."""
    section = CaptchaSection.model_validate({"kind": kind})
    return cast(
        Visit,
        SimpleNamespace(
            society=SimpleNamespace(id="one", captcha=section),
            ctx=SimpleNamespace(store=store),
            request=Request({"type": "http"}),
            network=NETWORK,
            binding=lambda: "browser:b",
        ),
    )


def _solved(kind: str = "proof") -> dict[str, str]:
    challenge = Challenge.new(Marks(RING), kind, "one", "browser:b", NOON)
    answer = {"captcha_proof": str(challenge.number(RING))} if kind == "proof" else {"captcha": challenge.digits(RING)}
    return {"captcha_ticket": challenge.ticket, **answer}


async def test_of_many_processes_one_takes_the_challenge(store: Store) -> None:
    processes: list[Any] = [
        (Captcha(RING, Marks(RING), ""), open_store(store.engine.url.render_as_string(hide_password=False)))
        for _ in range(3)
    ]
    try:
        for kind in ("proof", "picture"):
            form = _solved(kind)
            answers = await asyncio.gather(
                *(gate.passes(_visit(own, kind), form, NOON) for gate, own in processes for _ in range(2))
            )
            assert [one is None for one in answers].count(True) == 1
            assert all("もう" in one.text for one in answers if one is not None)
    finally:
        for _, own in processes:
            await own.close()


async def test_what_was_used_is_forgotten_when_it_could_not_be_used_any_more(here: World) -> None:
    store = here.ctx.store
    gate, form = Captcha(RING, Marks(RING), ""), _solved()
    assert await gate.passes(_visit(store), form, NOON) is None
    for now in (NOON, NOON + LIFE_MS):
        async with store.begin() as tx:
            await timetable.purge(here.ctx, tx, now)
        assert await gate.passes(_visit(store), form, min(now, NOON + LIFE_MS - 1)) is not None
    async with store.begin() as tx:
        assert await timetable.purge(here.ctx, tx, NOON + LIFE_MS + 1) == 1


async def test_processes_share_the_budget_of_questions(store: Store) -> None:
    gate = Captcha(RING, Marks(RING), "")
    answers = []
    for _ in range(QUESTIONS_PER_HOUR + 2):
        challenge = Challenge.new(Marks(RING), "proof", "one", "browser:b", NOON)
        form = {"captcha_ticket": challenge.ticket, "captcha": challenge.question(RING)}
        answers.append(await gate.passes(_visit(store), form, NOON))
    assert [one is None for one in answers] == [True] * QUESTIONS_PER_HOUR + [False] * 2
    assert "13時00分まで" in (answers[-1].text if answers[-1] else "")
    # a spent budget does not use the challenge up: the browser may still compute its answer
    assert await gate.passes(_visit(store), {**form, "captcha_proof": str(challenge.number(RING))}, NOON) is None
