"""SPF (RFC 7208): may this address send for the domain of MAIL FROM? The rules are pyspf's, the questions ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import spf

from mailbot.dns import LookupFailed, Lookups
from mailbot.mail.authentication import Result

MOST_RECORD, MOST_TERM = 2048, 300
"""Octets of a record and of one term. Large senders publish up to 1,500, and no name has more than 253 (RFC 1035
section 2.3.4); pyspf takes quadratic time for a term, and all other threads wait meanwhile."""


class Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """pyspf keeps its resolver in a global and follows CNAMEs itself; here every question goes to `ask(name, type)`.

    It gives values as pyspf has them: TXT as a tuple of octets, MX as (preference, host), hosts without final dot. May
    raise LookupFailed.
    """

    def __init__(self, ask: Callable[[str, str], list[Any]], **facts: Any) -> None:
        super().__init__(**facts)
        self._ask = ask

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        try:
            found = self._ask(str(name), qtype) if name else []
        except LookupFailed as failed:
            raise spf.TempError(str(failed)) from failed
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:  # RFC 7208 section 4.6.4
                raise spf.PermError("it mentions too many names that are not there")
        return found

    def get_explanation(self, spec: str) -> None:
        """Nobody reads it."""


def _asked(lookups: Lookups, name: str, qtype: str) -> list[Any]:
    """Values as pyspf wants them."""
    match qtype:
        case "TXT":
            return [(_readable(text),) for text in lookups.txt(name)]
        case "MX":
            return list(lookups.mx(name))
        case "PTR":
            return [record.target.to_text(omit_final_dot=True) for record in lookups.records(name, "PTR")]
        case _:
            return [record.address for record in lookups.records(name, qtype)]


def _readable(text: bytes) -> bytes:
    """Raises PermError for a record that only costs time."""
    if text[:6].lower() == b"v=spf1" and (len(text) > MOST_RECORD or max(map(len, text.split(b" "))) > MOST_TERM):
        raise spf.PermError("it is too long")
    return text


def check(lookups: Lookups, peer: str, sender: str, helo: str) -> Result:
    """`sender` is '' for the null reverse-path: then it is about `helo` (RFC 7208 section 2.4). Never raises."""
    try:
        result, _, _ = Query(partial(_asked, lookups), i=peer, s=sender, h=helo).check()
        return Result(result)
    except Exception:  # hostile records reach corners of pyspf that nobody has seen
        return Result.PERMERROR
