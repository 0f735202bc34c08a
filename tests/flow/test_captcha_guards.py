"""What a program would try with the captcha: the login's own form instead of the page that asks, and pictures without
end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from mailbot.registration.people import Person
from mailbot.store.tables import journey
from mailbot.web.app import member_app
from mailbot.web.captcha import gate
from mailbot.web.captcha.picture import draw
from mailbot.web.captcha.speech import speak
from tests.support.captcha import hidden, lobby
from tests.support.pages import TEMPLATES, House, house

INSURED = Person(
    symbol="91", number="200001", relation="本人", name="山田 太郎", kana="ヤマダ タロウ", birth_date="2000-01-21"
)
ID, BORN = "7132-091200001", "20000121"


@asynccontextmanager
async def browser(at: House, app: object) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 5000))  # type: ignore[arg-type]  # ASGI
    async with httpx2.AsyncClient(transport=transport, base_url=at.url) as client:
        yield client


async def _log_in(at: House, app: object) -> int:
    """ID and birth date on the pages of the login -> how many journeys there are then."""
    async with browser(at, app) as client:
        page = (await client.get("/kenpos/login")).text
        await client.post("/kenpos/login", data={"form-key": hidden(page, "form-key"), "login_id": ID})
        page = (await client.get("/kenpos/login/password")).text
        form = {"form-key": hidden(page, "form-key"), "login_id": ID, "password": BORN}
        answer = await client.post("/kenpos/login/password", data=form)
        assert answer.status_code in (303, 422)
    async with at.ctx.store.read() as tx:
        return await tx.scalar(select(func.count()).select_from(journey)) or 0


async def test_the_login_s_form_is_no_way_around_the_captcha(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        await at.letter("kenpos", "12345678", INSURED)
        known = at.ctx.settings.societies["kenpos"]
        asks = known.journeys["insured"].model_copy(update={"captcha": True})
        changed = known.model_copy(update={"journeys": {**known.journeys, "insured": asks}})
        settings = replace(at.ctx.settings, societies={**at.ctx.settings.societies, "kenpos": changed})
        guarded = member_app(replace(at.ctx, settings=settings), [TEMPLATES], lambda: at.now)
        assert await _log_in(at, guarded) == 0
        async with browser(at, guarded) as client:  # it has a page of its own then, which asks
            assert "/kenpos/direct?journey=insured" in (await client.get("/kenpos/login")).text
            page = (await client.get("/kenpos/direct?journey=insured")).text
            form = {"form-key": hidden(page, "form-key"), "journey": "insured", "login_id": ID, "password": BORN}
            assert (await client.post("/kenpos/direct", data=form)).status_code == 422
        assert await _log_in(at, at.app) == 1


async def test_pictures_are_drawn_one_at_a_time_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, lock = 0, 0, threading.Lock()

    def draw(digits: str, seed: bytes) -> bytes:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return b"png"

    monkeypatch.setattr(gate, "draw", draw)
    monkeypatch.setattr(gate, "LOOKS", 20)
    async with lobby(tmp_path, "picture") as at, browser(at.house, at.app) as client:
        pages = [(await client.get("/yokokou/lobby")).text for _ in range(6)]
        places = [f"/yokokou/captcha/{hidden(page, 'captcha_ticket')}/picture.png" for page in pages]
        for _ in range(3):
            assert {one.status_code for one in await asyncio.gather(*map(client.get, places))} == {200}
        assert most == 1
        answers = [(await client.get(places[0])).status_code for _ in range(4)]
        assert answers == [200, 200, 429, 429]
        at.house.now += 10 * 60_000
        assert (await client.get(places[0])).status_code == 200


def test_a_picture_looked_at_again_is_not_made_again() -> None:
    for make in (draw, speak):
        assert make("12345", b"seed") is make("12345", b"seed")
