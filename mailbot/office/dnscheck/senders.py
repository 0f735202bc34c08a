"""The three records by which receivers know our mail: SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 9989)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace

from mailbot.mail.dkim import Key, dns_record
from mailbot.office.dnscheck.finding import Finding, Mark, mend, note, ok
from mailbot.office.dnscheck.questions import Dns, spf_result
from mailbot.office.dnscheck.records import Record

_SPF = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_STRANGER = "240.0.0.1"
"""Reserved: nobody's machine (RFC 1112 section 4), so who lets it send lets everybody send."""
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
    texts = dns.ask(f"{domain}.", "TXT")
    found = [text for text in texts if _SPF.match(text)]
    if not found:
        nearly = [text for text in texts if "spf1" in text.lower()]
        words = f"{role}: no record; {WHY_SPF}"
        if nearly:
            words = f"{role}: {nearly[0]!r} is not an SPF record, it must begin with v=spf1 and a space"
        if greeting and not nearly:
            return note(what, f"{role}: no record; bounces, which have no sender, are judged by it",
                        _fresh(domain, addresses))  # fmt: skip
        return mend(what, words, _fresh(domain, addresses))
    if len(found) > 1:
        words = f"{role}: {len(found)} SPF records, so receivers take none (RFC 7208 section 4.5): keep one"
        return mend(what, words, _covering(domain, found, addresses))
    sender = "" if greeting else f"postmaster@{domain}"
    uncovered = []
    for address in addresses or (_STRANGER,):
        result, words = spf_result(dns, address, sender, domain if greeting else helo)
        if result == "permerror":
            return mend(what, f"{role}: {found[0]!r} is broken: {words}", _fresh(domain, addresses))
        if result == "temperror":
            return mend(what, f"{role}: a name that {found[0]!r} mentions cannot be looked up: {words}")
        if result != "pass" and addresses:
            uncovered.append(address)
    if uncovered:
        words = f"{role}: {found[0]!r} does not let {', '.join(uncovered)} send; {WHY_SPF}"
        return mend(what, words, _covering(domain, found, uncovered))
    stranger = spf_result(dns, _STRANGER, sender, domain if greeting else helo)[0]
    if stranger == "pass":
        return mend(what, f"{role}: {found[0]!r} lets everybody send in your name", _fresh(domain, addresses))
    if not addresses:
        return note(what, f"{role}: {found[0]!r}; give --address to see whether it covers our mail")
    covers = f"{role}: covers {', '.join(addresses)}"
    if stranger not in ("fail", "softfail"):
        return note(what, f"{covers}; it does not end with -all or ~all, so it says nothing about forged mail",
                    _covering(domain, found, ()))  # fmt: skip
    return ok(what, covers)


def _terms(addresses: Sequence[str]) -> list[str]:
    return [f"ip{6 if ':' in address else 4}:{address}" for address in addresses]


def _fresh(domain: str, addresses: Sequence[str]) -> Record:
    return Record(f"{domain}.", "TXT", " ".join(["v=spf1", *(_terms(addresses) or ["mx"]), "-all"]))


def _covering(domain: str, records: Sequence[str], addresses: Sequence[str]) -> Record:
    """One record that says what these say, and lets the addresses send."""
    terms = dict.fromkeys(_terms(addresses))
    last = "-all"
    for record in records:
        for term in record.split()[1:]:
            if term.lower() in ("~all", "-all"):
                last = term
            elif term.lower().lstrip("+?") != "all":
                terms[term] = None
    if any(term.lower().startswith("redirect=") for term in terms):  # it takes effect only where no `all` stands
        terms = dict.fromkeys(re.sub("^redirect=", "include:", term, flags=re.IGNORECASE) for term in terms)
    return Record(f"{domain}.", "TXT", " ".join(["v=spf1", *terms, last]))


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


def dmarc(dns: Dns, domain: str) -> Finding:
    """Is there a policy for this sender domain, at it or above (RFC 9989 section 4.10)?"""
    what = f"DMARC {domain}"
    asked = domain
    for _ in range(_PARENTS):
        texts = dns.ask(f"_dmarc.{asked}.", "TXT")
        found = [text for text in texts if text.replace(" ", "").lower().startswith("v=dmarc1")]
        if found or texts or asked.count(".") < 2:
            break
        asked = asked.partition(".")[2]
    record = Record(f"_dmarc.{asked if found else domain}.", "TXT", "v=DMARC1; p=none")
    if not found:
        words = f"{texts[0]!r} is not a DMARC record, it must begin with v=DMARC1" if texts else "no record"
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
        if name in policy and policy[name].lower() not in ("none", "quarantine", "reject"):
            return mend(what, f"{name}={policy[name]} is none of none, quarantine, reject; {WHY_DMARC}", record)
    if "p" not in policy:
        return mend(what, f"p= (what to do with forged mail) is missing; {WHY_DMARC}", record)
    asks = policy["p"] if asked == domain else policy.get("sp", policy["p"])
    where = "" if asked == domain else f" (the record of {asked})"
    if asks.lower() == "none":
        return ok(what, f"p=none{where}: forged mail is only reported; go on to reject once the reports are clean")
    return ok(what, f"p={asks}{where}")
