"""The ops door: queue, alarms, metrics, health. Never on the members' port; everything but health asks for the token.

A browser sends the token as the password of HTTP Basic (any user name), a scraper as `Authorization: Bearer`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from mailbot import resources, telemetry
from mailbot.credentials import decode_id, encode_id
from mailbot.delivery import outbox
from mailbot.office import help as desk
from mailbot.registration import stops
from mailbot.registration.context import Context
from mailbot.store.alarms import alarms

_JST = timezone(timedelta(hours=9))
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LATE_SECONDS = {outbox.Lane.PIN: 60, outbox.Lane.LINK: 300, outbox.Lane.REISSUE: 300}
"""A queued mail older than this makes the verdict 'late'; other lanes: an hour."""


def _moment(ms: int | None) -> str:
    return datetime.fromtimestamp(ms / 1000, _JST).strftime("%Y-%m-%d %H:%M:%S") if ms else "–"


def _age(seconds: int) -> str:
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def ops_app(ctx: Context, token: str, now: Callable[[], int]) -> Starlette:
    """The ASGI application of the ops port."""
    folder = resources.folder("templates") / "ops"
    pages = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters.update(moment=_moment, age=_age, short=encode_id)
    templates = {
        name: pages.from_string((folder / name).read_text("utf-8")) for name in ("dashboard.html", "mail.html")
    }
    style = (folder / "ops.css").read_bytes()

    def page(name: str, status: int = 200, **facts: Any) -> Response:
        return HTMLResponse(templates[name].render(now=now(), **facts), status, _HEADERS)

    def check(request: Request) -> None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            challenge = 'Basic realm="mailbot ops: any name, the token as password", charset="UTF-8"'
            raise HTTPException(
                401, "The token is in the file named by ops.token_file.", {"WWW-Authenticate": challenge}
            )

    async def dashboard(request: Request) -> Response:
        check(request)
        chosen = {name: request.query_params.get(name) or None for name in ("society", "state")}
        async with ctx.store.scan() as tx:
            rows = await outbox.status(tx)
            mails = await outbox.list_mails(tx, society=chosen["society"], state=chosen["state"], limit=100)
            raised = await alarms(tx)
            paused = await stops.paused(tx)
            held = await stops.held(tx)
            asking = await desk.waiting(tx)
        at = now()
        late = [
            r
            for r in rows
            if r.state == "queued" and (at - r.oldest) // 1000 > LATE_SECONDS.get(outbox.Lane(r.lane), 3600)
        ]
        recent = [a for a in raised if at - a.last_at < 86_400_000]
        return page(
            "dashboard.html",
            rows=rows,
            mails=mails,
            alarms=raised,
            paused=sorted(paused),
            asking=asking,
            held=sorted((society, *since) for society, since in held.items()),
            late=late,
            recent=recent,
            lane=lambda number: outbox.Lane(number).name.lower(),
            chosen=chosen,
        )

    async def mail(request: Request) -> Response:
        check(request)
        number = decode_id(request.path_params["id"])
        async with ctx.store.scan() as tx:
            found = await outbox.show(tx, number) if number else None
        if found is None:
            raise HTTPException(404, "No such mail.")
        return page("mail.html", mail=found[0], attempts=found[1], lane=outbox.Lane(found[0].lane).name.lower())

    async def metrics(request: Request) -> Response:
        check(request)
        async with ctx.store.scan() as tx:
            rows = await outbox.status(tx)
            raised = await alarms(tx)
        at = now()
        for gauge in (telemetry.QUEUE, telemetry.QUEUE_AGE, telemetry.ALARMS):
            gauge.clear()
        oldest: dict[str, int] = {lane.name.lower(): at for lane in outbox.Lane}
        for row in rows:
            lane = outbox.Lane(row.lane).name.lower()
            telemetry.QUEUE.labels(row.society, lane, row.state).set(row.mails)
            if row.state == "queued":
                oldest[lane] = min(oldest[lane], row.oldest)
        for lane, since in oldest.items():
            telemetry.QUEUE_AGE.labels(lane).set((at - since) / 1000)
        for row in raised:
            if at - row.last_at < 86_400_000:
                telemetry.ALARMS.labels(row.kind).inc()
        return Response(generate_latest(telemetry.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(_: Request) -> Response:
        return PlainTextResponse("live\n", headers=_HEADERS)

    async def ready(_: Request) -> Response:
        try:
            async with ctx.store.read() as tx:
                await tx.execute(text("SELECT 1"))
        except Exception as error:
            telemetry.emit("ops.not-ready", error=error)
            return PlainTextResponse("the database does not answer\n", 503, _HEADERS)
        return PlainTextResponse("ready\n", headers=_HEADERS)

    async def css(_: Request) -> Response:
        return Response(style, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    return Starlette(
        routes=[
            Route("/", dashboard),
            Route("/mail/{id}", mail),
            Route("/metrics", metrics),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/ops.css", css),
        ]
    )
