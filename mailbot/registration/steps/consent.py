"""同意: the society's texts, whole, then one tick. A text that has to be read comes first, with a button at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society

from .. import choices, consents
from ..consents import Text
from ..context import Context
from ..outcomes import Complaint, Field, Refused
from .base import FormStep, JourneyState, Passed
from .register import CONSENTS

READ = "read"
"""Answer that holds which texts were read to their end: id -> SHA-256 (hex)."""

CHANGED = "文章が新しくなりました。お手数ですが、もう一度お読みください。"
TICK = "同意していただける場合は、四角に印を付けてください。"


class Consent(FormStep):
    """Whether a text was read is kept on the server: the tick opens without any script, and no form can skip it."""

    name = "consent"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        if not society.consents:
            return ["steps: 'consent' needs texts: [[consents]]"]
        twice = [one for one, times in Counter(text.id for text in society.consents).items() if times > 1]
        return [f"steps: 'consent': two texts are called {one!r}" for one in twice]

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        return (Field("agree", "consent.tick", "tick", "off"),)

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """`texts`: those to show now, up to the one that has still to be read, `unread`; `read`: ids of the others."""
        texts = consents.texts(ctx, society)
        unread = _unread(texts, state)
        shown = texts if unread is None else texts[: texts.index(unread) + 1]
        read = tuple(text.id for text in texts if text.read_to_end and text is not unread)
        return {}, {"texts": shown, "unread": unread, "read": read, "stamp": consents.stamp(texts)}

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        texts = consents.texts(ctx, society)
        unread = _unread(texts, state)
        if choices.text_of(form, "texts") != consents.stamp(texts):
            return Refused.whole(CHANGED)
        if READ in form:
            if unread is None or form[READ] != unread.id:
                return Passed(stays=True)
            return Passed(answers={READ: {**state.answers.get(READ, {}), unread.id: unread.digest}}, stays=True)
        if unread is not None:
            return Refused.whole(f"「{unread.title}」を最後まで読み、文章の終わりのボタンを押してください。")
        if choices.text_of(form, "agree") != "yes":
            return Refused((Complaint("agree", TICK),))
        agreed = [{"id": text.id, "version": text.version, "digest": text.digest, "at": now} for text in texts]
        return Passed(answers={CONSENTS: agreed})


def _unread(texts: tuple[Text, ...], state: JourneyState) -> Text | None:
    """The first text that has to be read and was not, in this very wording."""
    read = state.answers.get(READ, {})
    return next((text for text in texts if text.read_to_end and read.get(text.id) != text.digest), None)


CONSENT = Consent()
