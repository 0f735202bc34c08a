"""Which names `mailbot check --dns` asks about, for which mix of addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailbot.config import Settings
from mailbot.mail.dkim import generate_key, load_key
from mailbot.office.dnscheck import Finding, Mark, examine, hosts, senders
from mailbot.office.dnscheck.records import zone_line
from mailbot.office.dnscheck.senders import tags
from tests.support.factory import NOW, settings

KEYS = {"r1": load_key(generate_key(ed25519=True)), "old": load_key(generate_key(ed25519=True))}
HOST = "mail.kenpo.example"
ADDRESSES = {
    "robot": "no-reply@info.kaede.example",
    "registration": "touroku@blank.kaede.example",
    "bounce": "bounce@returned.kaede.example",
    "help": "desk@desk.example",
}


@dataclass
class Few:
    """A DNS of a few answers, which notes what it was asked."""

    known: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        self.asked.append((name, kind))
        return self.known.get((name, kind), ())


def world(folder: Path, **site: str) -> Settings:
    given = {"SITE_HOST": f'"{HOST}"', "DKIM_SELECTOR": '"r1"', **site}
    loaded = settings(folder, given)
    shipped = loaded.societies["hpe"]
    kaede = shipped.model_copy(update={"addresses": shipped.addresses.model_copy(update=ADDRESSES)})
    return Settings(loaded.folder, loaded.site, {"kaede": kaede}, loaded.directory)


def found(loaded: Settings, dns: Few | None = None, *addresses: str) -> dict[str, Finding]:
    made = examine(loaded, KEYS, dns or Few(), helo=HOST, addresses=addresses, now=NOW)
    return {one.what: one for one in made}


def test_each_address_brings_the_records_of_its_domain(tmp_path: Path) -> None:
    senders = ("info.kaede.example", "desk.example")
    assert list(found(world(tmp_path), None, "192.0.2.25")) == [
        f"address {HOST}",
        "PTR 192.0.2.25",
        f"SPF {HOST}",
        "pages",
        "STARTTLS",
        "SPF info.kaede.example",
        "DKIM r1._domainkey.info.kaede.example",
        "DKIM old._domainkey.info.kaede.example",
        "DMARC info.kaede.example",
        "MX info.kaede.example",
        "SPF desk.example",
        "DKIM r1._domainkey.desk.example",
        "DKIM old._domainkey.desk.example",
        "DMARC desk.example",
        "MX desk.example",
        "MX blank.kaede.example",
        "SPF returned.kaede.example",
        "MX returned.kaede.example",
    ]
    marks = {what: one.mark for what, one in found(world(tmp_path)).items()}
    assert {marks[f"DKIM r1._domainkey.{domain}"] for domain in senders} == {Mark.MEND}
    assert {marks[f"DKIM old._domainkey.{domain}"] for domain in senders} == {Mark.NOTE}


def test_without_an_address_the_name_s_own_are_taken(tmp_path: Path) -> None:
    dns = Few({(f"{HOST}.", "A"): ("192.0.2.25",), (f"{HOST}.", "AAAA"): ("2001:db8::25",)})
    made = found(world(tmp_path), dns)
    assert "192.0.2.25, 2001:db8::25" in made["outgoing mail"].words
    assert {"PTR 192.0.2.25", "PTR 2001:db8::25"} <= made.keys()
    assert made[f"SPF {HOST}"].paste == (f'{HOST}. IN TXT "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 -all"',)
    assert "an address nobody knows" in found(world(tmp_path))["outgoing mail"].words


@pytest.mark.parametrize(
    ("settled", "mark"),
    [
        ({}, Mark.MEND),
        ({"SMTP_LMTP_LISTEN": '["127.0.0.1:2424"]'}, Mark.NOTE),
        ({"SMTP_TRUSTED_PEERS": '["192.0.2.7"]'}, Mark.NOTE),
        ({"AUTHENTICATION_UPSTREAM_PEERS": '["192.0.2.7"]'}, Mark.NOTE),
    ],
)
def test_an_mx_elsewhere_is_right_where_that_server_hands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: dict[str, str], mark: Mark
) -> None:
    monkeypatch.setattr(hosts, "_starttls", lambda what, *_: Finding(what, Mark.OK, ""))
    dns = Few({("desk.example.", "MX"): ("10 mx.provider.example.",), ("mx.provider.example.", "A"): ("192.0.2.7",)})
    assert found(world(tmp_path, **settled), dns)["MX desk.example"].mark is mark


def test_an_mx_elsewhere_is_right_where_the_robot_fetches_the_mail(tmp_path: Path) -> None:
    dns = Few({("desk.example.", "MX"): ("10 mx.provider.example.",), ("mx.provider.example.", "A"): ("192.0.2.7",)})
    loaded = world(tmp_path)
    mailbox: Any = type("Mailbox", (), {"addresses": ("desk@desk.example",)})()
    fetched = Settings(
        loaded.folder, loaded.site.model_copy(update={"imap": {"desk": mailbox}}), loaded.societies, loaded.directory
    )
    assert found(fetched, dns)["MX desk.example"].mark is Mark.OK
    assert found(fetched, dns)["MX blank.kaede.example"].mark is Mark.MEND


OTHERS = {("_spf.other.example", "TXT"): ("v=spf1 ip4:198.51.100.0/24 -all",)}


@pytest.mark.parametrize(
    ("records", "line"),
    [
        (["v=spf1 include:_spf.other.example ipv4:192.0.2.25 ~all"], "ip4:192.0.2.25 include:_spf.other.example ~all"),
        (["v=spf1 include:_spf.other.example +all"], "ip4:192.0.2.25 include:_spf.other.example ~all"),
        (["v=spf1 ip4:192.0.2.25 include:_spf.other.example ip6:::/0 -all"],
         "ip4:192.0.2.25 include:_spf.other.example -all"),
        (["v=spf1 include:_spf.other.example include:_spf.gone.example -all"],
         "ip4:192.0.2.25 include:_spf.other.example -all"),
        (["v=spf1;include:_spf.other.example;-all"], "ip4:192.0.2.25 include:_spf.other.example -all"),
        (["v=spf1 redirect=_spf.other.example"], "ip4:192.0.2.25 include:_spf.other.example -all"),
        (["v=spf1 ip4:192.0.2.25 exp=a.b.example -all", "v=spf1 include:_spf.other.example exp=c.b.example ~all"],
         "ip4:192.0.2.25 include:_spf.other.example ~all"),
        ([], "ip4:192.0.2.25 -all"),
    ],
)  # fmt: skip
def test_a_mended_spf_record_keeps_the_other_senders(records: list[str], line: str) -> None:
    dns = Few(OTHERS | {("kaede.example.", "TXT"): ("MS=ms1", *records)})
    made = senders.spf(dns, "kaede.example", "sender", ["192.0.2.25"], HOST)
    assert made.paste == (f'kaede.example. IN TXT "v=spf1 {line}"',)


@pytest.mark.parametrize(
    ("records", "line"),
    [
        (["v=DMARC1; p=reject; rua=mailto:d@kaede.example, mailto:e@kaede.example; sp=no"],
         "p=reject; rua=mailto:d@kaede.example, mailto:e@kaede.example"),
        (["v=DMARC1; p=none; p=quarantine; sp=reject; fo=1"], "p=quarantine; sp=reject; fo=1"),
        (["v=dmarc1; P=Reject; adkim=s"], "p=reject; adkim=s"),
        (["v=DMARC1 p=reject rua=mailto:d@kaede.example"], "p=reject; rua=mailto:d@kaede.example"),
        (["v=DMARC1; p=none; rua=mailto:d@kaede.example", "v=DMARC1; p=reject"],
         "p=reject; rua=mailto:d@kaede.example"),
        (["v=DMARC1; rua=mailto:d@kaede.example; what"], "p=none; rua=mailto:d@kaede.example"),
        (["p=reject; redirect=x"], "p=none"),
    ],
)  # fmt: skip
def test_a_mended_dmarc_record_protects_no_less(records: list[str], line: str) -> None:
    made = senders.dmarc(Few({("_dmarc.kaede.example.", "TXT"): tuple(records)}), "kaede.example")
    assert made.paste == (f'_dmarc.kaede.example. IN TXT "v=DMARC1; {line}"',)


def test_a_cname_in_the_way_is_named(tmp_path: Path) -> None:
    reverse = "25.2.0.192.in-addr.arpa."
    dns = Few({(name, "CNAME"): ("gone.example.",) for name in ("r1._domainkey.desk.example.", reverse)})
    made = found(world(tmp_path), dns, "192.0.2.25")
    assert "CNAME" not in made["PTR 192.0.2.25"].words  # RFC 2317
    assert "First remove the CNAME at r1._domainkey.desk.example" in made["DKIM r1._domainkey.desk.example"].words
    assert "CNAME" not in made["DKIM r1._domainkey.info.kaede.example"].words


def test_the_best_servers_in_front_are_asked_for_starttls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def starttls(what: str, endpoint: tuple[str, int], name: str, _now: int, _silent: str) -> Finding:
        asked.append((*endpoint, name))
        return Finding(what, Mark.NOTE if ":" in endpoint[0] else Mark.OK, "")

    monkeypatch.setattr(hosts, "_starttls", starttls)
    dns = Few(
        {
            ("desk.example.", "MX"): ("10 mx.provider.example.", "20 backup.provider.example."),
            ("mx.provider.example.", "AAAA"): ("2001:db8::7",),
            ("mx.provider.example.", "A"): ("192.0.2.7",),
            ("backup.provider.example.", "A"): ("192.0.2.8",),
        }
    )
    assert "TLS mx.provider.example, SMTP" not in found(world(tmp_path), dns)
    made = found(world(tmp_path, SMTP_LMTP_LISTEN='["127.0.0.1:2424"]'), dns)
    assert asked == [("192.0.2.7", 25, "mx.provider.example")]
    assert made["TLS mx.provider.example, SMTP"].mark is Mark.OK


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("v=spf1 -all", 'a.example. IN TXT "v=spf1 -all"'),
        ('say "x\\y"', 'a.example. IN TXT "say \\"x\\\\y\\""'),
        ("a" * 255, f'a.example. IN TXT "{"a" * 255}"'),
        ("a" * 256, f'a.example. IN TXT "{"a" * 255}" "a"'),
        ("", 'a.example. IN TXT ""'),
    ],
)
def test_a_line_of_a_zone_file(value: str, line: str) -> None:
    assert zone_line("a.example.", "TXT", value) == line


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("a=1; b = x y ;", {"a": "1", "b": "x y"}),
        ("a=b=c", {"a": "b=c"}),
        (" ; ;", {}),
        ("a=", {"a": ""}),
    ],
)
def test_tags(text: str, known: dict[str, str]) -> None:
    assert tags(text) == known


@pytest.mark.parametrize("text", ["a", "a=1; b", "a=1; a=2"])
def test_broken_tags(text: str) -> None:
    with pytest.raises(ValueError, match=r"name=value|twice"):
        tags(text)
