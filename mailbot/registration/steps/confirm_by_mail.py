"""The mail to the typed address; behind its link, in any browser, the password just set makes the member registered."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society
from mailbot.credentials import PasswordTooLong
from mailbot.mail.address import stored
from mailbot.store.tables import member

from .. import choices, formula, people, words
from ..context import Context
from ..outcomes import Complaint, End, Field, JourneyEnd, Refused
from .base import JourneyState, LinkedStep, Passed, WaitingStep
from .register import Chosen, register
from .settings import SETTINGS, by_address, login_id_of


class ConfirmByMail(WaitingStep, LinkedStep):
    """The link proves the address, the password that it is the same person. The way in used so far closes here."""

    name = "confirm-by-mail"
    letter = "confirm-by-mail"
    registers = True
    counts = True
    leads_back = True
    tries = 10

    def problems(self, society: Society, journey: Journey) -> list[str]:
        if "settings" not in journey.steps[: journey.steps.index(self.name)]:
            return ["steps: 'confirm-by-mail' asks the password that 'settings' took"]
        return []

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        return (Field("password", "confirm.password", "password", "current-password"),)

    async def right(self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str]) -> bool:
        try:
            return await ctx.passwords.verify(state.answers[SETTINGS]["hash"], choices.text_of(form, "password"))
        except PasswordTooLong:
            return False

    def wrong(self, society: Society, left: int) -> Refused:
        label = society.label("confirm.password")
        text = f"{label}が違います。{society.label('settings.title')}の画面で決めたパスワードを入力してください。"
        return Refused((Complaint("password", f"{text}あと{left}回入力できます。"),))

    def empty(self, society: Society, form: Mapping[str, str]) -> Refused | None:
        return choices.left_empty(society, form, {"password": "confirm.password"})

    async def leave(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed, now: int
    ) -> JourneyEnd | None:
        statement = select(member.c.sealed).where(member.c.society == society.id, member.c.id == state.member_id)
        sealed = await tx.scalar(statement)
        if sealed is None:
            return JourneyEnd(End.EXPIRED)
        person = people.open_person(ctx.ring, sealed, society.id, state.member_id)
        login_id = login_id_of(society, state, person, state.address)
        if login_id is None:  # the roster changed meanwhile
            return JourneyEnd(End.EXPIRED)
        typed, address = state.answers[SETTINGS], by_address(society, state)
        chosen = Chosen(
            login_id if address else None,
            formula.login_key(ctx.ring, society, login_id),
            "address" if address else "formula",
            typed["hash"],
            stored(state.address),
            typed["nickname"],
            {"wanted": typed["wanted"]},
        )
        return await register(ctx, tx, society, state, chosen, now)

    async def conflict(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed
    ) -> Refused | None:
        """Somebody registered with the same address, or the same symbol and number, while this mail was on its way."""
        if state.journey.login_id != "address":
            return Refused.whole(words.NO_FORMULA)
        if await choices.is_taken(ctx, tx, society, state.address, state.member_id):
            return Refused.whole(words.address_taken(society.label("settings.address")))
        return None


CONFIRM_BY_MAIL = ConfirmByMail()
