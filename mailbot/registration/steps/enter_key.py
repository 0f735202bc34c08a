"""The number from the screen, typed behind the mailed link. Five tries, then the journey ends."""

from __future__ import annotations

from collections.abc import Mapping

from mailbot import credentials
from mailbot.config import Journey, Society
from mailbot.credentials import KeyRefused

from .. import choices
from ..context import Context
from ..outcomes import Complaint, Field, Refused
from .base import JourneyState, LinkedStep
from .show_key import DIGITS, key_of


class EnterKey(LinkedStep):
    """With the key the browser that typed it goes on with the journey, whichever it is."""

    name = "enter-key"
    tries = 5

    def problems(self, society: Society, journey: Journey) -> list[str]:
        return [] if "mailed-link" in journey.steps else ["steps: 'enter-key' comes right after 'mailed-link'"]

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        hint = f"画面に出た{DIGITS}けたの数字です。"
        return (Field("key", "enter-key.key", "digits", "off", (hint,)),)

    async def right(self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str]) -> bool:
        try:
            return credentials.same(choices.text_of(form, "key"), key_of(ctx, society, state))
        except KeyRefused:
            return False

    def wrong(self, society: Society, left: int) -> Refused:
        label = society.label("enter-key.key")
        text = f"{label}が違います。ひかえた{DIGITS}けたの数字を、もう一度入力してください。あと{left}回入力できます。"
        return Refused((Complaint("key", text),))

    def empty(self, society: Society, form: Mapping[str, str]) -> Refused | None:
        return choices.left_empty(society, form, {"key": "enter-key.key"})


ENTER_KEY = EnterKey()
