"""A page with one field and the captcha: what a step does with it, and nothing else. Same gates, door and database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from mailbot.config.journey import Captcha as CaptchaSection
from mailbot.web.assets import Assets
from mailbot.web.captcha import Captcha
from mailbot.web.captcha.challenge import Challenge
from mailbot.web.cookies import Cookies
from mailbot.web.door import Door
from mailbot.web.endpoint import page
from mailbot.web.marks import Marks
from mailbot.web.network import Clients, Guesses, hosts, origins
from mailbot.web.render import Pages
from mailbot.web.serve import serve
from mailbot.web.visit import Visit, Web
from tests.support.pages import TEMPLATES, House, house

_PAGE = """{% extends "base.html" %}
{% block title %}確認{% endblock %}
{% block main %}
<h1>確認</h1>
<form method="post" novalidate>
{{ parts.default() }}{{ parts.key() }}
{{ parts.field("kana", "お名前のカナ", required=false) }}
{{ captcha }}
<p class="acts"><button class="btn">次へ進む</button></p>
</form>
{% endblock %}
"""


@dataclass
class Lobby:
    """Answers 通りました to a form that passes; `bad` in the field `kana` is refused after the captcha."""

    house: House
    app: Starlette
    society: str

    @property
    def url(self) -> str:
        return f"{self.house.url}/{self.society}/lobby"

    def challenge(self, html: str, browser: str, society: str = "") -> Challenge | None:
        """The challenge of a page, which only the holder of the key ring can answer unseen."""
        marks, ticket = Marks(self.house.ctx.ring), hidden(html, "captcha_ticket")
        return Challenge.read(marks, society or self.society, f"browser:{browser}", ticket, self.house.now)


def hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None, name
    return found[1]


async def _show(visit: Visit) -> Response:
    return visit.page("lobby.html", captcha=visit.web.captcha.fragment(visit))


async def _submit(visit: Visit) -> Response:
    typed = {"kana": visit.form.get("kana", "")}
    if "captcha_new" in visit.form:
        return visit.page("lobby.html", captcha=visit.web.captcha.fragment(visit), values=typed)
    complaint = await visit.web.captcha.passes(visit, visit.form, visit.now)
    if complaint is None and typed["kana"] != "bad":
        return Response("通りました", media_type="text/plain; charset=utf-8")
    complaints = [complaint] if complaint else []
    fragment = visit.web.captcha.fragment(visit, complaints)
    return visit.page("lobby.html", status=422, complaints=complaints, captcha=fragment, values=typed)


@asynccontextmanager
async def lobby(folder: Path, kind: str, *, served: bool = False) -> AsyncIterator[Lobby]:
    """The page at `Lobby.url`, for the shipped societies with a captcha of this kind."""
    own = folder / "templates"
    (own / "pages").mkdir(parents=True)
    (own / "pages" / "lobby.html").write_text(_PAGE)
    async with house(folder) as at:
        section = CaptchaSection.model_validate({"kind": kind})
        societies = {
            name: society.model_copy(update={"captcha": section}) for name, society in at.ctx.settings.societies.items()
        }
        at.ctx = replace(at.ctx, settings=replace(at.ctx.settings, societies=societies))
        app = _app(at, [own, TEMPLATES])
        stop = asyncio.Event()
        task = asyncio.create_task(serve(app, "127.0.0.1", at.port, stop, drain_seconds=1)) if served else None
        try:
            yield Lobby(at, app, "yokokou")
        finally:
            stop.set()
            if task is not None:
                await task


def _app(at: House, templates: list[Path]) -> Starlette:
    ctx, site = at.ctx, at.ctx.settings.site
    societies, marks = ctx.settings.societies, Marks(ctx.ring)
    assets = Assets(societies.values())
    web = Web(
        ctx=ctx,
        pages=Pages(societies, templates, assets),
        cookies=Cookies(False),
        marks=marks,
        captcha=Captcha(ctx.ring, marks, assets.proof),
        clients=Clients(()),
        guesses=Guesses(10),
        origins=origins(site),
        clock=lambda: at.now,
    )
    return Starlette(
        routes=[
            Route("/static/{name}", assets.serve),
            Route("/{society}/lobby", page(web, _show, _submit), methods=["GET", "POST"]),
            Route("/{society}/captcha/{ticket}/picture.png", page(web, web.captcha.picture, pausable=False)),
            Route("/{society}/captcha/{ticket}/voice.wav", page(web, web.captcha.speech, pausable=False)),
        ],
        middleware=[Middleware(Door, hosts=hosts(site), https=False, stranger="", broken="")],
    )
