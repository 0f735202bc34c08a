"""Mail to relays as they are: TLS, logins, certificates, Postfix."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme
import uvloop

from mailbot.config.site import RelaySection
from mailbot.delivery.relay import Relay, SmtpRelay
from mailbot.delivery.relays import open_relay, servers
from mailbot.delivery.server import reach
from mailbot.mail.address import Address
from mailbot.mail.status import Effect, Outcome, OutcomeKind, Stage
from tests.support.postfix import Postfix, postfix
from tests.support.robot import Robot, invitation, robot
from tests.support.sink import CLOSE, HANG, Sink, sink
from tests.support.submission import certificates, submission

MEMBER = Address("hanako", "docomo.ne.jp")
MESSAGE = b"Subject: x\r\n\r\n.one dot\r\nend\r\n"
BOUNCE = "bounce@example.jp"
TOUROKU = "touroku@yokokou.example"
USERS = {"robot@example.jp": "correct horse"}


def section(url: str, folder: Path, password: str = "correct horse", **more: object) -> RelaySection:
    secrets = folder / "netrc"
    secrets.write_text(f'machine localhost login robot@example.jp password "{password}"\n')
    secrets.chmod(0o600)
    return RelaySection.model_validate({"url": url, "netrc": secrets, "ca_file": folder / "ca.pem", **more})


async def send(relay: Relay, **more: object) -> Outcome:
    return await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=10, **more)  # type: ignore[arg-type]  # any of its options


async def closed(relay: Relay) -> None:
    await relay.close()
    await asyncio.sleep(0.05)  # TLS says good-bye


@pytest.mark.parametrize(("scheme", "implicit"), [("smtp+starttls", False), ("smtps", True)])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_login_over_tls(tmp_path: Path, scheme: str, implicit: bool, mechanism: str) -> None:
    context, _ = certificates(tmp_path, "localhost")
    without = ("PLAIN",) if mechanism == "LOGIN" else ()
    async with submission(context, USERS, implicit=implicit, without=without) as server:
        relay = open_relay(section(f"{scheme}://robot@example.jp@localhost:{server.port}", tmp_path), "robot.test")
        for _ in range(2):
            outcome = await send(relay)
            assert outcome.kind is OutcomeKind.DELIVERED, outcome
        await closed(relay)
    assert server.mails == [(BOUNCE, "hanako@docomo.ne.jp", MESSAGE, "robot@example.jp")] * 2
    assert server.logins == [mechanism]  # the second mail took the kept connection


async def test_a_wrong_password_is_said_and_stops_nothing_else(tmp_path: Path) -> None:
    context, _ = certificates(tmp_path, "localhost")
    async with submission(context, USERS) as server:
        wrong = section(f"smtp+starttls://robot%40example.jp@localhost:{server.port}", tmp_path, "battery staple")
        relay = open_relay(wrong, "robot.test")
        outcome = await send(relay)
        assert (outcome.kind, outcome.effect, outcome.stage) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, Stage.AUTH)
        assert str(outcome.status).startswith("535 5.7.8")
        ok, words = await reach(servers(wrong, "robot.test")[0], [BOUNCE], 5)
        assert not ok
        assert "535 5.7.8" in words
        assert "relay.netrc" in words
        assert "battery" not in words + str(outcome)
        await closed(relay)
    assert server.mails == []


@pytest.mark.parametrize(
    ("names", "trusted", "words"),
    [(("other.example",), True, "ostname mismatch"), (("localhost",), False, "issuer certificate")],
)
@pytest.mark.parametrize(("scheme", "implicit"), [("smtp+starttls", False), ("smtps", True)])
def test_a_certificate_that_proves_nothing(
    tmp_path: Path, names: tuple[str, ...], trusted: bool, words: str, scheme: str, implicit: bool
) -> None:
    async def conversation() -> None:
        context, _ = certificates(tmp_path, *names)
        if not trusted:  # somebody else's authority
            trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
        async with submission(context, USERS, implicit=implicit) as server:
            found = section(f"{scheme}://robot@example.jp@localhost:{server.port}", tmp_path)
            relay = open_relay(found, "robot.test")
            outcome = await send(relay)
            assert (outcome.kind, outcome.effect, outcome.stage) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, Stage.TLS)
            assert "its certificate is not accepted" in outcome.status.text
            assert words in outcome.status.text
            ok, said = await reach(servers(found, "robot.test")[0], [BOUNCE], 5)
            assert not ok
            assert "relay.ca_file" in said
            await closed(relay)
        assert server.logins == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(conversation())


async def test_pipelining_over_tls_on_a_kept_connection(tmp_path: Path) -> None:
    context, _ = certificates(tmp_path, "localhost")
    async with sink(tls=context) as server:
        relay = open_relay(section(f"smtps://localhost:{server.port}", tmp_path), "robot.test")
        for _ in range(3):
            assert (await send(relay)).kind is OutcomeKind.DELIVERED
        await closed(relay)
    assert [(mail.session, mail.content) for mail in server.mails] == [(1, MESSAGE)] * 3


async def test_without_starttls_nothing_is_said(tmp_path: Path, smtp_sink: Sink) -> None:
    certificates(tmp_path, "localhost")
    asked: list[str] = []
    smtp_sink.rule = lambda stage, _: asked.append(stage)
    found = section(f"smtp+starttls://robot@example.jp@localhost:{smtp_sink.port}", tmp_path)
    relay = open_relay(found, "robot.test")
    outcome = await send(relay)
    assert (outcome.kind, outcome.effect, outcome.stage) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, Stage.TLS)
    assert "offers no STARTTLS" in outcome.status.text
    assert asked == ["connect", "ehlo"]


@pytest.mark.parametrize(
    ("stage", "answer", "words"),
    [
        (Stage.TLS, "454 4.7.0 TLS not available", "TLS not available"),
        (Stage.TLS, "502 5.5.1 what?", "what?"),
        (Stage.TLS, "220 2.0.0 go ahead, in plain text", "TLS failed"),
        (Stage.TLS, CLOSE, "connection lost at tls"),
        (Stage.TLS, HANG, "no answer in time"),
        (Stage.AUTH, "535 5.7.8 no", "no"),
        (Stage.AUTH, "454 4.7.0 later", "later"),
        (Stage.AUTH, CLOSE, "connection lost at auth"),
        (Stage.AUTH, HANG, "no answer in time"),
    ],
)
async def test_a_server_that_fails_on_the_way_in(tmp_path: Path, stage: Stage, answer: str, words: str) -> None:
    context, _ = certificates(tmp_path, "localhost")
    late = stage is Stage.AUTH
    async with sink(tls=context if late else None) as server:
        server.extensions = ("AUTH PLAIN",) if late else ("STARTTLS",)
        scheme = "smtps" if late else "smtp+starttls"
        found = section(f"{scheme}://robot@example.jp@localhost:{server.port}", tmp_path)
        relay = SmtpRelay(servers(found, "robot.test")[0], 1, 0.3)
        server.answer("other", answer)
        outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=0.6)
        assert (outcome.kind, outcome.effect, outcome.stage) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, stage)
        assert words in outcome.status.text
        await closed(relay)
    assert server.mails == []


async def test_mail_leaves_our_own_network_encrypted_only(
    tmp_path: Path, smtp_sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates(tmp_path, "localhost")
    found = section(f"smtp://localhost:{smtp_sink.port}", tmp_path)
    relay = open_relay(found, "robot.test")
    assert (await send(relay)).kind is OutcomeKind.DELIVERED
    await relay.close()
    monkeypatch.setattr("mailbot.delivery.server.at_home", lambda address: False)
    abroad = open_relay(found, "robot.test")
    outcome = await send(abroad)
    assert (outcome.effect, outcome.stage) == (Effect.OUR_FAULT, Stage.TLS)
    assert len(smtp_sink.mails) == 1


@pytest.fixture(scope="module")
def encrypting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postfix, Path]]:
    """A Postfix that insists on STARTTLS and discards what it takes, and the folder of its certificates."""
    folder = tmp_path_factory.mktemp("postfix-tls")
    certificates(folder, "localhost")
    settings = {
        "smtpd_tls_chain_files": f"{folder}/key.pem, {folder}/chain.pem",
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_received_header": "yes",
    }
    with postfix(settings=settings) as running:
        yield running, folder


async def test_postfix_with_starttls(encrypting: tuple[Postfix, Path]) -> None:
    server, folder = encrypting
    found = section(f"smtp+starttls://localhost:{server.port}", folder)
    ok, words = await reach(servers(found, "robot.test")[0], [BOUNCE], 10)
    assert ok, words
    assert "encrypted (TLSv1.3" in words
    assert "PIPELINING, DSN" in words  # what is offered after STARTTLS, not before
    relay = open_relay(found, "robot.test")
    for number in range(3):
        outcome = await send(relay, envelope_id=f"abcdefghijkl{number}")
        assert (outcome.kind, outcome.status.enhanced) == (OutcomeKind.DELIVERED, "2.0.0"), outcome
    await closed(relay)
    async with asyncio.timeout(20):
        while server.log().count("status=sent") < 3:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)
    log = server.log()
    assert log.count(": connect from") == 3  # the start of the test, the look, and one for three mails
    plain = open_relay(section(f"smtp://localhost:{server.port}", folder), "robot.test")
    refused = await send(plain)
    assert (refused.kind, refused.effect, refused.status.code) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, 530)
    await closed(plain)


REFUSALS = {
    "454": {
        "mynetworks": "192.0.2.0/24",
        "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
    },
    "554": {"smtpd_client_restrictions": "reject"},
    "504": {"smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname"},
    "550": {"smtpd_sender_restrictions": "check_sender_access static:{550 not yours}"},
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_postfix_that_does_not_want_us_says_so_at_the_recipient(code: str) -> None:
    with postfix(settings=REFUSALS[code]) as server:
        found = RelaySection(url=f"smtp://127.0.0.1:{server.port}")
        relay = open_relay(found, "robot")
        outcome = await send(relay)
        assert (outcome.kind, outcome.effect, outcome.stage) == (OutcomeKind.DEFERRED, Effect.OUR_FAULT, Stage.RCPT)
        assert str(outcome.status).startswith(code)
        ok, words = await reach(servers(found, "robot")[0], [BOUNCE], 10)
        assert not ok
        assert f"refuses us: {code} " in words
        await relay.close()


async def test_the_robot_gives_mails_to_the_fallback_where_postfix_does_not_relay(tmp_path: Path) -> None:
    async with sink() as second:
        with postfix(settings=REFUSALS["454"]) as first:
            overrides = {"RELAY_FALLBACK": f'["smtp://127.0.0.1:{second.port}"]'}
            async with robot(tmp_path, first.port, overrides=overrides) as made:
                await invitation(made, second, "a@phone.example", TOUROKU)
                said = (await asyncio.to_thread(made.command, "check", check=False)).stdout
                alarms = (await asyncio.to_thread(made.command, "alarm", "list")).stdout
    lines = [" ".join(line.split()) for line in said.splitlines() if " relay" in line]
    assert lines[0].startswith(f"MEND relay: 127.0.0.1:{first.port} refuses us: 454 4.7.1"), said
    assert lines[1].startswith("ok fallback relay 1"), said
    assert "relay-failed" in alarms


async def test_what_a_relay_thinks_of_a_recipient_is_no_reason(smtp_sink: Sink) -> None:
    said: list[str] = []
    smtp_sink.rule = lambda stage, line: said.append(f"{stage} {line}")
    smtp_sink.answer("rcpt", "550 5.1.2 no such domain", "250 2.1.5 ok")
    server = servers(RelaySection(url=f"smtp://127.0.0.1:{smtp_sink.port}"), "robot.test")[0]
    assert (await reach(server, [BOUNCE, "b@x.example"], 5))[0]
    await smtp_sink.idle()
    assert [word for word in said if word.startswith("mail")] == [
        f"mail MAIL FROM:<{one}>" for one in (BOUNCE, "b@x.example")
    ]
    assert smtp_sink.mails == []


async def test_postfix_returns_what_names_the_mail(smtp_sink: Sink) -> None:
    """The envelope id goes on to whom Postfix hands the mail, and so comes back in reports."""
    said: list[str] = []
    smtp_sink.extensions = ("PIPELINING", "DSN")
    smtp_sink.rule = lambda stage, line: said.append(line) if stage in ("mail", "rcpt") else None
    with postfix(relay_port=smtp_sink.port) as server:
        relay = open_relay(RelaySection(url=f"smtp://127.0.0.1:{server.port}"), "robot.test")
        outcome = await send(relay, envelope_id="abcdefghijklm")
        assert outcome.kind is OutcomeKind.DELIVERED
        await smtp_sink.wait(1)
        await relay.close()
    assert said[0].startswith(f"MAIL FROM:<{BOUNCE}>")
    assert {"RET=HDRS", "ENVID=abcdefghijklm"} <= set(said[0].split())
    assert "NOTIFY=FAILURE" in said[1]


async def test_a_killed_relay_is_replaced_and_nothing_is_doubled(tmp_path: Path) -> None:
    async with sink() as first, sink() as second:
        urls = [f"smtp://127.0.0.1:{server.port}" for server in (first, second)]
        relay = open_relay(RelaySection(url=urls[0], fallback=(urls[1],)), "robot.test")
        sent = [f"m{number}" for number in range(40)]
        outcomes: list[Outcome] = []

        async def one(name: str) -> None:
            if name == "m20":
                first.kill()
            message = f"Subject: {name}\r\n\r\n".encode()
            outcomes.append(await relay.send(BOUNCE, Address(name, "example.jp"), message, seconds=10))

        for at in range(0, 40, 4):
            await asyncio.gather(*(one(name) for name in sent[at : at + 4]))
        arrived = [mail.rcpt_tos[0].partition("@")[0] for server in (first, second) for mail in server.mails]
        unsure = [outcome for outcome in outcomes if outcome.kind is not OutcomeKind.DELIVERED]
        assert len(arrived) == len(set(arrived))
        assert len(arrived) + len(unsure) >= 40
        assert first.mails
        assert second.mails
        await relay.close()


def test_the_uvloop_speaks_tls_as_well(tmp_path: Path) -> None:
    async def conversation() -> None:
        context, _ = certificates(tmp_path, "localhost")
        async with submission(context, USERS) as server:
            found = section(f"smtp+starttls://robot@example.jp@localhost:{server.port}", tmp_path)
            relay = open_relay(found, "robot.test")
            for _ in range(2):
                assert (await send(relay)).kind is OutcomeKind.DELIVERED
            await closed(relay)
        assert len(server.logins) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(conversation())


async def test_the_robot_goes_on_with_the_second_relay_and_check_says_why(tmp_path: Path) -> None:
    async with sink() as first, sink() as second:
        overrides = {"RELAY_FALLBACK": f'["smtp://127.0.0.1:{second.port}"]'}
        async with robot(tmp_path, first.port, overrides=overrides) as made:
            await invitation(made, first, "a@phone.example", TOUROKU)
            first.kill()
            await first.idle()
            await invitation(made, second, "b@phone.example", TOUROKU)
            token = (tmp_path / "var" / "ops.token").read_text().strip()
            async with httpx2.AsyncClient(auth=("x", token), timeout=30) as ops:
                metrics = (await ops.get(f"http://127.0.0.1:{made.ops_port}/metrics")).text
            assert f'mailbot_relay_mails_total{{outcome="delivered",relay="127.0.0.1:{second.port}"}} 1.0' in metrics
            assert f'mailbot_relay_resting{{relay="127.0.0.1:{first.port}"}} 1.0' in metrics
            assert 'mailbot_events_total{event="relay.failed",reason=""} 1.0' in metrics
            said = (await asyncio.to_thread(made.command, "check", check=False)).stdout
        lines = [" ".join(line.split()) for line in said.splitlines() if " relay" in line]
        assert lines[0].startswith(f"MEND relay: 127.0.0.1:{first.port} cannot be reached:"), said
        assert lines[1].startswith(f"ok fallback relay 1: 127.0.0.1:{second.port} takes mail, unencrypted"), said
    assert (len(first.mails), len(second.mails)) == (1, 1)


def test_the_robot_wants_a_password_that_nobody_else_can_read(tmp_path: Path) -> None:
    secrets = tmp_path / "netrc"
    secrets.write_text("machine relay.example login robot password x\n")
    secrets.chmod(0o644)
    overrides = {"RELAY_URL": '"smtps://robot@relay.example:465"', "RELAY_NETRC": f'"{secrets}"'}
    made = Robot(tmp_path / "robot", 1, overrides=overrides)
    done = made.command("serve", check=False)
    assert done.returncode == 1
    assert f"{secrets}: others can read this secret: run `chmod 600 {secrets}`" in done.stderr
