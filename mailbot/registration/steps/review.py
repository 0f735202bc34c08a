"""確認: all that was typed in `settings`, but the password, with a way back; then the mail goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society
from mailbot.store.tables import member

from ..context import Context
from ..outcomes import Refused
from .base import FormStep, JourneyState, Passed
from .settings import SETTINGS, shown_facts

HIDDEN = "（表示しません）"
NONE = "なし"


class Review(FormStep):
    """Asks nothing; going on sends the mail of the step behind it."""

    name = "review"
    leads_back = True

    def problems(self, society: Society, journey: Journey) -> list[str]:
        place = journey.steps.index(self.name)
        if journey.steps[place - 1 : place] != ("settings",) or journey.steps[place + 1 :] != ("confirm-by-mail",):
            return ["steps: 'review' stands between 'settings' and 'confirm-by-mail'"]
        return []

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """`rows`: (key of a label, text), in the order of the page before."""
        statement = select(member.c.sealed).where(member.c.society == society.id, member.c.id == state.member_id)
        row = (await tx.execute(statement)).one()
        typed = state.answers[SETTINGS]
        wanted = "、".join(one.label for one in society.profile.wanted if typed["wanted"].get(one.id))
        texts = {
            "address": state.address,
            "password": HIDDEN,
            "nickname": typed["nickname"] or NONE,
            "wanted": wanted or NONE,
        }
        rows = [*shown_facts(ctx, society, state, row)]
        if state.journey.login_id == "address":
            rows.append(("login.id", state.address))
        rows += [(f"settings.{name}", texts[name]) for name in state.journey.settings]
        return {}, {"rows": rows}

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        return Passed()


REVIEW = Review()
