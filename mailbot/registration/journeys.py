"""A registration from its link to its end: which step is next, who may take it, until when.

A journey row keeps the list of steps it began with. Its first step is a proof: passing it writes the row and binds it to
the browser by a random cookie, of which the row holds the SHA-256. Reading pages never writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailbot.config import Society, Start
from mailbot.credentials import LinkPurpose, LinkState

from .context import Context
from .outcomes import Begun, JourneyEnd, LinkView, Moved, Refused, StepPage


async def peek_link(ctx: Context, society: Society, purpose: LinkPurpose, link_id: int, now: int) -> LinkView:
    """The state of a link whose MAC fitted; reads only."""
    raise NotImplementedError


async def first_page(
    ctx: Context, society: Society, start: Start, link_id: int | None, now: int, journey: str | None = None
) -> StepPage | LinkState:
    """The proof step, before any row exists. With a link: LinkState when it is not LIVE (UNKNOWN also where the society
    has no such journey). `journey` chooses where several share a start; the file's first by default."""
    raise NotImplementedError


async def begin(
    ctx: Context,
    society: Society,
    start: Start,
    link_id: int | None,
    form: Mapping[str, str],
    network: str,
    now: int,
    journey: str | None = None,
) -> Begun | Refused | LinkState:
    """POST of the proof step. Form of `temporary-login`: login_id, password."""
    raise NotImplementedError


async def page(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> StepPage | JourneyEnd:
    """The current step, or why there is none. After the end the DONE facts show until the journey expires."""
    raise NotImplementedError


async def submit(
    ctx: Context,
    society: Society,
    journey_id: int,
    proof: str | None,
    step: str,
    form: Mapping[str, str],
    now: int,
) -> Moved | Refused | JourneyEnd:
    """POST of a later step. Form of `credentials`: login_id, password, password_again, address, nickname."""
    raise NotImplementedError


async def invite_family(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> bool:
    """Mails a fresh link to the address of a finished journey; False when it is not finished or over budget."""
    raise NotImplementedError
