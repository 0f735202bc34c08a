"""Authentication-Results (RFC 8601): what a server that took a mail over for us wrote about its sender. Pure.

Anybody can write such a field. It counts only where it is the topmost of the server we were told to believe, and stands
where that server must have put it; of a server whose milters write one each, the next ones too. What it says is never
taken on trust for another address than the mail's own: each result comes with the domain it is about.

Profiles: `rfc8601`, what the standard says; `gmail`, the same with Google's own hosts; `m365`, Microsoft's, which
leaves out the name of the server: there it is the domain of the hosts that take mail from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mailbot.mail.authentication import Result
from mailbot.mail.fields import header_block, split, unfold, without_comments
from mailbot.mail.organization import organization_of

Profile = Literal["rfc8601", "gmail", "m365"]
MOST_RESULTS = 50
_ID = re.compile(r"\s*([^\s;=]+)\s*(?:1\s*)?(?:;|\Z)").match
_METHOD = re.compile(r"\s*([a-z][a-z0-9-]*)(?:\s*/\s*1)?\s*=\s*([a-z]+)(?=\s|\Z)", re.IGNORECASE).match
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_CLOSED = re.compile(rf'(?:[^"]++|{_QUOTED})*+', re.DOTALL).fullmatch
_PARTS = re.compile(rf'(?:[^;"]|{_QUOTED})++').findall
# Quoted text of anything else is taken as a whole: a sender may have chosen it.
_PROPERTY = re.compile(rf"(?<!\S)(?:([a-z]+)\.([a-z0-9_-]+)=|[^\s\"=]*=?)({_QUOTED}\S*|[^\s\"]\S*)", re.IGNORECASE)
_BY = re.compile(r"(?:^|\s)by\s+([^\s;()]+)", re.IGNORECASE).search


@dataclass(frozen=True, slots=True)
class Stated:
    """One result. `domain`: what it is about, in lower case: of MAIL FROM for spf, the signer's for dkim, of From for
    dmarc; empty where that is not said."""

    method: str
    result: str
    domain: str


def believed(content: bytes, authserv_id: str, profile: Profile, *, several: bool = False) -> tuple[Stated, ...] | None:
    """What the server `authserv_id` wrote; None where it wrote nothing, or it cannot have been the one who did.
    `several`: it is a server of ours, whose milters may each write a field (RFC 8601 section 2.1), and which takes out
    what came with the mail."""
    fields = [(name.lower(), value) for name, value in split(header_block(content))]
    for place, (name, raw) in enumerate(fields):
        if name != b"authentication-results":
            continue
        text = unfold(raw).decode("latin-1")
        value = without_comments(text)
        if value is None or not _CLOSED(value):
            # Unclosed, by what the sender had the server quote. Below its own field nothing is the server's.
            if profile == "m365" or _named(text.partition("(")[0] + ";") == authserv_id.lower():
                return None
            continue
        if profile == "m365":
            return _stated(value) if not _named(value) and _microsoft(fields, place, authserv_id) else None
        if _named(value) == authserv_id.lower():
            if not _ours_above(fields[:place], authserv_id, profile):
                return None
            found = _stated(value.partition(";")[2])
            return _more(found, fields, place + 1, authserv_id, profile) if several else found
    return None


def _more(
    found: tuple[Stated, ...],
    fields: Sequence[tuple[bytes, bytes]],
    start: int,
    authserv_id: str,
    profile: Profile,
) -> tuple[Stated, ...]:
    """With what further fields of the same server say of other methods, down to the first hop that is not its own."""
    for place, (name, raw) in enumerate(fields[start:], start):
        if name == b"received" and not _ours_above(fields[place : place + 1], authserv_id, profile):
            break
        if name != b"authentication-results":
            continue
        value = without_comments(unfold(raw).decode("latin-1"))
        if value is None or not _CLOSED(value):
            break  # below what cannot be read nothing is the server's
        if _named(value) == authserv_id.lower():
            methods = {one.method for one in found}
            found += tuple(one for one in _stated(value.partition(";")[2]) if one.method not in methods)
    return found


def _named(value: str) -> str:
    """The authserv-id (section 2.5); empty where the field begins with a result."""
    found = _ID(value)
    return found[1].lower().strip('"') if found else ""


def _hops(fields: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Who wrote each Received field."""
    values = (without_comments(unfold(value).decode("latin-1")) or "" for name, value in fields if name == b"received")
    return [found[1].lower() if (found := _BY(value)) else "" for value in values]


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _ours_above(above: Sequence[tuple[bytes, bytes]], authserv_id: str, profile: Profile) -> bool:
    """A server puts its fields on top: above its own there is only what its own house added (section 4.1)."""
    if profile == "gmail":
        return all(_within(host, "google.com") or host.startswith("2002:a") for host in _hops(above))
    name = authserv_id.lower()
    house = name if name == organization_of(name) else name.partition(".")[2]  # or.jp is nobody's house
    return all(_within(host, name) or _within(host, house) for host in _hops(above))


def _microsoft(fields: Sequence[tuple[bytes, bytes]], place: int, outside: str) -> bool:
    """The field stands directly above the Received field of Microsoft's outermost server."""
    above, below = _hops(fields[:place]), _hops(fields[place:])
    inside = all(_within(host, "outlook.com") or _within(host, "office365.com") for host in above)
    first = not any(_within(host, outside.lower()) for host in above)  # else it came with the mail
    return inside and first and bool(below) and _within(below[0], outside.lower())


def _stated(value: str) -> tuple[Stated, ...]:
    found = []
    for part in _PARTS(value)[:MOST_RESULTS]:
        method = _METHOD(part)
        if method is None:
            continue
        properties: dict[str, str] = {}
        for space, name, text in _PROPERTY.findall(part):
            properties.setdefault(f"{space}.{name}".lower(), text)
        kind = method[1].lower()
        found.append(Stated(kind, method[2].lower(), _domain(_ABOUT.get(kind, ()), properties)))
    return tuple(found)


_ABOUT = {
    "spf": ("smtp.mailfrom",),
    "dkim": ("header.d", "header.i"),
    "dmarc": ("header.from",),
}


def _domain(names: Sequence[str], properties: dict[str, str]) -> str:
    text = next((properties[name] for name in names if name in properties), "")
    return text.rpartition("@")[2].strip('"<>').lower().removesuffix(".")


def result_of(stated: Stated) -> Result:
    """A result's word as ours. What is not among RFC 8601 section 2.7's, such as `bestguesspass`, proves nothing;
    neither does a look-up that failed: the word will not change when the mail comes again."""
    if stated.result == "hardfail":
        return Result.FAIL
    try:
        result = Result(stated.result)
    except ValueError:
        return Result.NONE
    return Result.NONE if result is Result.TEMPERROR else result
