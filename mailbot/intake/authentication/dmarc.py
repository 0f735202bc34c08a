"""DMARC (RFC 9989): which domains may vouch for an author, as the author's own domain has it.

The organizational domain is found by walking up the DNS (section 4.10), not by a list of public suffixes. What a policy
asks receivers to do with failures (p, sp, np, t) is not looked at: nobody asks for an automatic answer to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from mailbot.dns import LookupFailed

Txt = Callable[[str], Sequence[bytes]]
"""TXT records of a name; raises LookupFailed."""

MOST_LABELS = 8
_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)").match
_POLICIES = frozenset({"none", "quarantine", "reject"})
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[^\s,!]", re.IGNORECASE).match


class Aligned(Enum):
    """Whether a domain vouches for the author's. UNKNOWN: the DNS did not say."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC record: the domain it stands at, its tags by names in lower case."""

    domain: str
    tags: Mapping[str, str]

    @property
    def psd(self) -> str:
        return self.tags.get("psd", "u").lower()

    @property
    def usable(self) -> bool:
        """Section 4.10.1: a broken policy counts as p=none where somebody wants reports, else as no record."""
        given = [self.tags[name].lower() for name in ("p", "sp", "np") if name in self.tags]
        if "p" in self.tags and _POLICIES.issuperset(given):
            return True
        return any(_URI(one.strip()) for one in self.tags.get("rua", "").split(","))

    def strict(self, tag: str) -> bool:
        """Of `adkim` or `aspf`: whether the domains must be the same."""
        return self.tags.get(tag, "r").lower() == "s"


def parse(domain: str, texts: Collection[bytes]) -> Record | None:
    """The record among the TXT records of `_dmarc.domain`; None where there is none, or more than one."""
    found = [text for raw in texts if _VERSION(text := raw.decode("latin-1"))]
    if len(found) != 1:
        return None
    tags: dict[str, str] = {}
    for part in found[0].split(";"):
        name, _, value = part.partition("=")
        tags.setdefault(name.strip().lower(), value.strip())
    return Record(domain, tags)


def walk(domain: str, txt: Txt) -> list[Record]:
    """The records from `domain` upwards, to the one that says where the organization ends (section 4.10): at most eight
    questions. Raises LookupFailed."""
    labels = domain.split(".")
    above = labels[1:] if len(labels) < MOST_LABELS else labels[-(MOST_LABELS - 1) :]
    found: list[Record] = []
    for name in (domain, *(".".join(above[skip:]) for skip in range(len(above)))):
        if record := parse(name, txt(f"_dmarc.{name}")):
            found.append(record)
            if record.psd == "n" or (record.psd == "y" and name != domain):
                break
    return found


def organization(domain: str, records: Sequence[Record]) -> str:
    """The organizational domain, from the records of its walk (section 4.10.2)."""
    if not records:
        return domain
    last = records[-1]  # each stands above the one before: it has the fewest labels
    if last.psd == "y" and last.domain != domain:
        return ".".join(domain.split(".")[-(last.domain.count(".") + 2) :])
    return last.domain


class Author:
    """The domain of a From address. Asks the DNS when it is made, and later as it needs to."""

    def __init__(self, domain: str, txt: Txt) -> None:
        self.domain = domain
        self._txt = txt
        self._organizations: dict[str, str | None] = {}
        self.record: Record | None = None
        """What counts for this author (section 4.10.1); None where there is none, or nobody knows."""
        self.unknown = False
        """Whether the DNS gave no answer to that."""
        try:
            self.record = self._find()
        except LookupFailed:
            self.unknown = True

    def _find(self) -> Record | None:
        found = parse(self.domain, self._txt(f"_dmarc.{self.domain}"))
        if found is None:
            records = walk(self.domain, self._txt)
            own = organization(self.domain, records)
            at = {record.domain: record for record in records}
            found = at.get(own) or next((one for one in records if one.psd == "y"), None)
        return found if found is not None and found.usable else None

    def aligned(self, domain: str, mode: str) -> Aligned:
        """Whether `domain`, proved by SPF or DKIM, vouches for the author (section 4.4). `mode`: the tag that may ask
        for the very same domain."""
        domain = domain.lower().removesuffix(".")
        if domain == self.domain:
            return Aligned.YES
        if not self.may_align(domain) or (self.record is not None and self.record.strict(mode)):
            return Aligned.NO
        own, other = self._organization(self.domain), self._organization(domain)
        if own is None or other is None:
            return Aligned.UNKNOWN
        return Aligned.YES if own == other else Aligned.NO

    def may_align(self, domain: str) -> bool:
        """Whether it is worth a question: two domains of one organization lie below it. The name servers of any other
        domain must have no say, or a stranger's silence would look like a verdict that is still to come."""
        domain = domain.lower().removesuffix(".")
        if domain == self.domain:
            return True
        own = self._organization(self.domain)
        if own is None:
            return domain.rpartition(".")[2] == self.domain.rpartition(".")[2]
        return domain == own or domain.endswith(f".{own}")

    def _organization(self, domain: str) -> str | None:
        if domain not in self._organizations:
            try:
                self._organizations[domain] = organization(domain, walk(domain, self._txt))
            except LookupFailed:
                self._organizations[domain] = None
        return self._organizations[domain]
