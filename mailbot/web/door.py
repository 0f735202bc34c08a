"""The outermost layer: our hosts only, security headers on every answer, one log line a request, no exception let out.

The log line names the route's pattern, never the path: paths hold tokens.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailbot.telemetry import emit

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def content_security_policy(*more: str) -> str:
    """The policy of a page that needs more than all the others: content_security_policy("script-src 'self'")."""
    return "; ".join((CONTENT_SECURITY_POLICY, *more))


def security_headers(https: bool) -> dict[str, str]:
    """Headers of every answer."""
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    if https:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


class Door:
    """ASGI middleware around the members' pages. `stranger` and `broken` are whole pages."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], https: bool, stranger: str, broken: str) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = security_headers(https)
        self._stranger = HTMLResponse(stranger, 400)
        self._broken = HTMLResponse(broken, 500)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    if name != "Content-Security-Policy" or name not in headers:
                        headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            # RFC 9110 section 7.2: a name that is not ours is a misdirected or a forged request
            if Headers(scope=scope).get("host", "").lower() not in self._hosts:
                await self._stranger(scope, receive, guarded)
            else:
                await self._app(scope, receive, guarded)
        except Exception as error:
            emit("web.error", error=error)
            if not status:
                await self._broken(scope, receive, guarded)
        finally:
            route = scope.get("route")
            emit(
                "web.request",
                method=scope["method"] if scope["method"] in {"GET", "HEAD", "POST"} else "other",
                route=getattr(route, "path", "-"),
                society=scope.get("path_params", {}).get("society", "-") if status != 404 else "-",
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )
