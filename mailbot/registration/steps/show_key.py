"""A number on the screen, to be noted down and typed behind the mailed link: it ties the mailbox to this screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailbot import credentials
from mailbot.config import Journey, Society

from ..context import Context
from .base import JourneyState, ShownStep

DIGITS = 4
MAILED_LINK = "mailed-link"


def key_of(ctx: Context, society: Society, state: JourneyState) -> str:
    """The journey's number. Raises KeyRefused."""
    return credentials.screen_key(ctx.ring, state.kid, society.id, state.id, 0, DIGITS)


class ShowKey(ShownStep):
    """Derived from the journey's row, so that nothing has to be kept."""

    name = "show-key"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        after = journey.steps[journey.steps.index(self.name) + 1 :]
        if after[:2] != (MAILED_LINK, "enter-key"):
            return ["steps: after 'show-key' come 'mailed-link' and 'enter-key'"]
        return []

    def facts(self, ctx: Context, society: Society, state: JourneyState) -> Mapping[str, Any]:
        return {"key": key_of(ctx, society, state)}


SHOW_KEY = ShowKey()
