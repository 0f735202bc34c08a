"""Changing the password when logged in (ALL-9)."""

from __future__ import annotations

from mailbot.config import Society

from .context import Context
from .outcomes import Changed, Refused


async def change(
    ctx: Context, society: Society, member_id: int, old: str, new: str, again: str, session_token: str, now: int
) -> Changed | Refused:
    """Ends the member's other sessions; this one goes on under a new token, with scope `member`.

    Complaints name the fields old, new, again.
    """
    raise NotImplementedError
