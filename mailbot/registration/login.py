"""Login and sessions."""

from __future__ import annotations

from mailbot.config import Society

from .context import Context
from .outcomes import LoggedIn, MemberView, Refused


async def log_in(
    ctx: Context, society: Society, login_id: str, password: str, network: str, now: int
) -> LoggedIn | Refused:
    """One error text and one hash, whatever is wrong: unknown ID, wrong password, not registered yet, left, paused."""
    raise NotImplementedError


async def session(ctx: Context, society: Society, token: str, now: int) -> MemberView | None:
    """Whose session it is; refreshes its idle time (at most one write a minute). None when there is none any more."""
    raise NotImplementedError


async def log_out(ctx: Context, society: Society, token: str) -> None:
    """Ends the session, if there is one."""
    raise NotImplementedError
