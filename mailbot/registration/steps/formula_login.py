"""はじめてのログイン: an ID that follows from symbol and number, and the birth date. It serves until registered."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society, Start

from .. import choices, formula
from ..context import Context
from ..outcomes import Field, Refused
from .base import ProofStep, Proved


class FormulaLogin(ProofStep):
    """Its form is also that of the ordinary login, which tries it where the password was wrong; with `ask_kana` it has
    a page of its own."""

    name = "formula-login"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        found = []
        if society.formula is None:
            found.append("steps: 'formula-login' needs the table [formula]")
        if journey.starts != (Start.PAGE,):
            found.append("starts: 'formula-login' starts with a page: [\"page\"]")
        if "settings" not in journey.steps:
            found.append("steps: 'formula-login' knows no address: the step 'settings' must ask for it")
        return found

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        kana = society.formula is not None and society.formula.ask_kana
        hint = "カタカナで入力してください。半角でも、ひらがなでもかまいません。"
        return (
            Field("login_id", "formula.id", "text", "username"),
            Field("password", "formula.password", "text", "off", ("例　2000年1月21日生まれの方は 20000121",)),
            *((Field("kana", "formula.kana", "text", "off", (hint,)),) if kana else ()),
        )

    async def prove(
        self,
        ctx: Context,
        tx: AsyncConnection,
        society: Society,
        journey: Journey,
        invited: str,
        form: Mapping[str, str],
        network: str,
        now: int,
    ) -> Proved | Refused:
        assert society.formula is not None  # held by problems at start-up
        labels = {field.name: field.label for field in self.fields(society, journey)}
        if (empty := choices.left_empty(society, form, labels)) is not None:
            return empty
        found = await formula.prove(ctx, tx, society, society.formula, form, network, now)
        return found if isinstance(found, Refused) else Proved(found, "", {})


FORMULA_LOGIN = FormulaLogin()
