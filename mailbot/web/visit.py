"""One request as the pages see it: whose society, what time, which network, which form, and what to answer with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mailbot.config import HelpCase, Journey, Society, Start
from mailbot.registration.context import Context
from mailbot.registration.outcomes import Complaint, MemberView, Refused
from mailbot.web import cookies
from mailbot.web.captcha import Captcha
from mailbot.web.cookies import Cookies
from mailbot.web.door import content_security_policy
from mailbot.web.marks import Marks
from mailbot.web.network import Clients, Guesses
from mailbot.web.render import TEXT_SIZES, Pages, by_field, help_channels

FORM_KEY = "form-key"


@dataclass(frozen=True)
class Web:
    """What all requests share. Lifetime: one process."""

    ctx: Context
    pages: Pages
    cookies: Cookies
    marks: Marks
    captcha: Captcha
    clients: Clients
    guesses: Guesses
    origins: frozenset[str]
    clock: Callable[[], int]


@dataclass
class Visit:
    """Lifetime: one request."""

    web: Web
    request: Request
    society: Society
    now: int
    network: str
    form: Mapping[str, str] = field(default_factory=dict)
    member: MemberView | None = None
    session_token: str | None = None
    _to_set: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    _allowed: list[str] = field(default_factory=list)

    @property
    def ctx(self) -> Context:
        return self.web.ctx

    def path(self, name: str) -> str:
        """A path of this society: path("j/…")."""
        return f"/{self.society.id}/{name}"

    # --- cookies ----------------------------------------------------------------------------------------------------

    def cookie(self, name: str) -> str | None:
        if name in self._to_set:
            return self._to_set[name][0] or None
        return self.web.cookies.get(self.request.cookies, name)

    def set_cookie(self, name: str, value: str, max_age: int | None = None) -> None:
        self._to_set[name] = (value, max_age)

    def drop_cookie(self, name: str) -> None:
        self._to_set[name] = ("", 0)

    def allow(self, source: str) -> None:
        """Lets this one page load what no other may: allow("script-src 'self'")."""
        self._allowed.append(source)

    def finish(self, response: Response) -> Response:
        if self._allowed:
            response.headers["Content-Security-Policy"] = content_security_policy(*self._allowed)
        for name, (value, max_age) in self._to_set.items():
            self.web.cookies.set(response, name, value, max_age)
        return response

    # --- forms ------------------------------------------------------------------------------------------------------

    def form_key(self) -> str:
        """The hidden field that proves a form is ours, bound to this browser, or to the session once logged in."""
        if self.session_token is None and self.cookie(cookies.FORM) is None:
            self.set_cookie(cookies.FORM, secrets.token_urlsafe(24))
        return self.web.marks.make(self.now, "form", self.society.id, 0, self.binding())

    def form_is_ours(self) -> bool:
        binding = self.binding()
        return bool(binding) and self.web.marks.fits(self.form.get(FORM_KEY, ""), "form", self.society.id, 0, binding)

    def binding(self) -> str:
        """What ties forms to this browser, or to the session once logged in; empty without a cookie."""
        if self.session_token is not None:
            return "session:" + sha256(self.session_token.encode()).hexdigest()
        value = self.cookie(cookies.FORM)
        return f"browser:{value}" if value else ""

    # --- answers ----------------------------------------------------------------------------------------------------

    def page(
        self,
        name: str,
        *,
        status: int = 200,
        case: HelpCase = HelpCase.ANY,
        complaints: Sequence[Complaint] = (),
        values: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Response:
        """A page in this society's frame, offering the help channels that serve `case`."""
        size = self.cookie(cookies.TEXT) or ""
        html = self.web.pages.html(
            self.society,
            name,
            {
                "now": self.now,
                "here": self.request.url.path,
                "text_size": size if size in TEXT_SIZES else "normal",
                "channels": help_channels(self.society, case),
                "form_key": self.form_key,
                "complaints": complaints,
                "errors": by_field(complaints),
                "values": values or {},
                "member": self.member,
                **facts,
            },
        )
        return HTMLResponse(html, status)

    def refuse(self, name: str, refused: Refused, *, case: HelpCase = HelpCase.ANY, **facts: Any) -> Response:
        """The form again with its complaints and everything that was typed, except passwords."""
        return self.page(name, status=refused.status, case=case, complaints=refused.complaints, **facts)

    def failure(self, kind: str, **facts: Any) -> Response:
        """A page that says why not and what to do instead; it looks the same at every address."""
        return self.page(
            f"failures/{kind}.html",
            status=FAILURES[kind],
            case=HelpCase.REGISTRATION if kind in ("link", "tries") else HelpCase.ANY,
            here=self.path("login"),
            **ways_in(self.society),
            **facts,
        )

    def go(self, name: str) -> Response:
        """303 to a path of this society."""
        return RedirectResponse(self.path(name), 303)


def ways_in(society: Society) -> dict[str, Any]:
    """Where a member can begin: facts of the login page, the help page and the pages that refuse."""
    by_page = society.journeys_for(Start.PAGE)
    direct = {name: one for name, one in by_page.items() if not tried_at_login(society, one)}
    return {
        "entry": bool(society.journeys_for(Start.WEB_FORM)),
        "blank_mail": society.addresses.registration if society.journeys_for(Start.BLANK_MAIL) else None,
        "at_login": len(direct) < len(by_page),
        "address_login": any(one.login_id == "address" for one in society.journeys.values()),
        "paper": any(one.steps[:1] == ("temporary-login",) for one in society.journeys.values()),
        "direct": {name: one.label or society.pages.direct_login_text for name, one in direct.items()},
    }


def tried_at_login(society: Society, journey: Journey) -> bool:
    """Whether the login's own form begins this journey: ID and birth date are all it asks first."""
    asks_more = journey.captcha or (society.formula is not None and society.formula.ask_kana)
    return journey.steps[:1] == ("formula-login",) and not asks_more


FAILURES = {
    "not-found": 404,
    "bad-request": 400,
    "too-large": 413,
    "forbidden": 403,
    "no-cookies": 403,
    "elsewhere": 403,
    "too-many": 429,
    "link": 410,
    "tries": 410,
    "paused": 503,
    "busy": 503,
    "error": 500,
}
"""Template under `failures/` -> HTTP status."""
