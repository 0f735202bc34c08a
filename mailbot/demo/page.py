"""The demo page: a phone with its mailbox, the notice with its QR code, and what the robot made of each mail."""

from __future__ import annotations

import asyncio
from typing import Any

import segno
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from mailbot import resources
from mailbot.app import Robot
from mailbot.config import Settings, Society, Start
from mailbot.delivery.relay import CaptureRelay
from mailbot.demo import mailbox, people, tour
from mailbot.intake.screening import Reason
from mailbot.mail.address import AddressError, parse_typed
from mailbot.office import policy
from mailbot.store.tables import inbox
from mailbot.web.japan import clock

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
DEFAULT_PHONE = "hanako@phone.example"


def demo_app(robot: Robot, settings: Settings, relay: CaptureRelay) -> Starlette:
    """The ASGI application of the demo port."""
    folder = resources.folder("templates") / "demo"
    pages = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["clock"] = clock
    template = pages.from_string((folder / "demo.html").read_text("utf-8"))
    parts = pages.from_string((folder / "mailbox.html").read_text("utf-8"))
    style, script = ((folder / name).read_bytes() for name in ("demo.css", "demo.js"))
    societies = settings.societies
    with_blank_mails = (one for one in societies.values() if one.addresses.registration)
    shown_first = next(with_blank_mails, next(iter(societies.values())))

    def chosen(request: Request) -> tuple[Society, str]:
        society = societies.get(request.query_params.get("society", "")) or shown_first
        return society, request.query_params.get("phone", "").strip() or DEFAULT_PHONE

    async def facts(society: Society, phone: str) -> dict[str, Any]:
        async with robot.ctx.store.read() as tx:
            statement = select(inbox).where(inbox.c.address == phone).order_by(inbox.c.received_at.desc()).limit(10)
            received = (await tx.execute(statement)).all()
        return {
            "society": society,
            "phone": phone,
            "mails": list(reversed(mailbox.mails(relay, phone))),
            "received": [(row.received_at, row.reason, Reason(row.reason).explanation) for row in received],
        }

    async def index(request: Request) -> Response:
        society, phone = chosen(request)
        login = society.addresses.registration is None
        content = policy.qr_content(society, settings.site, login=login)
        letters = await people.everybody(robot.ctx, society, robot.clock.now())
        household = [one for one in letters if one.household == letters[0].household] if letters else []
        return HTMLResponse(
            template.render(
                **await facts(society, phone),
                societies=list(societies.values()),
                mailbox=parts,
                base=f"{settings.site.site.web_url}/{society.id}",
                ops=f"http://{settings.site.ops.listen}/",
                qr=segno.make(content, error="m", micro=False).svg_data_uri(border=2, scale=4),
                qr_text=content,
                entry=bool(society.journeys_for(Start.WEB_FORM)),
                paper=any("temporary-login" in journey.steps for journey in society.journeys.values()),
                household=household or letters[:1],
                others=[one for one in letters if one not in household],
                said=request.query_params.get("said", ""),
            ),
            headers=_HEADERS,
        )

    async def fragment(request: Request) -> Response:
        return HTMLResponse(parts.render(**await facts(*chosen(request))), headers=_HEADERS)

    async def send(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=5)
        society = societies.get(str(form.get("society", ""))) or shown_first
        try:
            phone = parse_typed(str(form.get("phone", "")), frozenset(settings.site.smtp.legacy_domains)).text
            answer = await tour.blank_mail(settings, phone, society.addresses.registration or "")
            said = f"Sent. The robot's SMTP answer: 250 {answer}"
        except AddressError:
            phone, said = DEFAULT_PHONE, "That is no mail address."
        except (tour.Stumbled, OSError) as error:
            said = f"Not sent: {error}"
        await asyncio.sleep(0.3)  # most answers are there by then, so the mailbox is not shown empty first
        url = request.url_for("index").include_query_params(society=society.id, phone=phone, said=said)
        return RedirectResponse(str(url), 303)

    async def css(_: Request) -> Response:
        return Response(style, media_type="text/css")

    async def js(_: Request) -> Response:
        return Response(script, media_type="text/javascript")

    return Starlette(
        routes=[
            Route("/", index, name="index"),
            Route("/mailbox", fragment),
            Route("/send", send, methods=["POST"]),
            Route("/demo.css", css),
            Route("/demo.js", js),
        ]
    )
