"""What is found out about a sender, with a real resolver: SPF, DKIM, DMARC, and the word of servers in front."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dkim
import pytest
from dkim.canonicalization import Relaxed, Simple

from mailbot.config.site import AuthenticationSection, DnsSection, ImapMailbox, Site
from mailbot.dns import LookupFailed, Resolver
from mailbot.intake.authentication import Authenticator
from mailbot.intake.authentication import signatures as dkim_check
from mailbot.intake.authentication import spf as spf_check
from mailbot.mail.address import parse_mailbox
from mailbot.mail.authentication import Authentication, Result, Source
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import facts
from tests.support import signing
from tests.support.resolver import Unbound, resolver
from tests.support.signing import signed, txt

HERE = "192.0.2.1"
ELSEWHERE = "198.51.100.9"
LARGE = base64.b64encode(os.urandom(15_000)).decode()

RECORDS = {
    "pass.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "_dmarc.pass.example": txt("v=DMARC1; p=reject"),
    "s1._domainkey.pass.example": signing.record(),
    "weak._domainkey.pass.example": signing.record(1024),
    "tiny._domainkey.pass.example": signing.record(512),
    "two._domainkey.pass.example": [signing.record(), signing.record(1024)],
    "revoked._domainkey.pass.example": txt("v=DKIM1; k=rsa; p="),
    "noise._domainkey.pass.example": txt(f"v=DKIM1; k=rsa; p={LARGE}"),
    "broken._domainkey.pass.example": txt("v=DKIM1; k=rsa; p=%%%%"),
    "odd._domainkey.pass.example": txt("v=DKIM1; k=dsa; p=AAAA"),
    "same._domainkey.pass.example": [signing.record(), signing.record(tags="n=2; ")],
    "exponent._domainkey.pass.example": signing.record(signing.LARGE_EXPONENT),
    "sha1._domainkey.pass.example": signing.record(tags="h=sha1; "),
    "both._domainkey.pass.example": signing.record(tags="h=sha1 : SHA256; t=s; "),
    "narrow._domainkey.pass.example": signing.record(tags="t=s; "),
    "trial._domainkey.pass.example": signing.record(tags="t=s:y; "),
    "soft.example": txt("v=spf1 ~all"),
    "plain.example": txt(f"v=spf1 ip4:{HERE} ?all"),
    "s1._domainkey.plain.example": signing.record(),
    "mail.plain.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "strict.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "_dmarc.strict.example": txt("v=DMARC1; p=none; adkim=s; aspf=s"),
    "mail.strict.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "s1._domainkey.mail.strict.example": signing.record(),
    "mail.pass.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "s1._domainkey.mail.pass.example": signing.record(),
    "evil.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "s1._domainkey.evil.example": signing.record(),
    "loop.example": txt("v=spf1 include:loop.example -all"),
    "many.example": txt("v=spf1 " + " ".join(f"a:a{n}.many.example" for n in range(12)) + " -all"),
    **{f"a{n}.many.example": "A 203.0.113.1" for n in range(12)},
    "void.example": txt("v=spf1 a:v1.void.example a:v2.void.example a:v3.void.example -all"),
    "twice.example": [txt("v=spf1 -all"), txt(f"v=spf1 ip4:{HERE} -all")],
    "named.example": txt("v=spf1 a:mx.named.example mx ptr:named.example -all"),
    "named-mx.example": [txt("v=spf1 mx -all"), "MX 10 mx.named.example."],
    "mx.named.example": f"A {HERE}",
    "ptr.example": txt("v=spf1 ptr -all"),
    "1.2.0.192.in-addr.arpa": "PTR host.ptr.example.",
    "host.ptr.example": f"A {HERE}",
    "huge.example": txt("v=spf1 " + "ip4:203.0.113.1 " * 400 + f"ip4:{HERE} -all"),
    "hostile.example": txt("v=spf1 a:x." + "a" * 4070 + "! -all"),
    "term.example": txt("v=spf1 include:" + "a" * 286 + " -all"),
    "wide.example": txt("v=spf1 " + "ip4:203.0.113.1 " * 126 + f"ip4:{HERE}"),
    "wider.example": txt("v=spf1 " + "ip4:203.0.113.1 " * 127 + f"ip4:{HERE}"),
    "told.example": txt("v=spf1 exp=why.told.example -all"),
    "why.told.example": txt("%{l}" + "." * 4000),
    "chain.example": txt("V=SPF1 include:i0.chain.example x=%{l}" + "." * 4030 + " -all"),
    **{
        f"i{n}.chain.example": txt(f"v=spf1 include:i{n + 1}.chain.example x=%{{l}}" + "." * 4030 + " -all")
        for n in range(12)
    },
    "carrier.example": txt("v=spf1 redirect=_spf.carrier.example"),
    "_spf.carrier.example": txt(f"v=spf1 ip4:{HERE} ~all"),
    "_dmarc.yokokou-kw21-connect.example": txt("v=DMARC1; p=none"),
    "yokokou-kw21-connect.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "half.example": txt(f"v=spf1 ip4:{HERE} -all"),
    "s1._domainkey.half.example": signing.record(),
    "_dmarc.half-said.example": txt("v=DMARC1; p=reject"),
    "_dmarc.keyless.example": txt("v=DMARC1; p=none"),
    "keyless.example": txt("v=spf1 -all"),
}


@pytest.fixture(scope="module")
def unbound() -> Iterator[Unbound]:
    failing = ["broken.example", "_domainkey.keyless.example", "_dmarc.half.example"]
    with resolver(RECORDS, failing=failing, silent=["silent.example"]) as running:
        yield running


@asynccontextmanager
async def checking(
    unbound: Unbound, imap: dict[str, ImapMailbox] | None = None, query_seconds: int = 3, **section: Any
) -> AsyncIterator[Authenticator]:
    site = Site.model_construct(authentication=AuthenticationSection(**section), imap=imap or {})
    made = Authenticator(site, Resolver(DnsSection(servers=(unbound.endpoint,), query_seconds=query_seconds)))
    try:
        yield made
    finally:
        await made.close()


def message(author: str, body: str = "hello\r\n", extra: str = "") -> bytes:
    lines = f"{extra}From: {author}\r\nTo: touroku@robot.example\r\nSubject: x\r\nMessage-ID: <1@x.example>\r\n"
    return f"{lines}Date: Fri, 20 Nov 2026 12:00:00 +0900\r\n\r\n{body}".encode()


def mail(
    content: bytes, sender: str, *, peer: str = HERE, origin: str = "smtp", direct: bool = True, whole: bool = True
) -> Envelope:
    path = parse_mailbox(sender) if sender else None
    recipients = (parse_mailbox("touroku@robot.example"),)
    return Envelope(path, recipients, content, 0, peer, "mx.helo.example", origin, len(content), direct, whole)


async def known(authenticator: Authenticator, envelope: Envelope) -> Authentication:
    found = await authenticator.check(envelope, facts(envelope.content))
    assert found is not None
    assert found.words.isascii()
    assert found.words.isprintable()
    assert len(found.words) <= 200
    return found


def results(found: Authentication) -> str:
    return f"spf={found.spf} dkim={found.dkim} dmarc={found.dmarc}"


# sender, peer -> results of an unsigned mail whose From is its sender
SPF: dict[str, tuple[str, str, str]] = {
    "pass": ("a@pass.example", HERE, "spf=pass dkim=none dmarc=pass"),
    "fail": ("a@pass.example", ELSEWHERE, "spf=fail dkim=none dmarc=fail"),
    "softfail": ("a@soft.example", HERE, "spf=softfail dkim=none dmarc=none"),
    "neutral": ("a@plain.example", ELSEWHERE, "spf=neutral dkim=none dmarc=none"),
    "redirect": ("a..b@carrier.example", HERE, "spf=pass dkim=none dmarc=none"),
    "none": ("a@nobody.example", HERE, "spf=none dkim=none dmarc=none"),
    "loop": ("a@loop.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "too-many": ("a@many.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "void": ("a@void.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "twice": ("a@twice.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "by-name": ("a@named.example", HERE, "spf=pass dkim=none dmarc=none"),
    "by-mx": ("a@named-mx.example", HERE, "spf=pass dkim=none dmarc=none"),
    "by-ptr": ("a@ptr.example", HERE, "spf=pass dkim=none dmarc=none"),
    "too-long": ("a@huge.example", HERE, "spf=none dkim=none dmarc=none"),
    "hostile": ("a@hostile.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "long-term": ("a@term.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "long-chain": ("a@chain.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "wide": ("a@wide.example", HERE, "spf=pass dkim=none dmarc=none"),
    "too-wide": ("a@wider.example", HERE, "spf=permerror dkim=none dmarc=none"),
    "explained": ("a@told.example", HERE, "spf=fail dkim=none dmarc=none"),
    "hyphens": ("a@yokokou-kw21-connect.example", HERE, "spf=pass dkim=none dmarc=pass"),
    "mapped": ("a@pass.example", f"::ffff:{HERE}", "spf=pass dkim=none dmarc=pass"),
    "ipv6": ("a@pass.example", "2001:db8::1", "spf=fail dkim=none dmarc=fail"),
    "servfail": ("a@broken.example", HERE, "spf=temperror dkim=none dmarc=temperror"),
    "policy-servfail": ("a@half.example", HERE, "spf=pass dkim=none dmarc=temperror"),
}


@pytest.mark.parametrize("name", SPF)
async def test_spf(unbound: Unbound, name: str) -> None:
    sender, peer, expected = SPF[name]
    address = f'"{sender.partition("@")[0]}"@{sender.partition("@")[2]}' if ".." in sender else sender
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(message(address), address, peer=peer))
    assert results(found) == expected
    assert found.source is Source.CHECKED


@pytest.mark.parametrize("domain", ["hostile.example", "chain.example", "told.example"])
def test_a_hostile_record_costs_little(unbound: Unbound, domain: str) -> None:
    """What pyspf alone does with them keeps everything else waiting."""
    lookups = Resolver(DnsSection(servers=(unbound.endpoint,))).lookups(40, 5)
    started = time.thread_time()
    assert spf_check.check(lookups, HERE, f"{'a' * 60}@{domain}", "mx.example") in (Result.PERMERROR, Result.FAIL)
    assert time.thread_time() - started < 0.1


async def test_only_mail_from_counts(unbound: Unbound) -> None:
    """RFC 9989 section 4.4.2; the null sender has no domain, whatever HELO says."""
    async with checking(unbound) as authenticator:
        null = Envelope(None, (), message("a@pass.example"), 0, HERE, "pass.example", "smtp", 1, whole=True)
        assert results(await known(authenticator, null)) == "spf=pass dkim=none dmarc=fail"
        other = mail(message("a@pass.example"), "a@evil.example")
        assert results(await known(authenticator, other)) == "spf=pass dkim=none dmarc=fail"


# author's domain, signing domain, sender's domain -> results, from an address that SPF passes
ALIGNED: dict[str, tuple[str, str, str, str]] = {
    "same": ("pass.example", "pass.example", "evil.example", "spf=pass dkim=pass dmarc=pass"),
    "below": ("pass.example", "mail.pass.example", "evil.example", "spf=pass dkim=pass dmarc=pass"),
    "above": ("mail.pass.example", "pass.example", "evil.example", "spf=pass dkim=pass dmarc=pass"),
    "strict-same": ("strict.example", "", "strict.example", "spf=pass dkim=none dmarc=pass"),
    "strict-spf": ("strict.example", "", "mail.strict.example", "spf=pass dkim=none dmarc=fail"),
    "strict-dkim": ("strict.example", "mail.strict.example", "evil.example", "spf=pass dkim=none dmarc=fail"),
    "somebody-else": ("pass.example", "evil.example", "evil.example", "spf=pass dkim=none dmarc=fail"),
    "no-policy": ("plain.example", "plain.example", "evil.example", "spf=pass dkim=pass dmarc=none"),
    "no-policy-not-the-same": ("plain.example", "evil.example", "evil.example", "spf=pass dkim=none dmarc=none"),
    "key-servfail": (
        "keyless.example", "keyless.example", "keyless.example", "spf=fail dkim=temperror dmarc=temperror",
    ),
    "far-key-servfail": ("pass.example", "keyless.example", "evil.example", "spf=pass dkim=none dmarc=fail"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIGNED)
async def test_alignment(unbound: Unbound, name: str) -> None:
    author, signer, sender, expected = ALIGNED[name]
    content = message(f"hanako@{author}")
    content = signed(content, signer) if signer else content
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(content, f"hanako@{sender}"))
    assert results(found) == expected
    assert found.path is (sender == author and found.spf is Result.PASS)


GOOD = message("hanako@pass.example")


def bare(**tags: str) -> bytes:
    """A signature field made by hand; none of its values need be right."""
    given = {"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "pass.example", "s": "s1", "h": "from",
             "bh": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "b": "AAAA"} | tags  # fmt: skip
    return f"DKIM-Signature: {'; '.join(f'{name}={value}' for name, value in given.items())}\r\n".encode()


def unsigned_from() -> bytes:
    """A signature that leaves From to anybody: dkimpy makes none, so another field is called so for a while."""
    other = signed(GOOD.replace(b"Subject:", b"Sender:"), "pass.example", headers=[b"from", b"sender"])
    return other.replace(b"h=from : sender", b"h=sender")


def identified(selector: bytes) -> bytes:
    """Signed for a subdomain of the signing domain (i=)."""
    made = dkim.DKIM(GOOD).sign(
        selector, b"pass.example", signing.pem(), identity=b"@sub.pass.example", include_headers=[b"from"]
    )
    return bytes(made) + GOOD


PASSED_OVER: dict[str, bytes] = {
    "length": signed(GOOD, "pass.example", length=True) + b"and more\r\n",
    "length-unchanged": signed(GOOD, "pass.example", length=True),
    "sha1": signed(GOOD, "pass.example", algorithm=b"rsa-sha1"),
    "from-not-signed": unsigned_from(),
    "long-domain": bare(d="a" * 7000 + ".example") + GOOD,
    "domain-not-ascii": bare(d="日本.example") + GOOD,
    "no-domain": bare(d="") + GOOD,
    "odd-selector": bare(s="s1 evil") + GOOD,
    "no-tags": b"DKIM-Signature: \r\n" + GOOD,
    "same-tag-twice": b"DKIM-Signature: v=1; v=1\r\n" + GOOD,
    "no-equals": b"DKIM-Signature: v\r\n" + GOOD,
    "much-white-space": b"DKIM-Signature: v=1; b=" + b"\r\n " * 2000 + b"\r\n" + GOOD,
}
FAILED: dict[str, bytes] = {
    "changed-body": signed(GOOD, "pass.example") + b"and more\r\n",
    "changed-from": signed(GOOD, "pass.example").replace(b"From: hanako", b"From: taro"),
    "tiny-key": signed(GOOD, "pass.example", selector="tiny", bits=512),
    "two-keys": signed(GOOD, "pass.example", selector="two"),
    "same-key-twice": signed(GOOD, "pass.example", selector="same"),
    "large-exponent": signed(GOOD, "pass.example", selector="exponent", bits=signing.LARGE_EXPONENT),
    "key-for-sha1": signed(GOOD, "pass.example", selector="sha1"),
    "key-for-one-domain": identified(b"narrow"),
    "revoked": signed(GOOD, "pass.example", selector="revoked"),
    "much-noise": signed(GOOD, "pass.example", selector="noise"),
    "broken-key": signed(GOOD, "pass.example", selector="broken"),
    "odd-key": signed(GOOD, "pass.example", selector="odd"),
    "no-key": signed(GOOD, "pass.example", selector="nowhere"),
    "another-key": signed(GOOD, "pass.example", selector="weak"),
    "expired": bare(x="1000000000") + GOOD,
    "future": bare(t="99999999999") + GOOD,
    "garbage-base64": bare(b="%%%") + GOOD,
    "empty": bare(b="") + GOOD,
    "another-version": bare(v="2") + GOOD,
    "odd-canonical": bare(c="loose/relaxed") + GOOD,
    "foreign-identity": bare(i="@evil.example") + GOOD,
}


@pytest.mark.parametrize("name", PASSED_OVER)
async def test_signatures_that_say_nothing(unbound: Unbound, name: str) -> None:
    """Case 46: l=, SHA-1, names that cannot be."""
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(PASSED_OVER[name], "hanako@evil.example"))
    assert results(found) == "spf=pass dkim=none dmarc=fail"


@pytest.mark.parametrize("name", FAILED)
async def test_signatures_that_do_not_hold(unbound: Unbound, name: str) -> None:
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(FAILED[name], "hanako@evil.example"))
    assert results(found) == "spf=pass dkim=fail dmarc=fail"


@pytest.mark.parametrize("canonical", [(b"simple", b"simple"), (b"relaxed", b"simple"), (b"simple", b"relaxed")])
@pytest.mark.parametrize("body", ["", "\r\n\r\n", "a \t b  \r\n\r\n c\t\r\n\r\n", "no end"])
async def test_canonical_forms(unbound: Unbound, canonical: tuple[bytes, bytes], body: str) -> None:
    content = signed(message("hanako@pass.example", body), "pass.example", canonical=canonical)
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(content, "hanako@evil.example"))
    assert results(found) == "spf=pass dkim=pass dmarc=pass"


async def test_a_key_that_is_tried_out_is_none(unbound: Unbound) -> None:
    """RFC 6376 section 3.6.1, t=y: as if the mail were not signed."""
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(signed(GOOD, "pass.example", selector="trial"), "hanako@evil.example"))
        assert results(found) == "spf=pass dkim=none dmarc=fail"


@pytest.mark.parametrize("content", [signed(GOOD, "pass.example", selector="both"), identified(b"s1")])
async def test_keys_that_allow_it(unbound: Unbound, content: bytes) -> None:
    """RFC 6376 section 3.6.1: h= and t=s."""
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(content, "hanako@evil.example"))
    assert results(found) == "spf=pass dkim=pass dmarc=pass"


async def test_twenty_signatures(unbound: Unbound) -> None:
    """Case 46: five that might vouch are looked at, from the top; the sixth may be the best of all. Those that say
    nothing, or that strangers made, take nobody's place."""
    passed = [content[: content.index(b"\r\nFrom:") + 2] for content in PASSED_OVER.values()]
    others = b"".join(passed + [bare(d="evil.example")] * (15 - len(passed)))
    good = signed(GOOD, "pass.example")
    async with checking(unbound) as authenticator:
        for tried, expected in ((4, Result.PASS), (5, Result.FAIL)):
            found = await known(authenticator, mail(others + bare() * tried + good, "hanako@evil.example"))
            assert found.dkim is expected
        last = mail(others + bare(d="evil.example") * 5 + good, "hanako@evil.example")  # the 21st
        assert (await known(authenticator, last)).dkim is Result.NONE


ENDS = ["", "\r\n", "\r\n\r\n", " \r\n", "x", "x\r\n\r\n \t\r\n", " \r\n\r\nx \t", "\r\n.\r\n", "\r\n" * 999]


@pytest.mark.parametrize("canonical", [b"simple", b"relaxed"])
def test_the_end_of_a_body_is_what_dkimpy_takes_it_for(canonical: bytes, unbound: Unbound) -> None:
    lookups = Resolver(DnsSection(servers=(unbound.endpoint,))).lookups(99, 5)
    head, found, expected = message("hanako@pass.example", ""), {}, {}
    for one in ENDS:
        whole = signed(head + one.encode(), "pass.example", canonical=(canonical, canonical))
        for other in ENDS:
            changed = whole.removesuffix(one.encode()) + other.encode()
            found[one, other] = [result for _, result in dkim_check.check(changed, lookups)] == [Result.PASS]
            key = lookups.txt("s1._domainkey.pass.example")[0]
            with contextlib.suppress(dkim.DKIMException):
                expected[one, other] = dkim.DKIM(changed).verify(dnsfunc=lambda *_, key=key, **__: key)
    assert {pair for pair in found if found[pair]} == set(expected)
    assert all(expected.values())


# body -> what dkimpy's own patterns need for it
HOSTILE = {
    "blanks": b" \t" * 500_000 + b"x\r\n",  # hours
    "words": b" x" * 1_000_000 + b"\r\n",  # 0.7 s for each signature
    "ends": b"\n" + b"\r\n" * 1_000_000,
}


