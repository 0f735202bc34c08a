"""What a member may see and change: login ID, nickname, addresses, wanted mails, disclosure."""

from __future__ import annotations

from collections.abc import Mapping

from mailbot.config import Society

from .context import Context
from .outcomes import ProfileView, Refused, Updated


async def view(ctx: Context, society: Society, member_id: int, now: int) -> ProfileView:
    """The profile page's facts. Raises LookupError when the member is gone."""
    raise NotImplementedError


async def update(
    ctx: Context, society: Society, member_id: int, form: Mapping[str, str], network: str, now: int
) -> Updated | Refused:
    """Saves the whole form: login_id, nickname, address_1 … address_3, `wanted.<id>` (present when ticked),
    `disclosure.<id>` ("yes" to show), and password (the current one) where login ID or an address changes.

    A new address is mailed a link and counts once that was followed; emptying address_2 or address_3 removes it at once.
    """
    raise NotImplementedError


async def prove_address(ctx: Context, society: Society, link_id: int, now: int) -> bool:
    """POST behind an address-proof link: the address counts from now, the others are told. False: link not live."""
    raise NotImplementedError
