"""What two windows of one browser do to a journey between the reading and the writing of a form; on both databases."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.registration import journeys, people, progress
from mailbot.registration.outcomes import Begun, Moved
from mailbot.registration.steps import JourneyState
from mailbot.store import Store
from mailbot.store.tables import address, journey, link, outbox
from tests.contract.test_consent_settings_confirm import ADDRESS, OWN, at_settings, filled
from tests.support.factory import World
from tests.support.steps import confirm, send

OTHER = "taro@ezweb.ne.jp"


async def test_a_check_page_of_before_mails_no_link_that_would_prove_another_address(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While 'send mail' is on its way, another window goes back and types another address, and stands there again."""
    society, begun = await at_settings(here)
    await send(here, society, begun, "settings", **filled())
    before = Store.begin
    meanwhile = True

    @asynccontextmanager
    async def begin(store: Store) -> AsyncIterator[AsyncConnection]:
        nonlocal meanwhile
        if meanwhile:
            meanwhile = False
            await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
            assert await send(here, society, begun, "settings", **filled(address=OTHER)) == Moved("review")
        async with before(store) as tx:
            yield tx

    monkeypatch.setattr(Store, "begin", begin)
    assert await send(here, society, begun, "review") == Moved("review")  # the page shows the other address now
    monkeypatch.undo()
    assert await here.rows(select(link.c.address)) == []
    assert await here.rows(select(outbox.c.recipient)) == []
    assert await send(here, society, begun, "review") == Moved("confirm-by-mail")
    assert [row.address for row in await here.rows(select(link.c.address))] == [OTHER]
    assert isinstance(await confirm(here, society, OTHER, OWN), Begun)
    assert [row.address for row in await here.rows(select(address.c.address))] == [OTHER]


async def test_a_mail_is_sent_again_only_where_the_journey_still_stands(here: World) -> None:
    society, begun = await at_settings(here)
    await send(here, society, begun, "settings", **filled())
    await send(here, society, begun, "review")
    async with here.ctx.store.read() as tx:
        state = await progress.open_for(here.ctx, tx, society, begun.journey_id, begun.proof, here.now)
    assert isinstance(state, JourneyState)
    async with here.ctx.store.begin() as tx:
        assert await progress.hold(tx, society, state)
    await journeys.go_back(here.ctx, society, begun.journey_id, begun.proof, "settings", here.now)
    async with here.ctx.store.begin() as tx:
        assert not await progress.hold(tx, society, state)
    await send(here, society, begun, "settings", **filled(address=OTHER))
    await send(here, society, begun, "review")  # the same step, another address
    async with here.ctx.store.begin() as tx:
        assert not await progress.hold(tx, society, state)


async def test_what_was_typed_is_gone_from_a_finished_journey(here: World) -> None:
    society, begun = await at_settings(here)
    await send(here, society, begun, "settings", **filled())
    await send(here, society, begun, "review")
    assert isinstance(await confirm(here, society, ADDRESS, OWN), Begun)
    (row,) = await here.rows(select(journey).where(journey.c.done_at.is_not(None)))
    place = people.place(society.id, "journey", "sealed", row.id)
    assert json.loads(here.ctx.ring.open(bytes(row.sealed), place)) == {}
