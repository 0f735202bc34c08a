"""DMARC's tree walk and alignment (RFC 9989), on zones written down here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from mailbot.dns import LookupFailed
from mailbot.intake.authentication.dmarc import Aligned, Author, organization, parse, walk

Zone = Mapping[str, str | Sequence[str] | None]
"""Domain -> DMARC record, or several; None: the DNS does not answer."""


class Dns:
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.asked: list[str] = []

    def txt(self, name: str) -> list[bytes]:
        self.asked.append(name)
        found = self._zone.get(name.removeprefix("_dmarc."), ())
        if found is None:
            raise LookupFailed(name)
        return [text.encode("latin-1") for text in ([found] if isinstance(found, str) else found)]


# RFC 9989 appendix B.4 and section 4.10: where the organization ends
ORGANIZATIONS: dict[str, tuple[Zone, str, str]] = {
    "own-record-only": ({"example.com": "v=DMARC1; p=none"}, "example.com", "example.com"),
    "below": ({"example.com": "v=DMARC1; p=none"}, "a.mail.example.com", "example.com"),
    "fewest-labels": (
        {"example.com": "v=DMARC1; p=none", "mail.example.com": "v=DMARC1; p=none"},
        "a.mail.example.com",
        "example.com",
    ),
    "psd-n-ends-it": (
        {"example.com": "v=DMARC1; p=none", "giant.example.com": "v=DMARC1; p=none; psd=n"},
        "a.giant.example.com",
        "giant.example.com",
    ),
    "psd-y-is-one-below": (
        {"example.com": "v=DMARC1; p=none", "com": "v=DMARC1; p=none; psd=y"},
        "a.mail.example.com",
        "example.com",
    ),
    "psd-y-without-own-record": ({"gov.example": "v=DMARC1; p=reject; psd=y"}, "a.b.gov.example", "b.gov.example"),
    "psd-y-at-the-start-goes-on": (
        {"bank.example": "v=DMARC1; p=none; psd=y", "example": "v=DMARC1; p=none"},
        "bank.example",
        "example",
    ),
    "psd-y-at-the-start-alone": ({"bank.example": "v=DMARC1; p=none; psd=y"}, "bank.example", "bank.example"),
    "several-records-are-none": (
        {"mail.example.com": ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "example.com": "v=DMARC1; p=none"},
        "mail.example.com",
        "example.com",
    ),
    "others-beside-it": ({"example.com": ["site=1", "v=DMARC1; p=none", "v=DMARC2"]}, "x.example.com", "example.com"),
    "none-at-all": ({}, "x.example.com", "x.example.com"),
    "hyphens": (
        {"yokokou-kw21-connect.jp": "v=DMARC1; p=none"},
        "mail.yokokou-kw21-connect.jp",
        "yokokou-kw21-connect.jp",
    ),
    "idn": ({"xn--wgv71a119e.jp": "v=DMARC1; p=none"}, "mail.xn--wgv71a119e.jp", "xn--wgv71a119e.jp"),
}


@pytest.mark.parametrize("name", ORGANIZATIONS)
def test_organizational_domain(name: str) -> None:
    zone, domain, expected = ORGANIZATIONS[name]
    dns = Dns(zone)
    assert organization(domain, walk(domain, dns.txt)) == expected


def test_a_deep_name_is_asked_about_eight_times() -> None:
    """RFC 9989 section 4.10 step 5: after the name itself, its last seven labels."""
    dns = Dns({})
    walk("a.b.c.d.e.f.g.h.i.j.mail.example.com", dns.txt)
    assert [name.removeprefix("_dmarc.") for name in dns.asked] == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize(("labels", "questions"), [(2, 2), (7, 7), (8, 8), (9, 8), (60, 8)])
def test_the_number_of_questions(labels: int, questions: int) -> None:
    dns = Dns({})
    walk(".".join("abcdefgh"[n % 8] for n in range(labels)), dns.txt)
    assert len(dns.asked) == questions


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("v=DMARC1; p=none", "is"),
        ("v = DMARC1 ; P = Reject;", "is"),
        ("v=DMARC1", "is"),
        ("V=DMARC1; p=none", "is"),
        ("v=dmarc1; p=none", ""),
        ("v=DMARC10; p=none", ""),
        ("p=none; v=DMARC1", ""),
        ("", ""),
    ],
)
def test_what_is_a_record(text: str, domain: str) -> None:
    record = parse("is", [text.encode()])
    assert (record.domain if record else "") == domain


# section 4.10.1: a policy that cannot be read
USABLE = {
    "v=DMARC1; p=none": True,
    "v=DMARC1; p=quarantine; sp=reject; np=none": True,
    "v=DMARC1; p=None": True,
    "v=DMARC1; p=maybe": False,
    "v=DMARC1; p=maybe; rua=mailto:a@example.com": True,
    "v=DMARC1; p=none; sp=maybe": False,
    "v=DMARC1; p=none; np=maybe; rua=mailto:a@example.com": True,
    "v=DMARC1": False,
    "v=DMARC1; rua=nobody": False,
    "v=DMARC1; rua=nobody, mailto:a@example.com": True,
}


@pytest.mark.parametrize("text", USABLE)
def test_a_broken_policy_counts_only_where_reports_are_wanted(text: str) -> None:
    author = Author("example.com", Dns({"example.com": text}).txt)
    assert (author.record is not None) is USABLE[text]
    assert not author.unknown


POLICY: dict[str, tuple[Zone, str, str]] = {
    "own": ({"example.com": "v=DMARC1; p=none", "a.example.com": "v=DMARC1; p=none"}, "a.example.com", "a.example.com"),
    "organization": ({"example.com": "v=DMARC1; p=none"}, "a.b.example.com", "example.com"),
    "not-halfway": (
        {"example.com": "v=DMARC1; p=none", "b.example.com": "v=DMARC1; p=none"},
        "a.b.example.com",
        "example.com",
    ),
    "public-suffix": ({"gov.example": "v=DMARC1; p=reject; psd=y"}, "a.b.gov.example", "gov.example"),
    "broken-own": ({"a.example.com": "v=DMARC1; p=x", "example.com": "v=DMARC1; p=none"}, "a.example.com", ""),
    "none": ({}, "example.com", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", POLICY)
def test_the_record_that_counts(name: str) -> None:
    zone, domain, expected = POLICY[name]
    author = Author(domain, Dns(zone).txt)
    assert (author.record.domain if author.record else "") == expected


ALIGNED: dict[str, tuple[Zone, str, str, Aligned]] = {
    "same": ({}, "example.com", "example.com", Aligned.YES),
    "same-in-capitals": ({}, "example.com", "EXAMPLE.com.", Aligned.YES),
    "above": ({"example.com": "v=DMARC1; p=none"}, "a.example.com", "example.com", Aligned.YES),
    "below": ({"example.com": "v=DMARC1; p=none"}, "example.com", "a.example.com", Aligned.YES),
    "beside": ({"example.com": "v=DMARC1; p=none"}, "a.example.com", "b.example.com", Aligned.YES),
    "strict": ({"example.com": "v=DMARC1; p=none; adkim=s"}, "example.com", "a.example.com", Aligned.NO),
    "strict-for-the-other": ({"example.com": "v=DMARC1; p=none; aspf=s"}, "example.com", "a.example.com", Aligned.YES),
    "no-record-nothing-in-common": ({}, "a.example.com", "example.com", Aligned.NO),
    "another": ({"example.com": "v=DMARC1; p=none"}, "example.com", "evil.com", Aligned.NO),
    "tail-alike": ({"example.com": "v=DMARC1; p=none"}, "example.com", "evilexample.com", Aligned.NO),
    "hyphen-alike": ({"b-c.jp": "v=DMARC1; p=none"}, "b-c.jp", "c.jp", Aligned.NO),
    "two-of-a-public-suffix": (
        {"co.jp": "v=DMARC1; p=none; psd=y"}, "honest.co.jp", "evil.co.jp", Aligned.NO,
    ),
    "the-public-suffix-itself": ({"co.jp": "v=DMARC1; p=none; psd=y"}, "honest.co.jp", "co.jp", Aligned.NO),
    "the-top": ({"example.jp": "v=DMARC1; p=none"}, "example.jp", "jp", Aligned.NO),
    "nobody-says": ({"example.com": "v=DMARC1; p=none", "b.example.com": None}, "example.com", "b.example.com",
                    Aligned.UNKNOWN),
    "a-stranger-says-nothing": ({"example.com": "v=DMARC1; p=none", "b.com": None}, "example.com", "b.com", Aligned.NO),
    "silent-but-the-same": ({"example.com": None}, "example.com", "example.com", Aligned.YES),
    "silent-but-far-away": ({"example.com": None}, "example.com", "example.org", Aligned.NO),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIGNED)
def test_alignment(name: str) -> None:
    zone, domain, other, expected = ALIGNED[name]
    assert Author(domain, Dns(zone).txt).aligned(other, "adkim") is expected


def test_silence_is_no_answer() -> None:
    author = Author("a.example.com", Dns({"example.com": None}).txt)
    assert author.unknown
    assert author.record is None


def test_what_a_domain_says_itself_needs_nobody_above() -> None:
    dns = Dns({"a.example.com": "v=DMARC1; p=none", "example.com": None})
    author = Author("a.example.com", dns.txt)
    assert not author.unknown
    assert dns.asked == ["_dmarc.a.example.com"]
