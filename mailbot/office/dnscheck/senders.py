"""The three records by which receivers know our mail: SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 9989)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailbot.mail.dkim import Key, dns_record
from mailbot.office.dnscheck.finding import Finding, Mark, mend, note, ok
from mailbot.office.dnscheck.questions import Dns, spf_result
from mailbot.office.dnscheck.records import Record

_SPF = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_STRANGERS = ("240.0.0.1", "100::1")
"""Nobody's machines (RFC 1112 section 4, RFC 6666): who lets them send lets everybody send."""
_SEPARATORS = re.compile(r'[\s;,"]+')
_PARENTS = 8
"""How far up a DMARC record is looked for."""

WHY_SPF = "docomo and au refuse or hide mail of a domain without SPF"
WHY_DKIM = "the signature is what Gmail and the carriers know our mail by"
WHY_DMARC = (
    "docomo shows its members a yellow bar over such mail and asks before it opens a link; Gmail wants DMARC from 5,000"
    " mails a day on"
)


def spf(dns: Dns, domain: str, role: str, addresses: Sequence[str], helo: str, *, greeting: bool = False) -> Finding:
    """Does the record of `domain` let mail from our addresses through? `greeting`: the domain is the HELO name."""
    what = f"SPF {domain}"

    def judge(asked: Dns, address: str) -> tuple[str, str]:
        return spf_result(asked, address, "" if greeting else f"postmaster@{domain}", domain if greeting else helo)

    def amiss(words: str, records: Sequence[str], say: Callable[..., Finding] = mend) -> Finding:
        made = _covering(dns, domain, records, addresses, judge)
        if isinstance(made, Record):
            return say(what, f"{role}: {words}", made)
        by_hand = f"with all of its senders it would still be broken ({made}): take out those you no longer use"
        return say(what, f"{role}: {words}; {by_hand}")

    texts = dns.ask(f"{domain}.", "TXT")
    found = [text for text in texts if _SPF.match(text)]
    if not found:
        if nearly := [text for text in texts if "spf1" in text.lower()]:
            words = f"{nearly[0]!r} is not an SPF record, it must begin with v=spf1 and a space"
            return amiss(words, [_SEPARATORS.sub(" ", re.split("spf1", nearly[0], flags=re.IGNORECASE)[1])])
        fresh = Record(f"{domain}.", "TXT", " ".join(["v=spf1", *(_terms(addresses) or ["mx"]), "-all"]))
        if greeting:
            return note(what, f"{role}: no record; bounces, which have no sender, are judged by it", fresh)
        return mend(what, f"{role}: no record; {WHY_SPF}", fresh)
    records = [text.partition(" ")[2] for text in found]
    if len(found) > 1:
        return amiss(f"{len(found)} SPF records, so receivers take none (RFC 7208 section 4.5): keep one", records)
    uncovered = []
    for address in addresses or _STRANGERS:
        result, words = judge(dns, address)
        if result == "permerror":
            return amiss(f"{found[0]!r} is broken: {words}", records)
        if result == "temperror":
            return mend(what, f"{role}: a name that {found[0]!r} mentions cannot be looked up: {words}")
        if result != "pass" and addresses:
            uncovered.append(address)
    if uncovered:
        return amiss(f"{found[0]!r} does not let {', '.join(uncovered)} send; {WHY_SPF}", records)
    strangers = {judge(dns, address)[0] for address in _STRANGERS}
    if "pass" in strangers:
        return amiss(f"{found[0]!r} lets everybody send in your name", records)
    if not addresses:
        return note(what, f"{role}: {found[0]!r}; give --address to see whether it covers our mail")
    covers = f"covers {', '.join(addresses)}"
    if not strangers <= {"fail", "softfail"}:
        words = f"{covers}; it does not end with -all or ~all, so it says nothing about forged mail"
        return amiss(words, records, note)
    return ok(what, f"{role}: {covers}")


def _terms(addresses: Sequence[str]) -> list[str]:
    return [f"ip{6 if ':' in address else 4}:{address}" for address in addresses]


