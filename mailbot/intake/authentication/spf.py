"""SPF (RFC 7208) of MAIL FROM, by pyspf."""

from __future__ import annotations

import threading
from typing import Any

import spf

from mailbot.dns import LookupFailed, Lookups
from mailbot.mail.address import Address
from mailbot.mail.authentication import Result

SECONDS = 6
"""RFC 7208 section 4.6.4 allows 20; a sender's server waits for our answer."""

_thread = threading.local()


def _asked(name: str, kind: str, _tcp: object = True, _timeout: object = 0) -> list[tuple[tuple[str, str], Any]]:
    """What pyspf asks its DNS for: the mail of this thread pays for it."""
    lookups: Lookups = _thread.lookups
    try:
        records = lookups.records(name, kind)
    except LookupFailed as error:
        raise spf.TempError(str(error)) from error
    value = {
        "A": lambda r: r.address,
        "AAAA": lambda r: r.address,
        "MX": lambda r: (r.preference, r.exchange.to_text(omit_final_dot=True)),
        "PTR": lambda r: r.target.to_text(omit_final_dot=True),
    }.get(kind, lambda r: r.strings)
    return [((name, kind), value(record)) for record in records]


spf.DNSLookup = _asked


def check(lookups: Lookups, peer: str, helo: str, sender: Address | None) -> Result:
    """The result for a null sender is that of its HELO name (RFC 7208 section 2.4). Never raises."""
    _thread.lookups = lookups
    try:
        result, _ = spf.check2(  # type: ignore[no-untyped-call]  # pyspf has no types
            i=peer, s=sender.text if sender else "", h=helo or "unknown", timeout=SECONDS, querytime=SECONDS
        )
        return Result(result)
    except Exception:  # a record made to break its reader says nothing about anybody
        return Result.TEMPERROR if lookups.failed else Result.PERMERROR
    finally:
        del _thread.lookups
