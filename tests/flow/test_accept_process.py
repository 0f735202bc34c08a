"""The process as its operators know it: signals, starts that must fail, ops door, queue and emergency stops."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import smtplib
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.member import Member, register
from tests.support.robot import HANAKO, JIRO, Robot, invitation, link_in, robot
from tests.support.servers import free_port
from tests.support.sink import Sink

TO = "touroku@yokokou.example"
SENDER = "hanako@phone.example"
FORM = "新規利用登録"
PASSWORD = "umi-no-mieru9machi"
LATER = "451 4.3.0 come back later"


async def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Asks until the answer is true; asking may take its time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := await asyncio.to_thread(what):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s")


async def heading(made: Robot, url: str) -> tuple[int, str]:
    async with Member(made.web) as member:
        page = await member.get(url)
        return page.status, page.heading


async def cli(made: Robot, *arguments: str) -> str:
    return (await asyncio.to_thread(made.command, *arguments)).stdout


async def refused(made: Robot) -> str:
    """A start that has to fail with status 1 and words, not a trace -> the words."""
    done = await asyncio.to_thread(made.command, "serve", check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class Conversation:
    """SMTP by hand, so that a test can stop in the middle."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb")
        self.read()

    def read(self) -> bytes:
        line = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
        return line

    def say(self, line: str) -> bytes:
        self.socket.sendall(line.encode() + b"\r\n")
        return self.read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


# Signals