@pytest.mark.parametrize("canonical", ["relaxed/relaxed", "simple/simple"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_costs_little(unbound: Unbound, name: str, canonical: str) -> None:
    """Five signatures that all have to be looked at; the time is the processor's, for nothing else runs meanwhile."""
    content = bare(c=canonical) * 4 + signed(GOOD, "pass.example") + HOSTILE[name]
    lookups = Resolver(DnsSection(servers=(unbound.endpoint,))).lookups(9, 5)
    started = time.thread_time()
    assert [result for _, result in dkim_check.check(content, lookups)] == [Result.FAIL] * 5
    assert time.thread_time() - started < 1.0


def test_canonical_bodies_are_dkimpys() -> None:
    dice = random.Random(6376)
    pieces = [b"\r\n", b"\r\n\r\n", b" \r\n", b" ", b"\t", b"  \t ", b"x", b"\r", b"\n", b"."]
    for _ in range(5000):
        body = b"".join(dice.choices(pieces, k=dice.randrange(12)))
        for form in (Simple, Relaxed):
            found = dkim_check.canonical_body(body, relaxed=form is Relaxed)
            assert found == form.canonicalize_body(body), (form, body)


@pytest.mark.parametrize("content", [b"", b"\r\n", b"no field at all", b" folded\r\n\r\n", b"\xff" * 1000])
def test_no_message_at_all(unbound: Unbound, content: bytes) -> None:
    lookups = Resolver(DnsSection(servers=(unbound.endpoint,))).lookups(5, 5)
    assert list(dkim_check.check(content, lookups)) == []


# -- the word of a server in front -----------------------------------------------------------------------------------

FRONT = "mx.front.example"
BY_FRONT = f"Received: from x.example (x.example [192.0.2.7]) by {FRONT} (Postfix) with ESMTP id 1\r\n"


def said(text: str, authserv_id: str = FRONT) -> str:
    return f"Authentication-Results: {authserv_id}; {text}\r\n{BY_FRONT}"


# what stands on top, sender -> results; From is hanako@pass.example
REPORTED: dict[str, tuple[str, str, str]] = {
    "dmarc": (said("dmarc=pass header.from=pass.example"), "", "spf=none dkim=none dmarc=pass"),
    "dmarc-fail": (said("dmarc=fail header.from=pass.example"), "", "spf=none dkim=none dmarc=fail"),
    "dmarc-of-another": (said("dmarc=pass header.from=evil.example"), "", "spf=none dkim=none dmarc=none"),
    "spf": (said("spf=pass smtp.mailfrom=a@pass.example"), "a@pass.example", "spf=pass dkim=none dmarc=pass"),
    "spf-of-another": (said("spf=pass smtp.mailfrom=evil.example"), "a@pass.example", "spf=none dkim=none dmarc=none"),
    "spf-fail": (said("spf=fail smtp.mailfrom=a@pass.example"), "a@pass.example", "spf=fail dkim=none dmarc=fail"),
    "spf-not-aligned": (said("spf=pass smtp.mailfrom=evil.example"), "a@evil.example", "spf=pass dkim=none dmarc=fail"),
    "dkim": (said("dkim=pass header.d=pass.example"), "", "spf=none dkim=pass dmarc=pass"),
    "dkim-below": (said("dkim=pass header.i=@mail.pass.example"), "", "spf=none dkim=pass dmarc=pass"),
    "dkim-of-another": (said("dkim=pass header.d=evil.example"), "", "spf=none dkim=none dmarc=none"),
    "nothing-said": (said("none"), "", "spf=none dkim=none dmarc=none"),
    "temperror": (said("dmarc=temperror header.from=pass.example"), "", "spf=none dkim=none dmarc=none"),
    "wrong-id": (said("dmarc=pass header.from=pass.example", "evil.example"), "", "spf=none dkim=none dmarc=none"),
    "below": (
        "Received: from x by evil.example\r\n" + said("dmarc=pass header.from=pass.example"), "",
        "spf=none dkim=none dmarc=none",
    ),
    "two": (
        said("dmarc=fail header.from=pass.example") + said("dmarc=pass header.from=pass.example"), "",
        "spf=none dkim=none dmarc=fail",
    ),
    "nothing": ("", "", "spf=none dkim=none dmarc=none"),
}  # fmt: skip


@pytest.mark.parametrize("origin", ["smtp", "lmtp", "imap"])
@pytest.mark.parametrize("name", REPORTED)
async def test_reported(unbound: Unbound, name: str, origin: str) -> None:
    """Case 47. SPF is never asked of the address of our own server."""
    top, sender, expected = REPORTED[name]
    sender = sender or "a@evil.example"
    mailbox = ImapMailbox(host="h", user="u", password_file=Path("p"), addresses=("a@b.example",), authserv_id=FRONT)
    envelope = mail(message("hanako@pass.example", extra=top), sender, origin=origin, direct=False, whole=False)
    if origin == "imap":
        envelope = mail(envelope.content, sender, peer="desk", origin=origin, direct=False, whole=False)
    async with checking(unbound, {"desk": mailbox}, authserv_id=FRONT, upstream_peers=(HERE,)) as authenticator:
        found = await known(authenticator, envelope)
    assert results(found) == expected
    trusted = FRONT in top and name not in ("wrong-id", "below")
    assert found.source is (Source.REPORTED if trusted else Source.NOWHERE)
    assert found.words.endswith(f"by {FRONT}") is trusted


async def test_milters_that_write_a_field_each(unbound: Unbound) -> None:
    """As OpenDMARC does for SPF and DMARC. A mailbox's provider writes one; the second came with the mail."""
    mailbox = ImapMailbox(host="h", user="u", password_file=Path("p"), addresses=("a@b.example",), authserv_id=FRONT)
    dmarc = f"Authentication-Results: {FRONT}; dmarc=none header.from=plain.example\r\n"
    async with checking(unbound, {"desk": mailbox}, authserv_id=FRONT, upstream_peers=(HERE,)) as authenticator:
        for word in ("pass", "fail"):
            content = message("a@plain.example", extra=dmarc + said(f"spf={word} smtp.mailfrom=plain.example"))
            ours = [mail(content, "a@plain.example", origin=origin, direct=False) for origin in ("smtp", "lmtp")]
            for one in ours:
                assert results(await known(authenticator, one)) == f"spf={word} dkim=none dmarc=none"
            box = mail(content, "a@plain.example", peer="desk", origin="imap", direct=False)
            assert results(await known(authenticator, box)) == "spf=none dkim=none dmarc=none"


async def test_a_direct_sender_is_not_believed(unbound: Unbound) -> None:
    """Case 47: only servers named in the configuration may speak."""
    top = said("dmarc=pass header.from=pass.example")
    async with checking(unbound, authserv_id=FRONT) as authenticator:
        envelope = mail(message("hanako@pass.example", extra=top), "a@evil.example", peer=ELSEWHERE)
        assert results(await known(authenticator, envelope)) == "spf=fail dkim=none dmarc=fail"


async def test_through_a_server_of_ours_a_signature_still_proves(unbound: Unbound) -> None:
    """DMARC by DKIM alone can pass; it cannot fail, for SPF was not asked."""
    async with checking(unbound, upstream_peers=(HERE,)) as authenticator:
        good = mail(BY_FRONT.encode() + signed(GOOD, "pass.example"), "a@evil.example", direct=False)
        found = await known(authenticator, good)
        assert (results(found), found.source) == ("spf=none dkim=pass dmarc=pass", Source.CHECKED)
        bad = mail(signed(GOOD, "pass.example") + b"more", "hanako@pass.example", direct=False)
        assert results(await known(authenticator, bad)) == "spf=none dkim=fail dmarc=none"
        other = mail(signed(GOOD, "evil.example"), "hanako@pass.example", direct=False)
        assert results(await known(authenticator, other)) == "spf=none dkim=none dmarc=none"
        plain = mail(GOOD, "hanako@pass.example", direct=False)
        assert (await known(authenticator, plain)).source is Source.NOWHERE


async def test_our_own_look_at_a_signature_is_worth_more_than_a_word(unbound: Unbound) -> None:
    async with checking(unbound, upstream_peers=(HERE,), authserv_id=FRONT) as authenticator:
        top = said("dmarc=fail header.from=pass.example").encode()
        found = await known(authenticator, mail(top + signed(GOOD, "pass.example"), "a@evil.example", direct=False))
        assert results(found) == "spf=none dkim=pass dmarc=pass"


# -- who is checked at all -------------------------------------------------------------------------------------------


async def test_off_means_the_named_peers_only(unbound: Unbound) -> None:
    envelope = mail(message("a@pass.example"), "a@pass.example")
    elsewhere = mail(message("a@pass.example"), "a@pass.example", peer=ELSEWHERE)
    async with checking(unbound, mode="off", peers=(f"{HERE}/32",)) as authenticator:
        assert authenticator.binding
        assert await authenticator.check(envelope, facts(envelope.content)) is None
        assert results(await known(authenticator, elsewhere)) == "spf=fail dkim=none dmarc=fail"
    async with checking(unbound, mode="off") as authenticator:
        assert await authenticator.check(elsewhere, facts(elsewhere.content)) is None
    async with checking(unbound, mode="observe", peers=(f"{HERE}/32",)) as authenticator:
        assert not authenticator.binding
        assert results(await known(authenticator, envelope)) == "spf=pass dkim=none dmarc=pass"


# -- time ------------------------------------------------------------------------------------------------------------


async def test_silence_ends_in_time_and_stops_nobody_else(unbound: Unbound) -> None:
    """The loop goes on while a name server says nothing: a mail that came later is done long before."""
    async with checking(unbound, query_seconds=1, message_seconds=2) as authenticator:
        late = mail(signed(message("a@silent.example"), "silent.example"), "a@silent.example")
        waiting = asyncio.create_task(known(authenticator, late))
        await asyncio.sleep(0)
        quick = mail(message("a@pass.example"), "a@pass.example")
        assert results(await known(authenticator, quick)) == "spf=pass dkim=none dmarc=pass"
        assert not waiting.done()
        found = await waiting
        assert results(found) == "spf=temperror dkim=temperror dmarc=temperror"
        assert found.undecided


async def test_a_queue_for_threads_counts_as_waiting(unbound: Unbound) -> None:
    """With one thread and a name server that says nothing, the second mail is not kept longer than the first."""
    async with checking(unbound, query_seconds=1, message_seconds=1, threads=1) as authenticator:
        late = [mail(message(f"a@{n}.silent.example"), f"a@{n}.silent.example") for n in range(4)]
        found = await asyncio.gather(*(known(authenticator, one) for one in late))
        assert all(one.undecided for one in found)
        quick = mail(message("a@pass.example"), "a@pass.example")
        assert results(await known(authenticator, quick)) == "spf=pass dkim=none dmarc=pass"


async def test_one_network_cannot_keep_everybody_waiting(unbound: Unbound) -> None:
    """Sixteen mails at once whose name servers say nothing, for four threads: the next network has its turn at once."""
    async with checking(unbound, query_seconds=1, message_seconds=1, threads=4) as authenticator:
        storm = [mail(message(f"a@{n}.silent.example"), f"a@{n}.silent.example", peer=ELSEWHERE) for n in range(16)]
        waiting = [asyncio.create_task(known(authenticator, one)) for one in storm]
        await asyncio.sleep(0)
        quick = mail(message("a@pass.example"), "a@pass.example")
        assert results(await known(authenticator, quick)) == "spf=pass dkim=none dmarc=pass"
        assert not any(one.done() for one in waiting)
        assert all(one.undecided for one in await asyncio.gather(*waiting))


@pytest.mark.parametrize("front", [{"upstream_peers": (ELSEWHERE,)}, {}])
async def test_a_server_of_ours_is_no_one_network(
    unbound: Unbound, front: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mails are everybody's: they may hold all threads, where others of one network have a quarter."""
    most, busy, lock = [0], [0], threading.Lock()
    together = threading.Barrier(4) if front else None

    def examine(*_: Any) -> Authentication:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        if together is not None:
            together.wait(30)
        with lock:
            busy[0] -= 1
        return Authentication()

    async with checking(unbound, threads=4, **front) as authenticator:
        monkeypatch.setattr(authenticator, "_examine", examine)
        sent = [mail(message(f"a@{n}.example"), f"a@{n}.example", peer=ELSEWHERE) for n in range(4)]
        await asyncio.gather(*(known(authenticator, one) for one in sent))
    assert most == [4 if front else 1]


# what stands above the forged mail
STRANGERS_SIGNATURES = {
    "a-server-with-a-fault": lambda: bare(d="broken.example"),
    "silent-servers": lambda: b"".join(bare(d=f"{n}.silent.example") for n in range(5)),
    "many": lambda: b"".join(bare(d=f"{n}.evil.example") for n in range(20)),
}


@pytest.mark.parametrize("name", STRANGERS_SIGNATURES)
async def test_strangers_name_servers_leave_no_doubt(unbound: Unbound, name: str) -> None:
    """A forger's own name servers may fail or take their time: what the author's own domain says still counts, at once
    and in full. As a look-up that failed it would be put off, and answered in the end."""
    for author, peer, expected in (
        ("hanako@pass.example", ELSEWHERE, "spf=fail dkim=none dmarc=fail"),
        ("hanako@half-said.example", ELSEWHERE, "spf=none dkim=none dmarc=fail"),
    ):
        forged = mail(STRANGERS_SIGNATURES[name]() + message(author), author, peer=peer)
        async with checking(unbound, query_seconds=1, message_seconds=2) as authenticator:
            found = await known(authenticator, forged)
        assert results(found) == expected
        assert not found.undecided


async def test_a_from_that_only_some_read(unbound: Unbound) -> None:
    """dkimpy takes 'From :' for no field at all: what it signs then is not whom we would answer."""
    content = signed(GOOD.replace(b"From:", b"X-From:"), "pass.example", headers=[b"from", b"subject"])
    forged = content.replace(b"X-From: ", b"From : ", 1)
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(forged, "hanako@evil.example"))
    assert results(found) == "spf=pass dkim=none dmarc=fail"


async def test_a_fault_of_ours_vouches_for_nobody_and_against_nobody(
    unbound: Unbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mail comes again, as after a look-up that failed: its sender may be a member whom DKIM would have proved."""
    async with checking(unbound) as authenticator:
        monkeypatch.setattr(authenticator, "_examine", lambda *_: 1 // 0)
        found = await known(authenticator, mail(message("a@pass.example"), "a@pass.example"))
    assert found.undecided
    assert (found.source, found.words) == (Source.FAULT, "no result")


async def test_whether_a_name_server_answered(unbound: Unbound) -> None:
    """What is remembered says nothing about the resolver of now."""
    async with checking(unbound, query_seconds=1, message_seconds=2) as authenticator:
        for domain, answered in (("pass.example", True), ("pass.example", False), ("silent.example", False)):
            found = await known(authenticator, mail(message(f"a@{domain}"), f"a@{domain}"))
            assert found.answered is answered, domain
        assert found.settled().source is Source.GIVEN_UP


def test_closing_leaves_no_thread(unbound: Unbound) -> None:
    async def once() -> None:
        async with checking(unbound) as authenticator:
            await known(authenticator, mail(message("a@pass.example"), "a@pass.example"))

    asyncio.run(once())
    left = [one for one in threading.enumerate() if one.name.startswith("authentication")]
    for one in left:
        one.join(5)
    assert not any(one.is_alive() for one in left)


# -- words -----------------------------------------------------------------------------------------------------------


async def test_words(unbound: Unbound) -> None:
    async with checking(unbound) as authenticator:
        found = await known(authenticator, mail(message("a@pass.example"), "b@evil.example"))
        assert found.words == "spf=pass (evil.example) dkim=none dmarc=fail (pass.example)"
        long = ".".join(["a" * 60] * 3) + ".example"
        found = await known(authenticator, mail(message(f"a@{long}"), f"b@{long}"))
        assert found.words == f"spf=none ({long[:48]}) dkim=none dmarc=none ({long[:48]})"


def test_the_limit_of_questions(unbound: Unbound) -> None:
    lookups = Resolver(DnsSection(servers=(unbound.endpoint,))).lookups(2, 5)
    assert lookups.txt("soft.example") == lookups.txt("SOFT.example.") == [b"v=spf1 ~all"]  # asked once
    assert lookups.txt("nobody.example") == []
    with pytest.raises(LookupFailed, match="too many"):
        lookups.txt("pass.example")