@dataclass(frozen=True)
class _Instead:
    """The DNS with one SPF record as it would be."""

    dns: Dns
    record: Record

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        own = (name.removesuffix(".").lower(), kind) == (self.record.name.removesuffix(".").lower(), self.record.type)
        return (self.record.value,) if own else self.dns.ask(name, kind)


def _covering(
    dns: Dns,
    domain: str,
    records: Sequence[str],
    addresses: Sequence[str],
    judge: Callable[[Dns, str], tuple[str, str]],
) -> Record | str:
    """One record with every sender that these (without their v=spf1) let in, and with our addresses; why not, where
    that would be broken, too. What nobody can read goes, and what lets strangers in."""

    def record(*terms: str) -> Record:
        return Record(f"{domain}.", "TXT", " ".join(["v=spf1", *terms]))

    def verdicts(*terms: str) -> dict[str, str]:
        """Verdict -> words, of strangers."""
        asked = _Instead(dns, record(*terms))
        return dict(judge(asked, stranger) for stranger in _STRANGERS)

    kept: dict[str, None] = {}
    ends = set()
    for term in (term for text in records for term in text.split()):
        # a redirect takes effect only where no `all` stands, and two explanations break a record
        plain = re.sub("^redirect=", "include:", term, flags=re.IGNORECASE)
        if plain.lower() in ("~all", "-all"):
            ends.add(plain.lower())
        elif not plain.lower().startswith(("exp=", "?all")) and not verdicts(plain).keys() & {"pass", "permerror"}:
            kept[plain] = None
        if plain != term:
            ends.add("-all")
    last = "-all" if ends == {"-all"} else "~all"
    before = _Instead(dns, record(*kept, last))
    missing = [address for address in addresses if judge(before, address)[0] != "pass"]
    terms = (*(_terms(missing) if addresses or kept else ["mx"]), *kept, last)
    said = verdicts(*terms)
    return said["permerror"] if "permerror" in said else record(*terms)


