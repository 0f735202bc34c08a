"""`mailbot check --dns` on a real unbound: what is right, each way it can be wrong, and lines to paste that mend it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from mailbot.config.site import DnsSection
from mailbot.dns import LookupFailed
from mailbot.office.dnscheck import Answers, Finding, Mark, hosts, senders, unaliased
from tests.support.dns_cases import CASES, COMMON, OWN, V4, V6, Case, Found, domain, owner
from tests.support.documents import section
from tests.support.resolver import Unbound, resolver
from tests.support.robot import Robot
from tests.support.tls import context, starttls_server, tls_server

REVERSE = "25.2.0.192.in-addr.arpa"


def world(records: Found) -> Iterator[Answers]:
    aliased = {name: lines for case in CASES for name, lines in case.zone.items()}
    with resolver(records, failing=["broken.example"], zones_with_aliases={"aliased.example": aliased}) as running:
        yield fresh(running)


def test_check_asks_the_resolver_itself(tmp_path: Path) -> None:
    made = Robot(tmp_path, 1, overrides={"AUTHENTICATION_MODE": '"enforce"', "AUTHENTICATION_PEERS": ""})

    def row(what: str) -> str:
        said = made.command("check", check=False).stdout.splitlines()
        return " ".join(next(line for line in said if f" {what}: " in line).split())

    with resolver({}) as running:
        made.overrides |= running.environment
        assert row("DNS") == f"ok DNS: {running.endpoint} answers"
    assert row("DNS").startswith(f"MEND DNS: {running.endpoint} does not answer")
    made.overrides["SMTP_TLS_CERTIFICATE"] = f'"{tmp_path / "tls.pem"}"'
    (tmp_path / "tls.pem").write_text("no certificate")
    assert row("STARTTLS").startswith(f"MEND STARTTLS: not offered: {tmp_path}/tls.pem cannot be used")
    trustme.CA().issue_cert("mail.kenpo.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls.pem")
    assert row("STARTTLS").startswith("ok STARTTLS")


def fresh(running: Unbound) -> Answers:
    return Answers(DnsSection(servers=(running.endpoint,)))


@pytest.fixture(scope="module")
def published() -> Iterator[Answers]:
    yield from world(COMMON | {owner(c, name): lines for c in CASES for name, lines in c.records.items() if lines})


@pytest.fixture(scope="module")
def mended(published: Answers) -> Iterator[Answers]:
    """The same world after every line was pasted in place of what stood there."""
    records = dict(COMMON)
    for case in CASES:
        records |= {owner(case, name): lines for name, lines in case.records.items() if lines}
        records = pasted(records, unaliased(published, case.look(published, domain(case))))
    yield from world(records)


def pasted(records: Found, found: Finding) -> Found:
    """What a zone holds after somebody did what docs/dns.md and the finding say, and nothing else."""
    made = {name: list(lines) for name, lines in records.items()}
    for name, _, record in (line.partition(". IN ") for line in found.paste):
        aliased = f"First remove the CNAME at {name}" in found.words
        kept = [old for old in made.get(name, []) if not (aliased and old.startswith("CNAME "))]
        assert not any(old.startswith("CNAME ") for old in kept)
        made[name] = [*(old for old in kept if not replaced(name, record, old)), record]
    return made


def replaced(name: str, new: str, old: str) -> bool:
    kind = new.split()[0]
    if kind in ("A", "AAAA"):
        return False
    if kind != "TXT" or "._domainkey." in name:
        return old.startswith(f"{kind} ")
    version = new.removeprefix('TXT "').replace(";", " ").split()[0]  # v=spf1, v=DMARC1
    return old.lower().startswith(f'txt "{version.lower()}')


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_is_found(published: Answers, case: Case) -> None:
    found = case.look(published, domain(case))
    assert found.mark == case.mark, found
    assert case.words in found.words
    assert bool(found.paste) is case.gives_lines


@pytest.mark.parametrize("case", [case for case in CASES if case.gives_lines], ids=lambda case: case.id)
def test_the_lines_to_paste_mend_it(mended: Answers, case: Case) -> None:
    found = case.look(mended, domain(case))
    assert found.mark == case.after, found


REVERSES = {
    "good": ([f"PTR {OWN}."], [f"A {V4}"], "ok", OWN),
    "capitals": ([f"PTR {OWN.upper()}."], [f"A {V4}"], "ok", ""),
    "none": ([], [f"A {V4}"], "MEND", "Gmail"),
    "other-name": (["PTR 25.pool.provider.example."], [f"A {V4}"], "MEND", "the relay greets as"),
    "not-confirmed": ([f"PTR {OWN}."], ["A 198.51.100.25"], "MEND", "says 198.51.100.25"),
    "to-nowhere": ([f"PTR {OWN}."], [], "MEND", "says nothing"),
}


def test_the_name_of_an_address() -> None:
    for name, (reverse, forward, mark, words) in REVERSES.items():
        records = {name: lines for name, lines in ((REVERSE, reverse), (OWN, forward)) if lines}
        with resolver(records) as running:
            found = hosts.reverse(fresh(running), V4, OWN)
        assert found.mark == mark, name
        assert words in found.words, name
        if found.mark is Mark.MEND:
            with resolver(pasted(records, found)) as running:
                assert hosts.reverse(fresh(running), V4, OWN).mark is Mark.OK, name


def test_no_answer_is_not_an_empty_answer(published: Answers) -> None:
    with pytest.raises(LookupFailed, match=r"broken\.example"):
        published.ask("x.broken.example.", "TXT")
    assert published.ask("x.nowhere.example.", "TXT") == ()


def test_the_lines_of_the_document_are_right() -> None:
    lines = re.findall(r"^(\S+\. IN .+)$", section("dns.md", "What has to be there"), re.MULTILINE)
    with resolver(pasted({}, Finding("", Mark.MEND, "", tuple(lines)))) as running:
        dns = fresh(running)
        found = [
            hosts.host(dns, OWN, "outgoing mail", [V4]),
            hosts.reverse(dns, V4, OWN),
            senders.spf(dns, OWN, "greeting", [V4], OWN, greeting=True),
            senders.spf(dns, "momiji.example", "sender", [V4], OWN),
            senders.dmarc(dns, "momiji.example"),
            hosts.mail_in(dns, "momiji.example", OWN, "blank mails", here=True, behind=False),
        ]
    assert [one.mark for one in found] == [Mark.OK] * len(lines), found


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("name", "days", "known", "mark", "words"),
    [
        (OWN, 20, True, "ok", "good until"),
        (OWN, 13, True, "MEND", "in less than 14 days"),
        (OWN, -1, True, "MEND", "expired"),
        ("other.example", 20, True, "MEND", "mismatch"),
        (OWN, 20, False, "MEND", "unable to get local issuer"),
    ],
)
def test_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, known: bool, mark: str, words: str
) -> None:
    ca = trustme.CA()
    (ca if known else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = context(ca, name, NOW + timedelta(days=days))
    now = int(NOW.timestamp() * 1000)
    here = Few({(f"{OWN}.", "A"): ("127.0.0.1",)})
    with tls_server(tls) as web, starttls_server(tls) as smtp:
        for found in (hosts.web_certificate(here, OWN, web, now), hosts.smtp_certificate(("0.0.0.0", smtp), OWN, now)):
            assert found.mark == mark, found
            assert words in found.words


@dataclass
class Few:
    """A DNS of a few answers."""

    known: dict[tuple[str, str], tuple[str, ...]]

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        return self.known.get((name, kind), ())


def test_every_address_of_the_pages_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with tls_server(context(ca, OWN)) as port:
        here = Few({(f"{OWN}.", "A"): ("127.0.0.1", "127.0.0.9")})
        found = hosts.web_certificate(here, OWN, port, int(NOW.timestamp() * 1000))
    assert found.mark is Mark.MEND
    assert "no TLS at 127.0.0.9" in found.words


def test_the_server_in_front_is_asked_for_starttls() -> None:
    here = Few({(f"{OWN}.", "A"): ("127.0.0.1",)})
    with starttls_server(None) as port:
        assert "offers no STARTTLS" in hosts.front_certificate(here, OWN, 0, port).words
    closed = hosts.front_certificate(here, OWN, 0, port)
    assert (closed.mark, "can this machine reach port 25" in closed.words) == (Mark.NOTE, True)
    assert hosts.front_certificate(Few({}), OWN, 0).mark is Mark.NOTE


def test_doors_without_tls() -> None:
    here = Few({(f"{OWN}.", "A"): ("127.0.0.1",)})
    with starttls_server(None) as port:
        assert "offers no STARTTLS" in hosts.smtp_certificate(("127.0.0.1", port), OWN, 0).words
        assert hosts.web_certificate(here, OWN, port, 0).mark is Mark.MEND
    closed = hosts.smtp_certificate(("127.0.0.1", port), OWN, 0)
    assert (closed.mark, "is the robot running?" in closed.words) == (Mark.NOTE, True)
    assert "no TLS at 127.0.0.1" in hosts.web_certificate(here, OWN, port, 0).words
    assert "no address" in hosts.web_certificate(Few({}), OWN, port, 0).words


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    arguments = ("check", "--dns", "--address", V4, "--address", V6)
    with tls_server(context(ca, "pages.kenpo.example")) as port, resolver({}) as nothing:
        url = f'"https://pages.kenpo.example:{port}"'
        settings = {"SITE_HOST": f'"{OWN}"', "SITE_WEB_URL": url, "DKIM_ED25519_SELECTOR": '"e1"'}
        robot = Robot(tmp_path, 9, overrides=settings | nothing.environment)
        without = json.loads(robot.command(*arguments, "--json", check=False).stdout)
        assert [row["words"].partition(": ")[2][:24] for row in without if row["what"] == "DKIM key"] == [
            "this DKIM key is missing"
        ] * 2
        assert "._domainkey." not in str(without)
        assert "DKIM: no key yet" in robot.command("check", check=False).stdout
        assert "this DKIM key is missing" in robot.command("keys", "dkim", check=False).stderr
        made = robot.command("keys", "dkim", "--make").stdout
        before = robot.command(*arguments, "--json", check=False)
        assert before.returncode == 1
        rows = json.loads(before.stdout)
        assert {row["what"] for row in rows if row["mark"] == "MEND"} >= {
            f"address {OWN}", f"PTR {V4}", f"PTR {V6}", "address pages.kenpo.example", "SPF hpe.example",
            "DKIM mailbot1._domainkey.hpe.example", "DKIM e1._domainkey.hpe.example", "DMARC hpe.example",
            "MX hpe.example",
        }  # fmt: skip
        assert all(row["ok"] is (row["mark"] != "MEND") for row in rows)
        lines = tuple(line for row in rows for line in row["paste"])
        todo = Finding("", Mark.MEND, "", lines)
        printed = robot.command("keys", "dkim").stdout.splitlines()
        assert made.splitlines() == printed
        assert set(printed) == {line for line in lines if "._domainkey." in line}
        assert "mailbot2" in robot.command("keys", "dkim-rotate").stdout
        with resolver(pasted({"pages.kenpo.example": ["A 127.0.0.1"]}, todo)) as everything:
            robot.overrides |= everything.environment
            after = robot.command(*arguments, check=False)
    assert after.returncode == 0, after.stdout + after.stderr
    assert "MEND" not in after.stdout
    said = after.stdout.splitlines()
    assert f"ok    PTR {V6}: {OWN}, and {OWN} says {V6}" in said
    assert "ok    DKIM e1._domainkey.hpe.example: our key" in said
    waiting = [line for line in said if line.startswith("NOTE  DKIM mailbot2._domainkey.hpe.example")]
    assert "does not sign" in waiting[0]
    assert any(line.startswith("      mailbot2._domainkey.hpe.example. IN TXT ") for line in said)


def test_a_dns_that_is_away_is_asked_no_further(tmp_path: Path) -> None:
    robot = Robot(tmp_path, 9, overrides={"DNS_SERVERS": '["127.0.0.1:9"]', "DNS_QUERY_SECONDS": "1"})
    done = robot.command("check", "--dns", "--address", V4, check=False)
    assert done.returncode == 1
    assert done.stdout.count("the DNS does not answer") == 2
    assert "nothing more was asked" in done.stdout.splitlines()[-1]
    assert robot.command("check", "--dns", "--address", "here", check=False).returncode == 2
