"""Addresses that were accepted once, crowds behind one address of the network, and floods of forms."""

from pathlib import Path

from mailbot.config import Start
from mailbot.mail.address import Address, parse_path, stored
from mailbot.ratelimit import Hit, Limits, hit
from mailbot.registration import entry, journeys
from mailbot.registration.invite import LinkRequest, request_links
from mailbot.registration.outcomes import Begun, Refused
from mailbot.store import Store
from mailbot.store.alarms import alarms
from mailbot.store.tables import address, link
from tests.support.factory import NETWORK, World, world


async def _registers(here: World, sender: str, legacy: frozenset[str]) -> None:
    invited = parse_path(f"<{sender}>", legacy)
    assert isinstance(invited, Address)
    who = await here.join("yokokou")
    async with here.ctx.store.begin() as tx:
        await request_links(here.ctx, tx, [LinkRequest("yokokou", invited)], here.now)
    (link_id,) = await here.rows(link.select().with_only_columns(link.c.id).where(link.c.address == invited.text))
    begun = await here.begin(who, link_id[0])
    await here.submit(who, begun, "some-login")
    kept = await here.rows(address.select().with_only_columns(address.c.address))
    assert [row.address for row in kept] == [invited.text]
    assert stored(kept[0].address) == invited
    assert await journeys.invite_family(here.ctx, who.society, begun.journey_id, begun.proof, here.now + 60_000)


async def test_old_addresses_of_a_domain_the_file_lists(store: Store, tmp_path: Path) -> None:
    here = world(store, tmp_path, {"SMTP_LEGACY_DOMAINS": '["docomo.ne.jp", "vodafone.example"]'})
    await _registers(here, "a..b.@vodafone.example", frozenset({"vodafone.example"}))
    await here.ctx.passwords.close()


async def test_quoted_addresses_of_any_domain(here: World) -> None:
    await _registers(here, '"a..b"@mail.example', frozenset())


async def test_right_credentials_use_up_no_budget_of_guesses(here: World) -> None:
    limit = 10 * here.ctx.settings.site.budgets.login_failures_per_hour
    who = await here.join("yokokou")
    link_id = await here.link("yokokou", "hanako@docomo.ne.jp")
    form = {"login_id": who.login_id, "password": who.password}
    for number in range(limit + 5):
        now = here.now + number * 1000  # below the limit of forms a minute
        begun = await journeys.begin(here.ctx, who.society, Start.WEB_FORM, link_id, form, NETWORK, now)
        assert isinstance(begun, Begun), number


async def test_a_flood_of_web_entries_leaves_the_blank_mails_their_budget(here: World) -> None:
    society, cap = here.society("yokokou"), here.ctx.settings.site.budgets.society_per_hour_min
    for number in range(cap + 1):
        network = f"203.0.{number // 100}.0/24"
        refused = await entry.request_invitation(here.ctx, society, f"v{number}@d.example", network, here.now)
        assert isinstance(refused, Refused) == (number == cap), number
    async with here.ctx.store.begin() as tx:
        assert [row.kind for row in await alarms(tx)] == ["budget-society"]
        assert await hit(tx, [Hit("yokokou", "society", "", Limits(hour=1))], here.now) == [True]
