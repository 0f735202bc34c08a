"""Web entry: a mail address in, the invitation out (YK-8, SC-1)."""

from __future__ import annotations

from mailbot.config import Society

from .context import Context
from .outcomes import Refused


async def request_invitation(
    ctx: Context, society: Society, typed_address: str, network: str, now: int
) -> None | Refused:
    """Mails the one-time link to the typed address. The answer is the same whether the address is known or not.

    Refused: field `address` with what is wrong with it, or 429 over a budget of the network or the address.
    """
    raise NotImplementedError
