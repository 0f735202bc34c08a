"""A DNS that knows what `tests/corpus/spoofed/zone.toml` says, without a server."""

from __future__ import annotations

import tomllib
from functools import cache

import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.TXT import TXT

from mailbot.config.site import AuthenticationSection, DnsSection, Site
from mailbot.dns import Answer, LookupFailed, Resolver
from mailbot.intake.authentication import Authenticator
from tests.support.corpus import CORPUS


@cache
def zone() -> dict[str, str]:
    """TXT records by name, lower-case; SERVFAIL stands for a fault."""
    return tomllib.loads((CORPUS / "spoofed" / "zone.toml").read_text("utf-8"))


class ZoneResolver(Resolver):
    """Answers from the zone; what is not there is not there."""

    def __init__(self) -> None:
        super().__init__(DnsSection(servers=("127.0.0.1:9",)))

    def ask(self, name: str, kind: str, seconds: float) -> Answer:
        text = zone().get(name.lower().rstrip("."), "")
        if text == "SERVFAIL":
            raise LookupFailed(f"{kind} {name}")
        if not text or kind != "TXT":
            return ()
        pieces = [text[at : at + 255].encode("ascii") for at in range(0, len(text), 255)]
        return (TXT(dns.rdataclass.IN, dns.rdatatype.TXT, pieces),)


def authenticator(**section: object) -> Authenticator:
    """One that asks this zone; the keyword arguments are keys of `[authentication]`."""
    return Authenticator(Site(authentication=AuthenticationSection.model_validate(section)), ZoneResolver())