def tags(text: str) -> dict[str, str]:
    """`a=b; c=d` (RFC 6376 section 3.2). Raises ValueError, in words."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals:
            if part.strip():
                raise ValueError(f"{part.strip()!r} is not name=value")
            continue
        if name in found:
            raise ValueError(f"{name}= stands there twice")
        found[name] = value.strip()
    return found


def dkim(dns: Dns, domain: str, selector: str, key: Key, *, signs: bool) -> Finding:
    """Is the published key ours? One that does not sign, yet or any more, may be missing."""
    found = _dkim(dns, domain, selector, key)
    if signs:
        return found
    mark = Mark.NOTE if found.mark is Mark.MEND else found.mark
    return replace(found, mark=mark, words=f"this key does not sign (yet, or any more): {found.words}")


def _dkim(dns: Dns, domain: str, selector: str, key: Key) -> Finding:
    record = Record(f"{selector}._domainkey.{domain}.", "TXT", dns_record(key))
    what = f"DKIM {selector}._domainkey.{domain}"
    texts = dns.ask(record.name, "TXT")
    if not texts:
        alias = dns.ask(record.name, "CNAME")
        lost = f"it points to {alias[0].removesuffix('.')}, where no text is" if alias else "no record"
        return mend(what, f"{lost}: our signature cannot be verified; {WHY_DKIM}", record)
    if len(texts) > 1:
        return mend(what, f"{len(texts)} records under one name: receivers may take the wrong one; keep ours", record)
    try:
        found = tags(texts[0])
    except ValueError as error:
        return mend(what, f"not a DKIM record: {error}", record)
    if wrong := _wrong_key(found, tags(record.value)):
        return mend(what, wrong, record)
    if "y" in found.get("t", "").split(":"):
        return note(what, "our key, marked as a test (t=y): receivers may ignore the signature", record)
    return ok(what, "our key")


def _wrong_key(found: dict[str, str], ours: dict[str, str]) -> str:
    """What is wrong with a key record, in words; '' when nothing is."""
    if found.get("v", "DKIM1") != "DKIM1" or ("v" in found and next(iter(found)) != "v"):
        return "v=DKIM1 must stand first"
    if "p" not in found:
        return "p= (the key) is missing"
    if not found["p"]:
        return "p= is empty, which means the key is revoked"
    if found.get("k", "rsa") != ours["k"]:
        return f"k={found.get('k', 'rsa')}, but this key is {ours['k']}"
    if "h" in found and "sha256" not in [name.strip() for name in found["h"].split(":")]:
        return f"h={found['h']} forbids sha256, which we sign with"
    if not {"*", "email"} & {name.strip() for name in found.get("s", "*").split(":")}:
        return f"s={found['s']} forbids mail"
    published, expected = "".join(found["p"].split()), ours["p"]
    if published == expected:
        return ""
    if published and expected.startswith(published):
        return f"the key is cut off: {len(published)} of {len(expected)} characters"
    try:
        base64.b64decode(published, validate=True)
    except binascii.Error:
        return "the key is garbled: it is not base64"
    return "another key than the one we sign with"


_POLICIES = ("none", "quarantine", "reject")  # the weakest first
_TAG = re.compile(r"([a-z]+)\s*=\s*([^;\s,]+(?:\s*,\s*[^;\s,]+)*)", re.IGNORECASE)
_DMARC_TAGS = frozenset({"rua", "ruf", "adkim", "aspf", "fo", "psd", "t"})


def _mended(texts: Sequence[str]) -> str:
    """One DMARC record with all that can be read in these, and of several policies the strictest."""
    policies: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in ((name.lower(), value) for text in texts for name, value in _TAG.findall(text)):
        if name in ("p", "sp", "np") and value.lower() in _POLICIES:
            policies[name] = max(policies.get(name, "none"), value.lower(), key=_POLICIES.index)
        elif name in _DMARC_TAGS:
            others.setdefault(name, value)
    tags_ = {"p": "none", **policies, **others}
    return "; ".join(["v=DMARC1", *(f"{name}={value}" for name, value in tags_.items())])


def dmarc(dns: Dns, domain: str) -> Finding:
    """Is there a policy for this sender domain, at it or above (RFC 9989 section 4.10)?"""
    what = f"DMARC {domain}"
    asked, stray = domain, ""
    for _ in range(_PARENTS):
        texts = dns.ask(f"_dmarc.{asked}.", "TXT")
        found = [text for text in texts if text.replace(" ", "").lower().startswith("v=dmarc1")]
        stray = stray or next(iter(texts), "")
        if found or asked.count(".") < 2:
            break
        asked = asked.partition(".")[2]
    record = Record(f"_dmarc.{asked if found else domain}.", "TXT", _mended(found))
    if not found:
        words = f"{stray!r} is not a DMARC record, it must begin with v=DMARC1" if stray else "no record"
        return mend(what, f"{words}; {WHY_DMARC}", record)
    if len(found) > 1:
        return mend(what, f"{len(found)} DMARC records, so receivers take none: keep one", record)
    try:
        policy = tags(found[0])
    except ValueError as error:
        return mend(what, f"{found[0]!r} is broken: {error}; {WHY_DMARC}", record)
    if policy.get("v") != "DMARC1":
        return mend(what, f"{found[0]!r} must begin with v=DMARC1, in capitals", record)
    for name in ("p", "sp"):
        if name in policy and policy[name].lower() not in _POLICIES:
            return mend(what, f"{name}={policy[name]} is none of none, quarantine, reject; {WHY_DMARC}", record)
    if "p" not in policy:
        return mend(what, f"p= (what to do with forged mail) is missing; {WHY_DMARC}", record)
    asks = policy["p"] if asked == domain else policy.get("sp", policy["p"])
    where = "" if asked == domain else f" (the record of {asked})"
    if asks.lower() == "none":
        return ok(what, f"p=none{where}: forged mail is only reported; go on to reject once the reports are clean")
    return ok(what, f"p={asks}{where}")
