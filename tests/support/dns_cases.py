"""What names can say in the DNS, right and wrong, and what `mailbot check --dns` must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailbot.mail.dkim import dns_record, generate_key, load_key
from mailbot.office.dnscheck import hosts, senders
from mailbot.office.dnscheck.finding import Finding
from mailbot.office.dnscheck.questions import Dns
from mailbot.office.dnscheck.records import zone_line

OWN = "mail.kenpo.example"
V4, V6 = "192.0.2.25", "2001:db8:100::25"
KEY, OTHER = load_key(generate_key()), load_key(generate_key())
ED25519 = load_key(generate_key(ed25519=True))
P = dns_record(KEY).partition("p=")[2]
Found = dict[str, list[str]]
Look = Callable[[Dns, str], Finding]

COMMON: Found = {
    OWN: [f"A {V4}", f"AAAA {V6}"],
    "mx.elsewhere.example": ["A 198.51.100.1"],
    "alias.elsewhere.example": ["CNAME mx.elsewhere.example."],
    "_spf.provider.example": ['TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"'],
    "_spf.other.example": ['TXT "v=spf1 ip4:198.51.100.0/24 -all"'],
    **{f"i{n}.provider.example": ['TXT "v=spf1 ip4:198.51.100.9 -all"'] for n in range(11)},
}


def text(value: str) -> str:
    """TXT in the form of a zone file."""
    return zone_line("x.", "TXT", value).removeprefix("x. IN ")


@dataclass(frozen=True)
class Case:
    """`records`: name below the domain ('' for itself) -> records. `look` gets the domain."""

    id: str
    records: dict[str, list[str]]
    look: Look
    mark: str
    words: str = ""
    pasted: bool | None = None  # whether a line to paste is given; by default where something is amiss
    zone: Found = field(default_factory=dict)
    after: str = "ok"  # what is found once the lines were put in

    @property
    def gives_lines(self) -> bool:
        return self.mark != "ok" if self.pasted is None else self.pasted


def spf(*addresses: str) -> Look:
    return lambda dns, domain: senders.spf(dns, domain, "sender", addresses, OWN)


def spf_case(id_: str, record: str | list[str] | None, mark: str, words: str = "", pasted: bool | None = None) -> Case:
    texts = [record] if isinstance(record, str) else record or []
    return Case(f"spf-{id_}", {"": [text(t) for t in texts]}, spf(V4), mark, words, pasted)


def greeting(dns: Dns, domain: str) -> Finding:
    return senders.spf(dns, domain, "greeting", [V4], domain, greeting=True)


SPF = [
    spf_case("good", f"v=spf1 ip4:{V4} -all", "ok", f"covers {V4}"),
    spf_case("good-soft", f"v=spf1 ip4:{V4} ~all", "ok"),
    spf_case("good-by-include", "v=spf1 include:_spf.provider.example -all", "ok"),
    spf_case("good-by-name", f"v=spf1 a:{OWN} -all", "ok"),
    spf_case("good-beside-others", ["google-site-verification=x", f"v=spf1 ip4:{V4} -all"], "ok"),
    spf_case("good-in-capitals", f"V=SPF1 IP4:{V4} -ALL", "ok"),
    spf_case("good-and-long", " ".join(["v=spf1", *(f"ip4:198.51.100.{n}" for n in range(25)), f"a:{OWN} -all"]), "ok"),
    spf_case("none", None, "MEND", "docomo and au"),
    spf_case("only-others", ["google-site-verification=x"], "MEND", "no record"),
    spf_case("two", ["v=spf1 ip4:198.51.100.1 ~all", "v=spf1 a:mx.elsewhere.example -all"], "MEND", "2 SPF records"),
    spf_case("does-not-cover", "v=spf1 ip4:198.51.100.1 -all", "MEND", f"does not let {V4} send"),
    spf_case("does-not-cover-by-redirect", "v=spf1 redirect=_spf.other.example", "MEND", "does not let"),
    spf_case("broken-address", "v=spf1 ip4:192.0.2.999 -all", "MEND", "Invalid IP4 address"),
    spf_case("broken-word", f"v=spf1 ipv4:{V4} -all", "MEND", "Unknown mechanism"),
    spf_case("with-control-characters", f"v=spf1 ip4:{V4} \x1b[2J -all", "MEND", "is broken"),
    spf_case("not-ascii", f"v=spf1 ip4:{V4} 。 -all", "MEND", "is broken"),
    spf_case("no-space", f"v=spf1;ip4:{V4};-all", "MEND", "is not an SPF record"),
    spf_case("quoted-twice", f'"v=spf1 ip4:{V4} -all"', "MEND", "is not an SPF record"),
    spf_case(
        "too-many-look-ups", " ".join(["v=spf1", *(f"include:i{n}.provider.example" for n in range(11)), "-all"]),
        "MEND", "would still be broken (Too many DNS lookups", False,
    ),
    spf_case("everybody-by-ipv6", f"v=spf1 ip4:{V4} ip6:::/0 -all", "MEND", "lets everybody send"),
    spf_case("everybody", "v=spf1 +all", "MEND", "lets everybody send"),
    spf_case("everybody-after-us", f"v=spf1 ip4:{V4} all", "MEND", "lets everybody send"),
    spf_case("no-end", f"v=spf1 ip4:{V4}", "NOTE", "-all or ~all"),
    spf_case("neutral-end", f"v=spf1 ip4:{V4} ?all", "NOTE", "-all or ~all"),
    spf_case("a-name-fails", "v=spf1 include:broken.example -all", "MEND", "cannot be looked up", pasted=False),
    Case("spf-both-good", {"": [text(f"v=spf1 a:{OWN} -all")]}, spf(V4, V6), "ok", V6),
    Case("spf-v6-forgotten", {"": [text(f"v=spf1 ip4:{V4} -all")]}, spf(V4, V6), "MEND", f"does not let {V6}"),
    Case("spf-unknown-address", {"": [text(f"v=spf1 ip4:{V4} -all")]}, spf(), "NOTE", "--address", False),
    # stays a note: nobody knows where the mail comes from
    Case("spf-unknown-address-none", {}, spf(), "MEND", "no record", after="NOTE"),
    Case("spf-unknown-address-broken", {"": [text("v=spf1 mx foo -all")]}, spf(), "MEND", "is broken", after="NOTE"),
    Case("greeting-good", {"": [text(f"v=spf1 ip4:{V4} -all")]}, greeting, "ok"),
    Case("greeting-none", {}, greeting, "NOTE", "bounces"),
    Case("greeting-wrong", {"": [text("v=spf1 -all")]}, greeting, "MEND", "does not let"),
]  # fmt: skip


def signed(dns: Dns, domain: str) -> Finding:
    return senders.dkim(dns, domain, "s1", KEY, signs=True)


def dkim_case(id_: str, record: str | list[str], mark: str, words: str = "") -> Case:
    texts = [record] if isinstance(record, str) else record
    return Case(f"dkim-{id_}", {"s1._domainkey": [text(t) for t in texts]}, signed, mark, words)


DKIM = [
    dkim_case("good", dns_record(KEY), "ok", "our key"),
    dkim_case("good-short", f"p={P}", "ok"),
    dkim_case("good-spaced", f"v=DKIM1 ; k = rsa ;h=sha1:sha256; s=email; p={P[:50]} {P[50:]} ;", "ok"),
    dkim_case("none", [], "MEND", "no record"),
    Case(
        "dkim-alias-to-nowhere",
        {"s1._domainkey": ["CNAME s1.gone.example."]},
        signed,
        "MEND",
        "points to s1.gone.example",
    ),
    dkim_case("two", [dns_record(KEY), dns_record(OTHER)], "MEND", "2 records"),
    dkim_case("another-key", dns_record(OTHER), "MEND", "another key"),
    dkim_case("revoked", "v=DKIM1; k=rsa; p=", "MEND", "revoked"),
    dkim_case("no-p", "v=DKIM1; k=rsa", "MEND", "is missing"),
    dkim_case("cut-off", dns_record(KEY)[:255], "MEND", f"cut off: {255 - len('v=DKIM1; k=rsa; p=')} of {len(P)}"),
    dkim_case("garbled", f"v=DKIM1; k=rsa; p={P[:40]}!{P[41:]}", "MEND", "not base64"),
    dkim_case("pem-pasted", f"v=DKIM1; k=rsa; p=-----BEGIN PUBLIC KEY-----{P}", "MEND", "not base64"),
    dkim_case("other-algorithm", dns_record(ED25519), "MEND", "k=ed25519"),
    dkim_case("only-sha1", f"v=DKIM1; h=sha1; p={P}", "MEND", "forbids sha256"),
    dkim_case("not-for-mail", f"v=DKIM1; s=tlsrpt; p={P}", "MEND", "forbids mail"),
    dkim_case("version", f"v=DKIM2; p={P}", "MEND", "v=DKIM1"),
    dkim_case("version-last", f"k=rsa; p={P}; v=DKIM1", "MEND", "must stand first"),
    dkim_case("twice", f"v=DKIM1; p={P}; p={P}", "MEND", "twice"),
    dkim_case("no-record-at-all", "hello", "MEND", "not a DKIM record"),
    dkim_case("test", f"v=DKIM1; t=y:s; p={P}", "NOTE", "t=y"),
    Case(
        "dkim-alias-good",
        {},
        lambda dns, domain: senders.dkim(dns, "aliased.example", "s1", KEY, signs=True),
        "ok",
        zone={
            "s1._domainkey.aliased.example": ["CNAME k.aliased.example."],
            "k.aliased.example": [text(dns_record(KEY))],
        },
    ),
    Case(
        "ed25519-good",
        {"e1._domainkey": [text(dns_record(ED25519))]},
        lambda dns, domain: senders.dkim(dns, domain, "e1", ED25519, signs=True),
        "ok",
    ),
    Case(
        "ed25519-none",
        {},
        lambda dns, domain: senders.dkim(dns, domain, "e1", ED25519, signs=True),
        "MEND",
        "no record",
    ),
    Case(
        "dkim-next-key-not-yet-there",
        {},
        lambda dns, domain: senders.dkim(dns, domain, "s2", OTHER, signs=False),
        "NOTE",
        "does not sign",
    ),
]


def dmarc_case(id_: str, record: str | list[str] | None, mark: str, words: str = "", below: str = "") -> Case:
    texts = [record] if isinstance(record, str) else record or []
    return Case(
        f"dmarc-{id_}",
        {"_dmarc": [text(t) for t in texts]},
        lambda dns, domain: senders.dmarc(dns, below + domain),
        mark,
        words,
    )


DMARC = [
    dmarc_case("reject", "v=DMARC1; p=reject; rua=mailto:d@kenpo.example", "ok", "p=reject"),
    dmarc_case("none-yet", "v=DMARC1;p=none", "ok", "go on to reject"),
    dmarc_case("capitals", "v=DMARC1; p=Quarantine;", "ok"),
    dmarc_case("beside-others", ["v=spf1 -all", "v=DMARC1; p=none"], "ok"),
    dmarc_case("of-the-parent", "v=DMARC1; p=reject", "ok", "the record of", below="info.mail."),
    dmarc_case("of-the-parent-for-below", "v=DMARC1; p=reject; sp=none", "ok", "p=none", below="info."),
    dmarc_case("absent", None, "MEND", "yellow bar"),
    dmarc_case("absent-below", None, "MEND", "5,000", below="info."),
    dmarc_case("no-p", "v=DMARC1; rua=mailto:d@kenpo.example", "MEND", "p= (what to do"),
    dmarc_case("wrong-p", "v=DMARC1; p=block", "MEND", "p=block"),
    dmarc_case("wrong-sp", "v=DMARC1; p=none; sp=no", "MEND", "sp=no"),
    dmarc_case("small-letters", "v=dmarc1; p=none", "MEND", "in capitals"),
    dmarc_case("no-semicolon", "v=DMARC1 p=none", "MEND", "in capitals"),
    dmarc_case("two", ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "MEND", "2 DMARC records"),
    dmarc_case("twice", "v=DMARC1; p=none; p=reject", "MEND", "twice"),
    dmarc_case("word", "v=DMARC1; reject", "MEND", "'reject' is not name=value"),
    dmarc_case("not-dmarc", "p=none", "MEND", "is not a DMARC record"),
    Case(
        "dmarc-stray-text-below",
        {"_dmarc.info": [text("hello")], "_dmarc": [text("v=DMARC1; p=reject")]},
        lambda dns, domain: senders.dmarc(dns, "info." + domain),
        "ok",
        "p=reject (the record of",
    ),
    Case(
        "dmarc-stray-text-alone",
        {"_dmarc.info": [text("hello")]},
        lambda dns, domain: senders.dmarc(dns, "info." + domain),
        "MEND",
        "'hello' is not a DMARC record",
    ),
]


def mail_in(*, here: bool = True, behind: bool = False) -> Look:
    return lambda dns, domain: hosts.mail_in(dns, domain, OWN, "blank mails", here=here, behind=behind)


def mx_case(id_: str, records: list[str], look: Look, mark: str, words: str = "", pasted: bool | None = None) -> Case:
    return Case(f"mx-{id_}", {"": records}, look, mark, words, pasted)


MX = [
    mx_case("good", [f"MX 10 {OWN}."], mail_in(), "ok", OWN),
    mx_case("good-of-two", ["MX 20 mx.elsewhere.example.", f"MX 10 {OWN.upper()}."], mail_in(), "ok"),
    mx_case("prefers-another", ["MX 10 mx.elsewhere.example.", f"MX 20 {OWN}."], mail_in(), "MEND", "not reach"),
    mx_case("half-of-it", ["MX 10 mx.elsewhere.example.", f"MX 10 {OWN}."], mail_in(), "MEND", "not reach"),
    mx_case("none", [], mail_in(), "MEND", "no record"),
    mx_case("none-with-a-server-in-front", [], mail_in(behind=True), "MEND", "no record", False),
    mx_case("nowhere-with-a-server-in-front", ["MX 10 gone.example."], mail_in(behind=True), "MEND", "", False),
    Case(
        "mx-one-of-two-with-a-server-in-front",
        {"": ["MX 10 gone.example.", "MX 20 mx.elsewhere.example."]},
        mail_in(behind=True),
        "MEND",
        "gone.example has no address",
        after="NOTE",
    ),
    mx_case("none-but-address", [f"A {V4}"], mail_in(), "MEND", "no record"),
    mx_case("none-and-elsewhere", [], mail_in(here=False), "MEND", "no record", False),
    mx_case("takes-no-mail", ["MX 0 ."], mail_in(), "MEND", "takes no mail"),
    mx_case("takes-no-mail-elsewhere", ["MX 0 ."], mail_in(here=False), "MEND", "takes no mail", False),
    mx_case("alias", ["MX 10 alias.elsewhere.example."], mail_in(), "MEND", "is an alias"),
    mx_case("nowhere", ["MX 10 gone.example."], mail_in(), "MEND", "has no address"),
    mx_case("elsewhere", ["MX 10 mx.elsewhere.example."], mail_in(), "MEND", "mail to it does not reach the robot"),
    mx_case(
        "a-server-in-front", ["MX 10 mx.elsewhere.example."], mail_in(behind=True), "NOTE", "hands the mail", False
    ),
    mx_case("a-mailbox-elsewhere", ["MX 10 mx.elsewhere.example."], mail_in(here=False), "ok"),
]

HOSTS = [
    Case("host-good", {"": [f"A {V4}"]}, lambda dns, d: hosts.host(dns, d, "outgoing mail", [V4]), "ok", V4),
    Case("host-none", {}, lambda dns, d: hosts.host(dns, d, "outgoing mail", [V4, V6]), "MEND", "nobody can reach it"),
    Case("host-none-unknown", {}, lambda dns, d: hosts.host(dns, d, "pages", []), "MEND", "no A or AAAA", False),
]

CASES = [*SPF, *DKIM, *DMARC, *MX, *HOSTS]


def domain(case: Case) -> str:
    return f"{case.id}.example"


def owner(case: Case, name: str) -> str:
    return f"{name}.{domain(case)}" if name else domain(case)
