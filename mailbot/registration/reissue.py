"""A forgotten login ID or password: address in, one mail an account out, a new password at the end."""

from __future__ import annotations

from collections.abc import Mapping

from mailbot.config import Society
from mailbot.credentials import LinkState

from .context import Context
from .outcomes import Begun, Refused, ReissuePage


async def request(ctx: Context, society: Society, typed_address: str, network: str, now: int) -> None | Refused:
    """Notes the wish. Known and unknown addresses cost the same statements; accounts are looked up by the timetable.

    Refused: field `address` when it is no address, 429 over the network's budget.
    """
    raise NotImplementedError


async def first_page(ctx: Context, society: Society, link_id: int, now: int) -> ReissuePage | LinkState:
    """What the link's page asks for; reads only."""
    raise NotImplementedError


async def begin(
    ctx: Context, society: Society, link_id: int, form: Mapping[str, str], network: str, now: int
) -> Begun | Refused | LinkState:
    """POST of the temporary login (login_id, temporary_password) where the mail carried a temporary password."""
    raise NotImplementedError


async def finish(
    ctx: Context, society: Society, link_id: int, proof: str | None, new: str, again: str, now: int
) -> None | Refused | LinkState:
    """Sets the password (form fields password, password_again), ends all sessions, tells all addresses; no login.

    `proof` is needed only where the page asked for the temporary password; LinkState.UNKNOWN when it does not fit.
    """
    raise NotImplementedError