async def test_sigterm_lets_a_mail_in_data_finish_and_loses_nothing(tmp_path: Path, smtp_sink: Sink) -> None:
    made = Robot(tmp_path, smtp_sink.port)
    try:
        await made.start()
        talk = await asyncio.to_thread(Conversation, made.smtp_port)
        idle = await asyncio.to_thread(Conversation, made.smtp_port)
        for line in ("EHLO phone.example", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{TO}>", "DATA"):
            assert (await asyncio.to_thread(talk.say, line))[:3] in (b"250", b"354")
        talk.socket.sendall(f"From: {SENDER}\r\n".encode())
        assert made.process is not None
        made.process.send_signal(signal.SIGTERM)
        assert (await asyncio.to_thread(idle.read))[:3] == b"421"
        end = f"To: {TO}\r\nMessage-ID: <drain@phone.example>\r\n\r\n."
        assert (await asyncio.to_thread(talk.say, end))[:3] == b"250"
        talk.close()
        idle.close()
        assert await made.stop() == 0, made.log
        with pytest.raises(OSError):
            await asyncio.to_thread(socket.create_connection, ("127.0.0.1", made.smtp_port), 2)
        await made.start()
        (mail,) = await smtp_sink.wait(to=SENDER, seconds=60)
        assert (await heading(made, link_in(mail)))[1] == FORM
        assert await made.stop() == 0
    finally:
        made.kill()
    assert len(smtp_sink.to(SENDER)) == 1


async def test_sigterm_while_the_relay_thinks_sends_no_mail_twice(tmp_path: Path, smtp_sink: Sink) -> None:
    smtp_sink.delays["dot"] = 2
    made = Robot(tmp_path, smtp_sink.port)
    try:
        await made.start()
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250
        await until(lambda: smtp_sink.open_sessions)
        assert await made.stop() == 0
        await made.start()
        await smtp_sink.wait(to=SENDER, seconds=60)
        assert await made.stop() == 0
    finally:
        made.kill()
    assert len(smtp_sink.to(SENDER)) == 1


async def test_sighup_takes_good_files_and_leaves_broken_ones(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        assert made.process is not None
        file = tmp_path / "config" / "societies" / "yokokou.toml"
        good = file.read_text("utf-8")
        file.write_text(good.replace("touroku@yokokou.example", "kaiin@yokokou.example"), "utf-8")
        made.process.send_signal(signal.SIGHUP)
        await until(lambda: made.log.count("robot.started") == 2 and made.ready())
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 550
        link = await invitation(made, smtp_sink, SENDER, "kaiin@yokokou.example")
        file.write_text("name = \n" + good, "utf-8")
        made.process.send_signal(signal.SIGHUP)
        await until(lambda: "robot.reload-refused" in made.log)
        told = next(json.loads(line) for line in made.log.splitlines() if "robot.reload-refused" in line)
        assert "yokokou.toml" in told["error"]
        assert (await heading(made, link))[1] == FORM
        assert (await asyncio.to_thread(made.send_blank_mail, "b@phone.example", "kaiin@yokokou.example"))[0] == 250
        assert made.log.count("robot.started") == 2


async def test_a_reload_makes_no_key(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        assert made.process is not None
        (tmp_path / "config" / "mailbot.toml").write_text('[dkim]\nselector = "mailbot2"\n')
        made.process.send_signal(signal.SIGHUP)
        await until(lambda: "robot.reload-refused" in made.log)
        assert "dkim-mailbot2.pem: this DKIM key is missing" in made.log
        assert [path.name for path in (tmp_path / "var").glob("dkim-*")] == ["dkim-mailbot1.pem"]


async def test_a_reload_refuses_nobody(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        assert made.process is not None
        answers: list[tuple[int, bytes]] = []

        async def keep_sending() -> None:
            while made.log.count("robot.started") < 2 or len(answers) < 5:
                sender = f"m{len(answers)}@phone.example"
                with suppress(smtplib.SMTPException):  # 421 in the very moment: to be asked again; never refused
                    answers.append(await asyncio.to_thread(made.send_blank_mail, sender, TO))

        sending = asyncio.create_task(keep_sending())
        await until(lambda: len(answers) > 2)
        made.process.send_signal(signal.SIGHUP)
        await sending
        codes = [code for code, _ in answers]
        assert set(codes) <= {250, 421}, answers
        await smtp_sink.wait(codes.count(250))


async def test_a_reload_onto_a_taken_port_changes_nothing(tmp_path: Path, smtp_sink: Sink) -> None:
    made = Robot(tmp_path, smtp_sink.port)
    file = tmp_path / "config" / "mailbot.toml"
    made.overrides["SMTP_LISTEN"] = ""  # the file decides
    file.write_text(f'[smtp]\nlisten = ["127.0.0.1:{made.smtp_port}"]\n')
    await made.start()
    try:
        assert made.process is not None
        with socket.create_server(("127.0.0.1", 0)) as other:
            file.write_text(f'[smtp]\nlisten = ["127.0.0.1:{other.getsockname()[1]}"]\n')
            made.process.send_signal(signal.SIGHUP)
            await until(lambda: "robot.reload-refused" in made.log)
        assert "cannot listen on" in made.log
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250
        assert await made.stop() == 0
    finally:
        made.kill()


def _unreadable(file: Path) -> None:
    """A folder: not even root reads it as a file."""
    file.unlink()
    file.mkdir(0o700)


LOGIN = '[relay]\nfallback = ["smtp+starttls://robot@127.0.0.1:1"]\nnetrc = "{folder}/netrc"\n'
UNUSABLE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("", lambda folder: (folder / "var/dkim-mailbot1.pem").chmod(0o644), "others can read this secret"),
    ("", lambda folder: (folder / "var/dkim-mailbot1.pem").write_text("no key"), "not a private key in PEM form"),
    ("", lambda folder: _unreadable(folder / "var/dkim-mailbot1.pem"), "cannot be read by"),
    ("", lambda folder: (folder / "var/keys.json").write_text("{"), "damaged"),
    ("", lambda folder: (folder / "var/keys.json").unlink(), "a reload makes none"),
    ("", lambda folder: (folder / "var/ops.token").chmod(0o644), "others can read this secret"),
    (LOGIN, lambda folder: None, "cannot be read: No such file"),
    (LOGIN, lambda folder: (folder / "netrc").touch(0o644), "others can read this secret"),
    ('[relay]\nca_file = "{folder}/ca.pem"\n', lambda folder: None, "no certificates (PEM)"),
    ('[smtp]\ntls_certificate = "{folder}/tls.pem"\n', lambda folder: None, "cannot be used for STARTTLS"),
    ('[site]\ndatabase = "sqlite:////proc/none/x"\n', lambda folder: None, "a reload makes none"),
    ('[site]\nkeys = "{folder}/mistyped.json"\n', lambda folder: None, "is site.data right?"),
]


async def test_a_reload_onto_files_that_cannot_be_opened_changes_nothing(tmp_path: Path, smtp_sink: Sink) -> None:
    made = Robot(tmp_path / "r", smtp_sink.port, overrides={"SITE_DATABASE": ""})
    site, folder, kept = made.folder / "config/mailbot.toml", made.folder, tmp_path / "kept"
    secrets = ("dkim-mailbot1.pem", "keys.json", "ops.token")

    def refusals() -> list[str]:
        return [json.loads(line)["error"] for line in made.log.splitlines() if "robot.reload-refused" in line]

    def reached(number: int) -> bool:
        return len(refusals()) == number

    await made.start()
    try:
        assert made.process is not None
        kept.mkdir()
        for name in secrets:
            shutil.copy2(folder / "var" / name, kept / name)
        for number, (text, spoil, words) in enumerate(UNUSABLE, 1):
            site.write_text(text.format(folder=folder))
            spoil(folder)
            made.process.send_signal(signal.SIGHUP)
            await until(partial(reached, number))
            assert words in refusals()[-1]
            shutil.rmtree(folder / "var/dkim-mailbot1.pem", ignore_errors=True)
            for name in secrets:
                shutil.copy2(kept / name, folder / "var" / name)
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250
        assert made.log.count("robot.started") == 1
        site.write_text("")
        made.process.send_signal(signal.SIGHUP)
        await until(lambda: made.log.count("robot.started") == 2 and made.ready())
        assert await made.stop() == 0
    finally:
        made.kill()


async def test_a_reload_opens_a_door_for_lmtp(tmp_path: Path, smtp_sink: Sink) -> None:
    port = free_port()
    file = tmp_path / "config" / "mailbot.toml"

    def deliver() -> list[int]:
        """One mail for two addresses -> the replies after its end."""
        with smtplib.LMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("relay.example")
            client.mail(SENDER)
            for to in (TO, "info@yokokou.example"):
                assert client.rcpt(to)[0] == 250
            first = client.data(f"From: {SENDER}\r\nMessage-ID: <l@phone.example>\r\n\r\n".encode())
            return [first[0], client.getreply()[0]]

    async with robot(tmp_path, smtp_sink.port) as made:
        assert made.process is not None
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(deliver)
        file.write_text(f'[smtp]\nlmtp_listen = ["127.0.0.1:{port}"]\n')
        made.process.send_signal(signal.SIGHUP)
        await until(lambda: made.log.count("robot.started") == 2 and made.ready())
        assert await asyncio.to_thread(deliver) == [250, 250]
        assert len(await smtp_sink.wait(to=SENDER)) == 1


# Starts


@pytest.mark.parametrize("door", ["smtp_port", "web_port", "ops_port"])
async def test_a_taken_port_ends_the_start_with_words(tmp_path: Path, door: str) -> None:
    made = Robot(tmp_path, free_port())
    with socket.create_server(("127.0.0.1", getattr(made, door))):
        words = await refused(made)
    assert "address already in use" in words.lower()
    assert str(getattr(made, door)) in words


async def test_a_strange_or_missing_key_ring_refuses_to_start(tmp_path: Path, smtp_sink: Sink) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    made, other = Robot(tmp_path / "one", smtp_sink.port), Robot(tmp_path / "other", smtp_sink.port)
    await cli(made, "db", "upgrade")
    await cli(made, "keys", "list")
    await cli(other, "keys", "list")
    ring, strange = made.folder / "var" / "keys.json", other.folder / "var" / "keys.json"
    own = ring.read_bytes()
    ring.write_bytes(strange.read_bytes())
    assert "key ring" in await refused(made)
    ring.unlink()
    assert "key ring is missing" in await refused(made)
    assert not ring.exists()
    ring.write_bytes(own)
    ring.chmod(0o644)
    assert "chmod 600" in await refused(made)
    ring.chmod(0o600)
    await made.start()
    assert await made.stop() == 0


async def test_a_second_start_finds_everything_where_it_was(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        link = await invitation(made, smtp_sink, SENDER, TO)
    async with robot(tmp_path, smtp_sink.port, web_port=made.web_port) as made:
        assert await heading(made, link) == (200, FORM)
        code, _ = await asyncio.to_thread(made.send_blank_mail, SENDER, TO)
        assert code == 250


async def test_a_locked_database_costs_a_mail_only_time(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:

        def send(sender: str) -> tuple[int, bytes]:
            return made.send_blank_mail(sender, TO, message_id=f"<locked.{sender}>")

        lock = sqlite3.connect(tmp_path / "var" / "mailbot.sqlite3", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(25) as phones:  # and no mail waits for the others' turn at the lock
            crowd = phones.map(lambda n: send(f"m{n}@phone.example")[0], range(25))
            assert set(await asyncio.to_thread(list, crowd)) == {451}
        assert (await heading(made, "/yokokou/login"))[0] == 200
        lock.execute("ROLLBACK")
        lock.close()
        code, words = await asyncio.to_thread(send, "m7@phone.example")
        assert code == 250, words
        assert len(await smtp_sink.wait(to="m7@phone.example", seconds=90)) == 1


# The ops door


async def test_the_ops_door_asks_for_its_token_and_tells_of_a_waiting_mail(tmp_path: Path, smtp_sink: Sink) -> None:
    smtp_sink.rule = lambda stage, _: "450 4.2.1 the box is asleep" if stage == "rcpt" else None
    async with robot(tmp_path, smtp_sink.port) as made:
        ops = f"http://127.0.0.1:{made.ops_port}"
        token = (tmp_path / "var" / "ops.token").read_text().strip()
        assert (tmp_path / "var" / "ops.token").stat().st_mode & 0o077 == 0
        async with httpx2.AsyncClient(base_url=ops, timeout=30) as nobody:
            assert (await nobody.get("/health/live")).status_code == 200
            assert (await nobody.get("/health/ready")).status_code == 200
            for path in ("/", "/metrics", "/mail/x"):
                answer = await nobody.get(path)
                assert answer.status_code == 401
                assert "Basic" in answer.headers["www-authenticate"]
            assert (await nobody.get("/", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250
        async with httpx2.AsyncClient(base_url=ops, timeout=30, auth=("anybody", token)) as staff:

            async def words() -> str:
                for _ in range(300):
                    for mail in re.findall(r"/mail/[a-z2-7]+", (await staff.get("/")).text):
                        text = (await staff.get(mail)).text
                        if "the box is asleep" in text:
                            return text
                    await asyncio.sleep(0.1)
                raise AssertionError("the relay's words never came")

            assert SENDER in await words()
            front = (await staff.get("/")).text
            assert "queued" in front
            assert "yokokou" in front
        async with httpx2.AsyncClient(
            base_url=ops, timeout=30, headers={"Authorization": f"Bearer {token}"}
        ) as scraper:
            metrics = (await scraper.get("/metrics")).text
            assert 'mailbot_queue_mails{lane="link",society="yokokou",state="queued"} 1.0' in metrics
            assert 'mailbot_events_total{event="mail.received",reason="accepted"} 1.0' in metrics
            assert SENDER not in metrics
        assert (await heading(made, "/metrics"))[0] == 404


# Queue


async def test_the_queue_commands_move_a_mail_through_its_life(tmp_path: Path, smtp_sink: Sink) -> None:
    smtp_sink.rule = lambda stage, _: LATER if stage == "rcpt" else None
    async with robot(tmp_path, smtp_sink.port) as made:
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250

        def tried(mail: str, count: int) -> bool:
            return len(made.json("queue", "show", mail)["tries"]) >= count

        (row,) = await until(lambda: made.json("queue", "list"))
        mail = row["id"]
        assert (row["to"], row["letter"], row["state"], row["society"]) == (SENDER, "invitation", "queued", "yokokou")
        await until(lambda: tried(mail, 1))
        shown = await cli(made, "queue", "show", mail)
        assert LATER in " ".join(shown.split())  # a table may break the line
        assert any(row["state"] == "queued" for row in await asyncio.to_thread(made.json, "queue", "status"))
        await cli(made, "queue", "hold", mail)
        assert made.json("queue", "list", "--state", "held")[0]["id"] == mail
        smtp_sink.rule = None
        again = await asyncio.to_thread(made.command, "queue", "hold", mail, check=False)
        assert again.returncode == 1
        await cli(made, "queue", "release", mail)
        assert len(await smtp_sink.wait(to=SENDER, seconds=60)) == 1
        await until(lambda: made.json("queue", "list", "--state", "delivered"))
        for verb in ("retry", "cancel", "hold", "release"):
            done = await asyncio.to_thread(made.command, "queue", verb, mail, check=False)
            assert done.returncode == 1, verb
            assert "Traceback" not in done.stderr
        smtp_sink.rule = lambda stage, _: LATER if stage == "rcpt" else None
        assert (await asyncio.to_thread(made.send_blank_mail, "later@phone.example", TO))[0] == 250
        (later,) = await until(lambda: made.json("queue", "list", "--state", "queued"))
        await until(lambda: tried(later["id"], 1))
        assert (await asyncio.to_thread(made.send_blank_mail, "b@phone.example", TO))[0] == 250
        row = await until(lambda: next((r for r in made.json("queue", "list") if r["to"] == "b@phone.example"), None))
        await until(lambda: tried(row["id"], 1))
        await cli(made, "queue", "cancel", row["id"])
        smtp_sink.rule = None
        await cli(made, "queue", "retry", later["id"])
        await smtp_sink.wait(to="later@phone.example", seconds=60)
        assert (await asyncio.to_thread(made.send_blank_mail, "c@phone.example", TO))[0] == 250
        await smtp_sink.wait(to="c@phone.example", seconds=60)
        assert smtp_sink.to("b@phone.example") == []
        assert made.command("queue", "show", "nonsense", check=False).returncode == 1


# Emergency stops


async def test_a_paused_society_is_silent_until_it_resumes(tmp_path: Path, smtp_sink: Sink) -> None:
    smtp_sink.rule = lambda stage, _: LATER if stage == "rcpt" else None
    async with robot(tmp_path, smtp_sink.port) as made:
        assert (await asyncio.to_thread(made.send_blank_mail, "early@phone.example", TO))[0] == 250
        (row,) = await until(lambda: made.json("queue", "list"))
        await until(lambda: made.json("queue", "show", row["id"])["tries"])
        await cli(made, "society", "pause", "yokokou", "--reason", "wrong roster")
        smtp_sink.rule = None
        await cli(made, "queue", "retry", row["id"])
        states = {row["society"]: row["state"] for row in await asyncio.to_thread(made.json, "society", "list")}
        assert {name for name, state in states.items() if state == "paused"} == {"yokokou"}
        assert (await asyncio.to_thread(made.send_blank_mail, SENDER, TO))[0] == 250
        assert (await heading(made, "/yokokou/login"))[0] == 503
        assert (await heading(made, "/shochiku/login"))[0] == 200
        async with Member(made.web) as member:
            page = await member.submit(await member.get("/shochiku/entry"), {"address": "s@phone.example"})
            assert page.status == 200
        await smtp_sink.wait(to="s@phone.example", seconds=60)  # the courier works, only not for the paused one
        assert smtp_sink.to(SENDER) == []
        assert smtp_sink.to("early@phone.example") == []
        await cli(made, "society", "resume", "yokokou")
        await smtp_sink.wait(to="early@phone.example", seconds=60)
        link = await invitation(made, smtp_sink, SENDER, TO)
        assert await heading(made, link) == (200, FORM)
        assert len(smtp_sink.to(SENDER)) == 1


async def test_revoking_links_kills_the_mailed_ones_at_once(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        await asyncio.to_thread(made.import_roster, "yokokou", HANAKO.row)
        link = await invitation(made, smtp_sink, SENDER, TO)
        async with Member(made.web) as member:
            form = await member.get(link)
            assert form.heading == FORM
            assert "1 links revoked" in await cli(made, "revoke", "--links", "--society", "yokokou", "--yes")
            fields = {"login_id": HANAKO.printed_id, "password": HANAKO.printed_password}
            assert (await member.submit(form, fields)).status == 410
        assert (await heading(made, link))[0] == 410
        assert await heading(made, await invitation(made, smtp_sink, "hanako2@phone.example", TO)) == (200, FORM)


async def test_rotated_keys_keep_links_and_compromised_ones_kill_them(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port) as made:
        assert made.process is not None

        async def heard(starts: int) -> None:
            assert made.process is not None
            made.process.send_signal(signal.SIGHUP)
            await until(lambda: made.log.count("robot.started") == starts and made.ready())

        await asyncio.to_thread(made.import_roster, "yokokou", HANAKO.row)
        printed = {"login_id": HANAKO.printed_id, "password": HANAKO.printed_password}
        old = await invitation(made, smtp_sink, SENDER, TO)
        await cli(made, "keys", "rotate", "--after-minutes", "0")
        await heard(2)
        assert await heading(made, old) == (200, FORM)
        new = await invitation(made, smtp_sink, "taro@phone.example", TO)
        kinds = {link.rsplit("/", 1)[1][13] for link in (old, new)}
        assert len(kinds) == 2, "the new link is made with the new key"
        assert "2 links and 1 letters died" in await cli(made, "keys", "rotate", "--compromised")
        await heard(3)
        assert (await heading(made, old))[0] == 410
        assert (await heading(made, new))[0] == 410
        fresh = await invitation(made, smtp_sink, "jiro@phone.example", TO)
        await asyncio.to_thread(made.import_roster, "yokokou", JIRO.row)
        async with Member(made.web) as member:
            form = await member.get(fresh)
            assert (await member.submit(form, printed)).heading == FORM, "the letter of the lost key is dead too"
            done = await register(member, fresh, JIRO.printed_id, JIRO.printed_password, "jiro-no-id", PASSWORD)
            assert done.heading == "利用者情報登録完了", done.text


# Roles apart


@pytest.mark.timeout(300)
async def test_three_roles_on_one_postgresql_do_the_whole_job(
    tmp_path: Path, smtp_sink: Sink, postgres_url: str
) -> None:
    ports: dict[str, Any] = {"smtp_port": free_port(), "web_port": free_port()}
    roles = [Robot(tmp_path, smtp_sink.port, postgres_url, (role,), **ports) for role in ("intake", "courier", "web")]
    made = roles[0]
    try:
        await asyncio.gather(*(role.start() for role in roles))  # the first start of all of them, at the same time
        await asyncio.to_thread(made.import_roster, "yokokou", HANAKO.row)
        link = await invitation(made, smtp_sink, SENDER, TO)
        async with Member(made.web) as member:
            done = await register(member, link, HANAKO.printed_id, HANAKO.printed_password, "hanako-n", PASSWORD)
            assert done.heading == "利用者情報登録完了", done.text
        await smtp_sink.wait(2, to=SENDER, seconds=60)
        assert [await role.stop() for role in roles] == [0, 0, 0]
    finally:
        for role in roles:
            role.kill()


async def test_single_roles_on_sqlite_are_refused_with_words(tmp_path: Path) -> None:
    made = Robot(tmp_path, free_port())
    done = await asyncio.to_thread(made.command, "serve", "--role", "intake", check=False)
    assert done.returncode == 1
    assert "PostgreSQL" in done.stderr
    assert "Traceback" not in done.stderr
