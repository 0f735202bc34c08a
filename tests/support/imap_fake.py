"""An IMAP server that misbehaves where a real one will not: silent, BYE at the wrong time, mails that vanish.

Speaks just what the robot says, over TLS. `deaf` and the like are used up, one a command.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import trustme


@dataclass
class FakeMail:
    content: bytes
    at: int
    flags: set[str] = field(default_factory=set)


@dataclass
class FakeImap:
    """One mailbox with one folder of interest; whatever is moved goes to `moved[folder]`."""

    port: int = 0
    ca_file: Path = Path()
    capabilities: str = "IMAP4rev1 IDLE MOVE UIDPLUS AUTH=XOAUTH2"
    permanent: str = r"\Seen \Flagged \Deleted \*"
    uidvalidity: int = 7
    mails: dict[int, FakeMail] = field(default_factory=dict)
    moved: dict[str, list[FakeMail]] = field(default_factory=dict)
    token: str = ""
    password: str = "geheim"
    deaf: Counter[str] = field(default_factory=Counter)  # command -> how often it gets no answer
    bye: Counter[str] = field(default_factory=Counter)  # command -> how often it is answered with BYE
    no: Counter[str] = field(default_factory=Counter)  # command -> how often it is answered with NO
    vanish: set[int] = field(default_factory=set)  # UIDs that are gone once they were found
    refusal: str = "[AUTHENTICATIONFAILED] no"
    flood: int = 0  # lines pushed at once in the next IDLE
    pushes: bool = True
    late: bytes = b""  # arrives in the middle of the next STORE
    commands: list[str] = field(default_factory=list)
    sasl: list[str] = field(default_factory=list)
    sessions: int = 0
    uid_next: int = 101
    blind: int = 0  # searches that find nothing
    patience: int = 1_000_000  # commands a session may give
    repeats: bool = False  # every answer says again how many mails there are
    drip: float = 0  # seconds between the lines of a FETCH
    before: Callable[[str], Awaitable[None]] | None = None  # called with each command
    open: set[asyncio.StreamWriter] = field(default_factory=set)  # sessions that have the folder open
    most_open: int = 0
    numbers: count[int] = field(default_factory=lambda: count(101))
    _idling: set[asyncio.StreamWriter] = field(default_factory=set)
    _told: dict[asyncio.StreamWriter, int] = field(default_factory=dict)  # how many mails a session knows of

    def add(self, content: bytes, at: int) -> int:
        uid = next(self.numbers)
        self.uid_next = uid + 1
        self.mails[uid] = FakeMail(content, at)
        for writer in self._idling:
            self._tell(writer)
        return uid

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        if self.pushes and self._told.get(writer) != len(self.mails):
            writer.write(f"* {len(self.mails)} EXISTS\r\n".encode())
        self._told[writer] = len(self.mails)

    def asked(self, command: str) -> int:
        return sum(one.startswith(command) for one in self.commands)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            writer.write(b"* OK fake\r\n")
            for given in count():
                line = (await reader.readline()).decode().rstrip("\r\n")
                if given >= self.patience:
                    writer.write(b"* BYE enough\r\n")
                if not line or given >= self.patience:
                    break
                await self._command(line, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._idling.discard(writer)
            self.open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _command(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tag, _, rest = line.partition(" ")
        rest = rest.removeprefix("UID ").strip()
        verb = rest.partition(" ")[0].upper()
        self.commands.append(rest)

        if self.before is not None:
            await self.before(verb)

        def say(*lines: str, end: str = "OK done") -> None:
            if self.repeats:
                lines = (f"{len(self.mails)} EXISTS", *lines)
            writer.write("".join(f"* {one}\r\n" for one in lines).encode() + f"{tag} {end}\r\n".encode())

        if self.bye[verb]:
            self.bye[verb] -= 1
            writer.write(b"* BYE going down\r\n")
            return
        if self.deaf[verb]:
            self.deaf[verb] -= 1
            return
        if self.no[verb]:
            self.no[verb] -= 1
            say(end=f"NO {self.refusal}")
            return
        match verb:
            case "CAPABILITY":
                say(f"CAPABILITY {self.capabilities}")
            case "LOGIN":
                good = rest.endswith(f'"{self.password}"')
                say(end="OK hello" if good else f"NO {self.refusal}")
            case "AUTHENTICATE":
                words = base64.b64decode(rest.split()[-1]).decode()
                self.sasl.append(words)
                if words.endswith(f"auth=Bearer {self.token}\1\1"):
                    say(end="OK hello")
                else:
                    writer.write(b"+ " + base64.b64encode(b'{"status":"400"}') + b"\r\n")
                    assert await reader.readline() == b"\r\n"
                    say(end=f"NO {self.refusal}")
            case "SELECT":
                self._told[writer] = len(self.mails)
                self.open.add(writer)
                self.most_open = max(self.most_open, len(self.open))
                say(
                    f"{len(self.mails)} EXISTS",
                    f"OK [UIDVALIDITY {self.uidvalidity}] valid",
                    f"OK [UIDNEXT {self.uid_next}] next",
                    f"OK [PERMANENTFLAGS ({self.permanent})] flags",
                )
            case "SEARCH":
                self.blind, blind = max(self.blind - 1, 0), self.blind
                say("SEARCH " + " ".join(map(str, [] if blind else self._found(rest))))
            case "FETCH":
                lines = self._fetch(rest)
                if self.drip:
                    for one in lines:
                        writer.write(one)
                        await asyncio.sleep(self.drip)
                else:
                    writer.write(b"".join(lines))
                say()
            case "STORE":
                for mail in self._named(rest):
                    mail.flags |= set(re.findall(r"[$\\]\w+", rest))
                if self.late:
                    self.late, late = b"", self.late
                    self.add(late, next(iter(self.mails.values())).at)
                    self._tell(writer)
                say()
            case "MOVE":
                for uid in self._uids(rest):
                    self.moved.setdefault(rest.split('"')[1], []).append(self.mails.pop(uid))
                say()
            case "COPY":
                for mail in self._named(rest):
                    self.moved.setdefault(rest.split('"')[1], []).append(mail)
                say()
            case "EXPUNGE":
                for uid in self._uids(rest):
                    if r"\Deleted" in self.mails[uid].flags:
                        del self.mails[uid]
                say()
            case "IDLE":
                writer.write(b"+ idling\r\n")
                writer.write(b"".join(b"* %d EXPUNGE\r\n" % (n + 1) for n in range(self.flood)))
                self.flood = 0
                self._idling.add(writer)
                self._tell(writer)
                assert await reader.readline() in (b"DONE\r\n", b"")
                self._idling.discard(writer)
                if self.deaf["DONE"]:
                    self.deaf["DONE"] -= 1
                else:
                    say()
            case "LOGOUT":
                say("BYE")
                writer.close()
            case _:
                say()

    def _uids(self, rest: str) -> list[int]:
        return [uid for uid in map(int, rest.split()[1].split(",")) if uid in self.mails]

    def _named(self, rest: str) -> list[FakeMail]:
        return [self.mails[uid] for uid in self._uids(rest)]

    def _found(self, rest: str) -> list[int]:
        wanted = rest.split()[-1]
        skipped = re.search(r"UNKEYWORD (\S+)", rest)
        found = sorted(uid for uid, mail in self.mails.items() if not skipped or skipped[1] not in mail.flags)
        if "DELETED" in rest:
            found = [uid for uid in found if r"\Deleted" in self.mails[uid].flags]
        if wanted.endswith(":*"):
            later = [uid for uid in found if uid >= int(wanted[:-2])]
            return later or found[-1:]  # the star is the last mail, whatever stands before it
        return [uid for uid in found if uid in set(map(int, wanted.split(",")))]

    def _fetch(self, rest: str) -> list[bytes]:
        lines = []
        for uid in self._uids(rest):
            if uid in self.vanish:
                self.mails.pop(uid)
                continue
            mail = self.mails[uid]
            place = sorted(self.mails).index(uid) + 1
            if "RFC822.SIZE" in rest:
                date = datetime.fromtimestamp(mail.at / 1000, UTC).strftime("%d-%b-%Y %H:%M:%S +0000")
                size = len(mail.content)
                said = f'(UID {uid} FLAGS () INTERNALDATE "{date}" RFC822.SIZE {size})'
                lines.append(f"* {place} FETCH {said}\r\n".encode())
                continue
            head, blank, text = mail.content.partition(b"\r\n\r\n")
            section, part = ("HEADER", head + blank) if "[HEADER]" in rest else ("TEXT", text)
            lines.append(
                f"* {place} FETCH (UID {uid} BODY[{section}]<0> {{{len(part)}}}\r\n".encode() + part + b")\r\n"
            )
        return lines


@asynccontextmanager
async def fake_imap() -> AsyncIterator[FakeImap]:
    """Runs it on a free port of 127.0.0.1."""
    made = FakeImap()
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    tasks = set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        made.ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(made.ca_file))
        try:
            yield made
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
