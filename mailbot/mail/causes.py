"""Why a mail did not reach its mailbox: the same few causes, whether a relay, a report or a person says it."""

from enum import StrEnum


class Cause(StrEnum):
    """Stable: stored, counted and documented."""

    UNKNOWN_USER = "unknown-user"  # there is no such mailbox (any more)
    FULL = "full"
    FILTERED = "filtered"  # the member's own filter, such as a carrier's refusal list
    THROTTLED = "throttled"  # the receiving side wants less mail at the moment
    POLICY = "policy"  # content or reputation, never the address's fault
    OUR_FAULT = "our-fault"  # the sending side is misconfigured
    COMPLAINT = "complaint"  # the member called our mail spam
    OTHER = "other"
