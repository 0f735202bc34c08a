"""DMARC (RFC 9989): whether SPF or DKIM vouches for the domain in From.

The known library follows the older RFC 7489 and cuts domains at hyphens; what is needed here is small. A policy of
`none` makes no difference: it asks receivers to deliver what fails, and an automatic answer is something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mailbot.dns import LookupFailed, Lookups
from mailbot.mail.authentication import Result

WALK = 8
"""Most queries of one tree walk (RFC 9989 section 4.10)."""
_POLICIES = frozenset({"none", "quarantine", "reject"})


@dataclass(frozen=True, slots=True)
class Record:
    """A valid policy record. Only what alignment needs."""

    domain: str
    psd: str = "u"
    strict_dkim: bool = False
    strict_spf: bool = False


def parse(domain: str, text: bytes) -> Record | None:
    """One TXT string as a record; None for what is none (RFC 9989 section 4.7)."""
    try:
        parts = [part.strip() for part in text.decode("ascii").split(";")]
    except UnicodeDecodeError:
        return None
    tags: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    first = parts[0].partition("=")
    if first[0].strip() != "v" or first[2].strip() != "DMARC1":  # section 4.7: first, and case-sensitive
        return None
    if tags.get("p", "").lower() not in _POLICIES and not tags.get("rua"):
        return None  # section 4.7: a broken policy still counts (as none) where reports are wanted
    return Record(
        domain,
        tags.get("psd", "u").lower(),
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
    )


def is_below(domain: str, above: str) -> bool:
    """Whether `domain` is `above` or lies under it."""
    return domain == above or domain.endswith("." + above)


@dataclass
class Dmarc:
    """One message's questions; what was found is remembered."""

    lookups: Lookups
    _records: dict[str, Record | None] = field(default_factory=dict)

    def record(self, domain: str) -> Record | None:
        """The one valid record at `_dmarc.<domain>`; several are none (section 4.10). Raises LookupFailed."""
        if domain not in self._records:
            found = [text for text in self.lookups.txt(f"_dmarc.{domain}") if text.lstrip().startswith(b"v=DMARC1")]
            self._records[domain] = parse(domain, found[0]) if len(found) == 1 else None
        return self._records[domain]

    def walk(self, domain: str) -> list[Record]:
        """Valid records from the domain upwards, longest first (section 4.10). Raises LookupFailed."""
        labels = domain.split(".")
        places = [labels, *(labels[at:] for at in range(max(1, len(labels) - WALK + 1), len(labels)))]
        found = []
        for place in places[:WALK]:
            record = self.record(".".join(place))
            if record is not None:
                found.append(record)
                if record.psd in ("y", "n"):
                    break
        return found

    def organization(self, domain: str) -> str:
        """The organizational domain (section 4.10.2). Raises LookupFailed."""
        found = self.walk(domain)
        for record in found:
            if record.psd == "n":
                return record.domain
            if record.psd == "y" and record.domain != domain:
                return ".".join(domain.split(".")[-len(record.domain.split(".")) - 1 :])
        return found[-1].domain if found else domain

    def policy(self, author: str) -> Record | None:
        """The record that governs a From domain (section 4.10.1). Raises LookupFailed."""
        record = self.record(author)
        if record is not None:
            return record
        found = self.walk(author)
        organization = self.organization(author)
        # that of the organization, else that of the public suffix above it
        return next((one for one in found if one.domain == organization), None) or (found[-1] if found else None)

    def aligned(self, author: str, other: str, *, strict: bool) -> bool:
        """Section 4.4. Raises LookupFailed."""
        if author == other or strict:
            return author == other
        return self.organization(author) == self.organization(other)


def evaluate(
    lookups: Lookups,
    author: str,
    spf: tuple[str, Result],
    signed: Iterable[tuple[str, Result]],
    *,
    complete: bool = True,
) -> tuple[Result, Result]:
    """(DMARC's result, DKIM's where aligned with the From domain `author`).

    `spf`: domain of MAIL FROM and its result. `signed`: d= and result of each signature, taken one by one. `complete`:
    False where SPF could not be asked at all; then nothing can be told to have failed. Never raises.
    """
    dmarc = Dmarc(lookups)
    try:
        policy = dmarc.policy(author)
    except LookupFailed:
        return Result.TEMPERROR, _plainly(author, signed)
    if policy is None:
        return Result.NONE, _plainly(author, signed)
    unsure = spf[1] is Result.TEMPERROR
    best = Result.NONE
    try:
        if spf[1] is Result.PASS and dmarc.aligned(author, spf[0], strict=policy.strict_spf):
            return Result.PASS, Result.NONE
        for domain, result in signed:
            if result in (Result.PASS, Result.TEMPERROR) and dmarc.aligned(author, domain, strict=policy.strict_dkim):
                if result is Result.PASS:
                    return Result.PASS, Result.PASS
                best = result
    except LookupFailed:
        return Result.TEMPERROR, best
    if unsure or best is Result.TEMPERROR:
        return Result.TEMPERROR, best
    return Result.FAIL if complete else Result.NONE, best


def _plainly(author: str, signed: Iterable[tuple[str, Result]]) -> Result:
    """DKIM without a policy to say what is aligned: the same domain, or one above it, vouches."""
    best = Result.NONE
    for domain, result in signed:
        if is_below(author, domain) and "." in domain:
            if result is Result.PASS:
                return result
            best = result if result is Result.TEMPERROR else best
    return best
