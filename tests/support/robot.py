"""The real robot in its own process, on free loopback ports, with a configuration folder of its own.

Tests drive it from outside only: SMTP, HTTP, the command line, signals.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.support.servers import free_port
from tests.support.sink import Sink, Taken

REPOSITORY = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "mailbot")


@dataclass
class Robot:
    """Folder layout: `config/` (mailbot.toml, societies/), `var/` (database, keys), `log` (standard error)."""

    folder: Path
    relay_port: int
    database: str = ""
    roles: tuple[str, ...] = ()
    overrides: dict[str, str] = field(default_factory=dict)
    smtp_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    ops_port: int = field(default_factory=free_port)
    lmtp_port: int = 0
    """Where LMTP is spoken, if anywhere."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        config = self.folder / "config"
        if not config.exists():
            shutil.copytree(REPOSITORY / "config" / "societies", config / "societies")
            (config / "mailbot.toml").write_text("")

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    @property
    def environment(self) -> dict[str, str]:
        settings = {
            "SITE_WEB_URL": f'"{self.web}"',
            "SITE_DATA": f'"{self.folder / "var"}"',
            "SITE_DATABASE": f'"{self.database}"',
            "SMTP_LISTEN": f'["127.0.0.1:{self.smtp_port}"]',
            "WEB_LISTEN": f'"127.0.0.1:{self.web_port}"',
            "OPS_LISTEN": f'"127.0.0.1:{self.ops_port}"',
            "RELAY_URL": f'"smtp://127.0.0.1:{self.relay_port}"',
            "WEB_PASSWORD_HASH_MEMORY_KIB": "1024",
            "AUTHENTICATION_MODE": '"off"',
            "AUTHENTICATION_PEERS": '["127.0.0.0/8"]',
            "SMTP_LMTP_LISTEN": f'["127.0.0.1:{self.lmtp_port}"]' if self.lmtp_port else "",
            **self.overrides,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILBOT_")}
        return {**kept, **{f"MAILBOT_{name}": value for name, value in settings.items() if value}}

    def command(
        self, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`mailbot …` on this robot's configuration."""
        done = subprocess.run(
            [*PROGRAM, "--config", str(self.folder / "config"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
        )
        if check and done.returncode:
            raise AssertionError(f"mailbot {' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.command(*arguments, "--json").stdout)

    def import_roster(self, society: str, *people: dict[str, str], partial: bool = True) -> None:
        """Imports people given by Japanese column names, through the command line."""
        file = self.folder / f"{society}.csv"
        names = list(dict.fromkeys(name for person in people for name in person))
        lines = [",".join(names), *(",".join(person.get(name, "") for name in names) for person in people)]
        file.write_text("\n".join(lines) + "\n", "utf-8")
        self.command("roster", "import", society, str(file), *(["--partial"] if partial else []))

    async def start(self, seconds: float = 90) -> None:
        arguments = [word for role in self.roles for word in ("--role", role)]
        await asyncio.to_thread(self._spawn, arguments)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the robot ended with status {self.process.returncode}:\n{self.log}")
            if await asyncio.to_thread(self.ready):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the robot was not ready after {seconds:g} s:\n{self.log}")

    def _spawn(self, arguments: list[str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "--config", str(self.folder / "config"), "serve", *arguments],
                env=self.environment,
                stderr=log,
            )

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}/health/ready", timeout=2) as answer:
                if answer.status != 200:
                    return False
            for port in (self.smtp_port,) if not self.roles or "intake" in self.roles else ():
                with socket.create_connection(("127.0.0.1", port), 2):
                    pass
            for port in (self.web_port,) if not self.roles or "web" in self.roles else ():
                with socket.create_connection(("127.0.0.1", port), 2):
                    pass
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    async def stop(self, seconds: float = 60) -> int:
        """SIGTERM -> the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the robot did not stop in {seconds:g} s:\n{self.log}") from None

    def send_blank_mail(
        self,
        sender: str,
        to: str,
        *,
        subject: str | None = None,
        message_id: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, bytes]:
        """What a phone's provider sends -> the answer to the end of DATA."""
        lines = [f"From: {sender}", f"To: {to}", "Date: Fri, 20 Nov 2026 12:00:00 +0900"]
        lines.append(f"Message-ID: {message_id or f'<{time.monotonic_ns()}@phone.example>'}")
        lines += [f"Subject: {subject}"] if subject is not None else []
        lines += [f"{name}: {value}" for name, value in headers]
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=90) as client:
            client.ehlo("phone.example")
            for code, text in (client.docmd("MAIL", f"FROM:<{sender}>"), client.docmd("RCPT", f"TO:<{to}>")):
                if code != 250:
                    return code, text
            return client.data("\r\n".join(lines).encode() + b"\r\n\r\n")


@asynccontextmanager
async def robot(folder: Path, relay_port: int, **options: Any) -> AsyncIterator[Robot]:
    """A robot that runs until the end of the block, and then stops cleanly."""
    made = Robot(folder, relay_port, **options)
    try:
        await made.start()
        yield made
        assert await made.stop() == 0, made.log
    finally:
        made.kill()


def body(mail: Taken) -> str:
    message: EmailMessage = mail.message
    return str(message.get_content()).replace("\r\n", "\n")


def link_in(mail: Taken) -> str:
    """The URL that stands alone on a line of the mail."""
    found = [line for line in body(mail).splitlines() if line.startswith("http")]
    assert len(found) == 1, body(mail)
    return found[0]


@dataclass(frozen=True)
class Person:
    """Somebody on the roster, with what the letter on paper says."""

    name: str
    kana: str
    birth_date: str
    number: str
    printed_id: str
    printed_password: str
    symbol: str = "7731"
    nickname: str = ""

    @property
    def row(self) -> dict[str, str]:
        return {
            "記号": self.symbol,
            "番号": self.number,
            "氏名": self.name,
            "カナ氏名": self.kana,
            "生年月日": self.birth_date,
            "仮ニックネーム": self.nickname,
            "仮ログインID": self.printed_id,
            "仮パスワード": self.printed_password,
        }


HANAKO = Person("夏目花子", "ナツメハナコ", "1987-03-14", "904418", "41862075", "72049518", nickname="はなちゃん")
TARO = Person("夏目太郎", "ナツメタロウ", "1985-11-02", "904418", "96310584", "30586217", nickname="たろさん")
JIRO = Person("伊能次郎", "イノウジロウ", "1979-06-30", "815526", "58021947", "61947302", nickname="じろきち")


async def invitation(made: Robot, smtp_sink: Sink, sender: str, to: str) -> str:
    """Sends a blank mail -> the URL of the answer."""
    code, text = await asyncio.to_thread(made.send_blank_mail, sender, to)
    assert code == 250, text
    return link_in((await smtp_sink.wait(to=sender))[-1])
