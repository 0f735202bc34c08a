"""What a page shows for its captcha, and whether a form may go on.

Every challenge that was answered, right or wrong, is written down until it would have ended anyway: no second try on
the same one, in any of the processes. Who passed and is refused for another field is not asked again, three times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mailbot.credentials import KeyRing
from mailbot.ratelimit import Hit, Ledger, Limits
from mailbot.registration.outcomes import Complaint
from mailbot.store.engine import insert
from mailbot.store.tables import captcha_used
from mailbot.telemetry import emit
from mailbot.web import japan
from mailbot.web.marks import Marks
from mailbot.web.network import Guesses
from mailbot.web.ranges import ranged
from mailbot.web.render import by_field

from .challenge import MOST, PICTURE_DIGITS, QUESTION_DIGITS, Challenge, reading, same, typed_digits
from .picture import draw
from .speech import speak

if TYPE_CHECKING:
    from mailbot.web.visit import Visit

FIELD = "captcha"
TICKET = "captcha_ticket"
PROOF = "captcha_proof"
RENEW = "captcha_new"
"""Name of the button that asks for another picture."""
QUESTIONS_PER_HOUR = 20
"""Answers to the plain question that one network may give: any program reads it."""

LOOKS = 600
"""Pictures and recordings, whole or in parts, that one network may load in ten minutes."""


class Captcha:
    """`script`: path of the script that computes."""

    def __init__(self, ring: KeyRing, marks: Marks, script: str) -> None:
        self._ring = ring
        self._marks = marks
        self._script = script
        self._at_work = asyncio.Semaphore(1)
        self._looks = Guesses(LOOKS)

    def fragment(self, visit: Visit, complaints: Sequence[Complaint] = ()) -> Markup:
        """A new challenge for a form's page, with what `complaints` say about the last one. Lets the page load what it
        needs. Where this very request passed, only its sign of that."""
        kind = visit.society.captcha.kind
        left = getattr(visit.request.state, "captcha_left", 0)
        visit.form_key()  # sets the cookie that the challenge is bound to
        shown = f"passed{left}" if left else kind
        challenge = Challenge.new(self._marks, shown, visit.society.id, visit.binding(), visit.now)
        errors = by_field(complaints)
        facts: dict[str, Any] = {"kind": challenge.kind, "ticket": challenge.ticket, "errors": errors}
        if challenge.kind == "proof":
            visit.allow("script-src 'self'")
            facts |= {
                "script": self._script,
                "salt": challenge.salt,
                "target": challenge.target(self._ring),
                "most": MOST,
                "question": reading(challenge.question(self._ring)),
                # scripts are on, but this one did not run: without the question there would be no way on
                "asked": FIELD in errors and not visit.form.get(PROOF),
            }
        elif challenge.kind == "picture":
            visit.allow("media-src 'self'")
            facts |= {"place": visit.path(f"captcha/{challenge.ticket}"), "count": PICTURE_DIGITS}
        return Markup(visit.web.pages.html(visit.society, "captcha.html", facts))  # noqa: S704  escaped by its template

    async def passes(self, visit: Visit, form: Mapping[str, str], now: int) -> Complaint | None:
        """None when the form may go on. The challenge is used up, unless there was no answer or too many came."""
        kind = visit.society.captcha.kind
        challenge = Challenge.read(self._marks, visit.society.id, visit.binding(), form.get(TICKET, ""), now)
        if challenge is None or (challenge.kind != kind and not challenge.kind.startswith("passed")):
            return self._refused(visit, "stale", _STALE[kind])
        wanted, typed, asked = self._answers(challenge, form)
        if not typed and wanted:
            return self._refused(visit, "empty", _EMPTY[kind])
        async with visit.ctx.store.begin() as tx:
            again_at = await _too_many(tx, visit, now) if asked else None
            first = again_at is None and await _use(tx, challenge)
        if again_at is not None:
            return self._refused(visit, "too-many", _TOO_MANY.format(again=japan.until(again_at, now)))
        if not first:
            return self._refused(visit, "stale", _STALE[kind])
        if not same(typed, wanted):
            return self._refused(visit, "wrong", _WRONG["question" if asked else kind])
        visit.request.state.captcha_left = challenge.left
        return None

    def _answers(self, challenge: Challenge, form: Mapping[str, str]) -> tuple[str, str, bool]:
        """The right answer, the given one, and whether it is one to the plain question."""
        if challenge.kind == "picture":
            return challenge.digits(self._ring), typed_digits(form.get(FIELD, "")), False
        if challenge.kind == "proof" and form.get(PROOF):
            return str(challenge.number(self._ring)), form[PROOF], False
        if challenge.kind == "proof":
            return challenge.question(self._ring), typed_digits(form.get(FIELD, "")), True
        return "", "", False

    def _refused(self, visit: Visit, reason: str, text: str) -> Complaint:
        emit("captcha.refused", society=visit.society.id, reason=reason)
        return Complaint(FIELD, text)

    # --- what a picture's page loads --------------------------------------------------------------------------------

    async def picture(self, visit: Visit) -> Response:
        challenge = self._shown(visit)
        png = await self._made(draw, challenge)
        return Response(png, media_type="image/png")

    async def speech(self, visit: Visit) -> Response:
        challenge = self._shown(visit)
        sound = await self._made(speak, challenge)
        return ranged(sound, "audio/wav", visit.request.headers.get("range", ""))

    async def _made(self, make: Callable[[str, bytes], bytes], challenge: Challenge) -> bytes:
        """One after the other: a picture takes a tenth of a second of the processor that all pages share."""
        async with self._at_work:
            return await asyncio.to_thread(make, challenge.digits(self._ring), challenge.noise(self._ring))

    def _shown(self, visit: Visit) -> Challenge:
        ticket = visit.request.path_params["ticket"]
        challenge = Challenge.read(self._marks, visit.society.id, visit.binding(), ticket, visit.now)
        if challenge is None or challenge.kind != "picture":
            raise HTTPException(404)
        if self._looks.count(visit.network, visit.now) is not None:
            raise HTTPException(429)
        return challenge


async def _too_many(tx: AsyncConnection, visit: Visit, now: int) -> int | None:
    """Counts one answer to the plain question; when the network may answer again, if it gave too many."""
    one = Hit(visit.society.id, "captcha", visit.network, Limits(hour=QUESTIONS_PER_HOUR))
    ledger = await Ledger.lock(tx, [one.key], now)
    if ledger.allow([one]) is not None:
        return japan.next_minute(ledger.again_at(one))
    await ledger.save(tx)
    return None


async def _use(tx: AsyncConnection, challenge: Challenge) -> bool:
    """Whether nobody used this challenge before, in any process."""
    row = insert(tx)(captcha_used).values(society=challenge.society, id=challenge.id, expires_at=challenge.expires_at)
    fresh = await tx.execute(row.on_conflict_do_nothing().returning(captcha_used.c.id))
    return fresh.first() is not None


_STALE = {
    "proof": "確認の有効期限（20分）が過ぎたか、この画面はもう送信されています。もう一度ボタンを押してください。",
    "picture": "画像の有効期限（20分）が過ぎたか、もう使われています。新しい画像の数字を入力してください。",
}
_EMPTY = {
    "proof": f"「確認のための質問」の数字（{QUESTION_DIGITS}けた）を入力してください。",
    "picture": f"画像の数字（{PICTURE_DIGITS}けた）を入力してください。",
}
_WRONG = {
    "proof": "確認できませんでした。お手数ですが、もう一度ボタンを押してください。",
    "question": "数字が違います。新しい質問の数字を入力してください。",
    "picture": "数字が違います。新しい画像の数字を入力してください。見えにくいときは、音声でお聞きになれます。",
}
_TOO_MANY = (
    "この質問への回答が多いため、{again}まで受け付けをお休みしています。"
    "お急ぎの方は、このページの下の「お困りのときは」へご連絡ください。"
)
