"""The members' web application, as one ASGI app."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mailbot.registration.context import Context
from mailbot.web import account, codes, entry, journey, landing, login, pin, reissue
from mailbot.web.assets import Assets
from mailbot.web.captcha import Captcha
from mailbot.web.cookies import Cookies
from mailbot.web.door import Door
from mailbot.web.endpoint import Handler, page
from mailbot.web.marks import Marks
from mailbot.web.network import Clients, Guesses, hosts, origins
from mailbot.web.render import Pages
from mailbot.web.visit import Visit, Web


def system_clock() -> int:
    return time.time_ns() // 1_000_000


def member_app(ctx: Context, folders: Sequence[Path], clock: Callable[[], int] = system_clock) -> Starlette:
    """Everything a member sees of every society. `folders`: roots of templates, the first one that has a file wins.

    Raises jinja2.TemplateError when a template is broken.
    """
    site, societies = ctx.settings.site, ctx.settings.societies
    https = site.site.web_url.startswith("https://")
    assets = Assets(societies.values())
    pages = Pages(societies, folders, assets)
    marks = Marks(ctx.ring)
    web = Web(
        ctx=ctx,
        pages=pages,
        cookies=Cookies(https),
        marks=marks,
        captcha=Captcha(ctx.ring, marks, assets.proof),
        clients=Clients(site.web.trusted_proxies),
        guesses=Guesses(site.budgets.link_failures_per_10_minutes),
        origins=origins(site),
        clock=clock,
    )
    front = HTMLResponse(pages.html(None, "front.html", {}))

    async def home(request: Request) -> Response:
        return front

    async def refused(request: Request, error: Exception) -> Response:
        """404 and 405, in the society's own frame where the path begins with one."""
        assert isinstance(error, HTTPException)
        society = societies.get(request.url.path.strip("/").partition("/")[0])
        if society is None:
            return HTMLResponse(pages.html(None, "front.html", {}), error.status_code, error.headers)
        visit = Visit(web, request, society, web.clock(), "")
        response = visit.failure("not-found")
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return visit.finish(response)

    return Starlette(
        routes=[
            Route("/", home),
            Route("/favicon.ico", assets.icon),
            Route("/robots.txt", assets.robots),
            Route("/static/{name}", assets.serve),
            *_routes(web),
        ],
        exception_handlers={HTTPException: refused},
        middleware=[
            Middleware(
                Door,
                hosts=hosts(site),
                https=https,
                stranger=pages.html(None, "front.html", {}),
                broken=pages.html(None, "broken.html", {}),
            )
        ],
    )


def _routes(web: Web) -> list[Route]:
    def route(path: str, show: Handler | None, submit: Handler | None = None, *, member: bool = False) -> Route:
        methods = [name for name, handler in (("GET", show), ("POST", submit)) if handler is not None]
        return Route("/{society}" + path, page(web, show, submit, member=member), methods=methods)

    def arrival(letter: str) -> Route:
        # no database before the token has proved itself
        endpoint = page(web, landing.arrive(letter), pausable=False)
        return Route(f"/{{society}}/{letter}/{{token:path}}", endpoint)

    return [
        route("", entry.index),
        route("/", entry.index),
        route("/login", login.ask, login.submit),
        route("/login/password", login.ask_password, login.submit_password),
        route("/pin", pin.ask, pin.submit),
        route("/entry", entry.ask, entry.request),
        route("/entry/sent", entry.requested),
        route("/code", codes.ask, codes.submit),
        route("/help", entry.help_page),
        route("/text/{size}", entry.text_size),
        arrival("r"),
        arrival("p"),
        arrival("a"),
        arrival("c"),
        route("/open/{link}", landing.show, landing.submit),
        Route("/{society}/captcha/{ticket}/picture.png", page(web, web.captcha.picture, pausable=False)),
        Route("/{society}/captcha/{ticket}/voice.wav", page(web, web.captcha.speech, pausable=False)),
        route("/direct", journey.direct, journey.begin_direct),
        route("/j/{journey}", journey.show, journey.submit),
        route("/j/{journey}/done", journey.done, journey.invite_family),
        route("/address/done", landing.address_done),
        route("/reissue", reissue.ask, reissue.request),
        route("/reissue/sent", reissue.requested),
        route("/reissue-id", reissue.ask_id, reissue.request_id),
        route("/reissue-id/sent", reissue.id_requested),
        route("/reissue/done", reissue.finished),
        route("/reissue/{link}", reissue.change, reissue.finish),
        route("/home", account.home, member=True),
        route("/profile", account.ask_profile, account.update_profile, member=True),
        route("/consents", account.agreed, member=True),
        route("/password", account.ask_password, account.change_password, member=True),
        route("/logout", None, account.log_out, member=True),
    ]
