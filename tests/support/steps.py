"""Walks a journey of consent, settings, review and confirmation by mail on the level of use cases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from mailbot.config import Society
from mailbot.registration import journeys, mailed
from mailbot.registration.outcomes import Begun, Moved, StepPage
from mailbot.store.tables import outbox
from tests.support.factory import World


async def page(here: World, society: Society, begun: Begun) -> StepPage:
    shown = await journeys.page(here.ctx, society, begun.journey_id, begun.proof, here.now)
    assert isinstance(shown, StepPage), shown
    return shown


async def send(here: World, society: Society, begun: Begun, step: str, **form: str) -> Any:
    """POST of a step."""
    return await journeys.submit(here.ctx, society, begun.journey_id, begun.proof, step, form, here.now)


async def agree(here: World, society: Society, begun: Begun) -> None:
    """Reads every text to its end and ticks."""
    for _ in range(5):
        shown = await page(here, society, begun)
        if shown.step != "consent":
            return
        unread, stamp = shown.facts["unread"], shown.facts["stamp"]
        more = {"agree": "yes"} if unread is None else {"read": unread.id}
        assert isinstance(await send(here, society, begun, "consent", texts=stamp, **more), Moved)


async def through(here: World, society: Society, begun: Begun, address: str, password: str, **more: str) -> None:
    """From the consent to the waiting for the mail."""
    await agree(here, society, begun)
    form = {"address": address, "password": password, "password_again": password, **more}
    assert await send(here, society, begun, "settings", **form) == Moved("review")
    assert await send(here, society, begun, "review") == Moved("confirm-by-mail")


async def link_to(here: World, address: str) -> int:
    """The newest link for a confirmation that was mailed to an address."""
    statement = select(outbox.c.link_id).where(outbox.c.letter == "confirm-by-mail", outbox.c.recipient == address)
    rows = await here.rows(statement.order_by(outbox.c.created_at.desc(), outbox.c.id.desc()))
    return int(rows[0].link_id)


async def confirm(here: World, society: Society, address: str, password: str) -> Any:
    """POST behind the newest link."""
    link_id = await link_to(here, address)
    return await mailed.submit(here.ctx, society, link_id, {"password": password}, here.now)
