"""One connection to an IMAP server: aioimaplib with a guard around every wait.

aioimaplib leaves commands waiting for ever when a connection is lost, when IDLE is answered with BYE and when a server
asks on in an XOAUTH2 login; an answer of a thousand lines at once ends in its recursion. So every command races against
the end of the connection and a time limit, what comes in is handed on in small pieces, and whoever catches `Lost` or
anything else throws the connection away.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

from aioimaplib import aioimaplib

from mailbot.config.site import ImapMailbox
from mailbot.intake.imap import wire
from mailbot.intake.imap.wire import Facts, Line, Selected

CONNECT_SECONDS = 20
COMMAND_SECONDS = 60
"""The longest silence before an answer is complete."""
ANSWER_SECONDS = 600
"""The longest wait for a whole answer, however steadily it comes."""
IDLE_SECONDS = 15
"""The longest wait for the server's + after IDLE, and for its answer to DONE."""
PIECE = 4096
"""Octets the library is given at once: it goes one call deeper with each line."""
HEADER_LIMIT = 64 * 1024 + 1  # octets; one too many, so that its reader sees it is too long
BODY_LIMIT = 64 * 1024  # octets
DONE = "$RobotDone"
_LATER = re.compile(
    rb"\[(UNAVAILABLE|INUSE|SERVERBUG|LIMIT|OVERQUOTA)\]|too many simultaneous connections", re.IGNORECASE
).search
"""RFC 5530, and Gmail's own words: login and folder may be right, the server is not."""


_COUNT = re.compile(rb"\* (\d{1,10}) (EXISTS|EXPUNGE)$", re.IGNORECASE).match


class Lost(OSError):
    """The connection is of no use any more; the text says why."""


class Denied(Exception):
    """The server, or we, will refuse the next try just as well: login, certificate, folder. The text says what."""


class _Protocol(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc]  # the library has no types
    news = False
    """Mail was announced, maybe while nobody idled, which the library passes over."""
    received = 0
    """Octets, so that a slow answer can be told from none."""
    exists = 0
    """Mails in the folder, as far as the server told: some tell it with every answer (RFC 3501 section 7.3.1)."""

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        for start in range(0, len(data), PIECE):
            super().data_received(data[start : start + PIECE])

    async def welcome(self, line: bytes) -> None:
        try:
            await super().welcome(line)
        except Exception as error:
            self.conn_lost_cb(error)

    def _untagged_response(self, line: bytes) -> Any:
        if told := _COUNT(line):
            number, what = int(told[1]), told[2].upper()
            number = self.exists - 1 if what == b"EXPUNGE" else number
            self.news |= what == b"EXISTS" and number != self.exists
            self.exists = number
        if line[:5].upper() == b"* BYE":
            self.conn_lost_cb(ConnectionError(line.decode("ascii", "replace")[:120]))
        return super()._untagged_response(line)

    def _continuation(self, line: bytes) -> None:
        pending = self.pending_sync_command
        if pending is not None and pending.name == "AUTHENTICATE":
            self.send("")  # the challenge holds the error; an empty answer brings the NO
        super()._continuation(line)


class _Client(aioimaplib.IMAP4):  # type: ignore[misc]  # aioimaplib has no types
    def create_client(self, host: str, port: int, loop: Any, conn_lost_cb: Any = None, ssl_context: Any = None) -> None:
        running = asyncio.get_running_loop()
        self.protocol = _Protocol(running, conn_lost_cb)
        self._client_task = running.create_task(
            running.create_connection(lambda: self.protocol, host, port, ssl=ssl_context)
        )


def secret(mailbox: ImapMailbox) -> Path:
    """The file with the password or the token."""
    return mailbox.password_file if mailbox.password_file != Path() else mailbox.token_file


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise Denied(f"{path}: others can read this secret: run `chmod 600 {path}`")
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise Denied(f"{path} cannot be read: {words}") from None


class Connection:
    """Open and logged in. Raises Lost; after any exception `abort` is all that may be called."""

    def __init__(self, mailbox: ImapMailbox, context: ssl.SSLContext) -> None:
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._client = _Client(
            mailbox.host, mailbox.port, timeout=ANSWER_SECONDS, conn_lost_cb=self._gone, ssl_context=context
        )
        self._selected = Selected(0, None, False)

    @classmethod
    async def open(cls, mailbox: ImapMailbox) -> Self:
        """Connects with TLS and logs in. Raises Lost, Denied."""
        word = _read(secret(mailbox))
        try:
            context = ssl.create_default_context(cafile=mailbox.ca_file if mailbox.ca_file != Path() else None)
        except OSError as error:
            raise Denied(f"{mailbox.ca_file}: {error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        made = cls(mailbox, context)
        try:
            await made._greet(mailbox)
            await made._login(mailbox, word)
        except BaseException:
            made.abort()
            raise
        return made

    async def _greet(self, mailbox: ImapMailbox) -> None:
        try:
            await self._do(self._client.wait_hello_from_server(), CONNECT_SECONDS)
        except Lost as lost:
            if isinstance(lost.__cause__, ssl.SSLCertVerificationError):
                words = lost.__cause__.verify_message
                raise Denied(f"the certificate of {mailbox.host} is not to be trusted: {words}") from lost
            mend = "is the server running, are host and port right, does a firewall stand between?"
            raise Lost(f"{mailbox.host}:{mailbox.port} cannot be reached: {lost} ({mend})") from lost

    async def _login(self, mailbox: ImapMailbox, word: str) -> None:
        if self._client.get_state() != aioimaplib.NONAUTH:
            raise Denied("the server lets anybody in (PREAUTH)")
        if mailbox.token_file != Path():
            if not self._offers("AUTH=XOAUTH2"):
                raise Denied("the server does not offer XOAUTH2")
            work = self._client.xoauth2(mailbox.user, word)
        else:
            work = self._client.login(wire.quoted(mailbox.user), word)
        answer = await self._do(work, COMMAND_SECONDS, plain=True)
        if answer.result != "OK":
            said = b" ".join(bytes(line) for line in answer.lines[-1:])
            words = said.decode("ascii", "replace")
            if _LATER(said):
                raise Lost(f"the server cannot log in {mailbox.user} at the moment: {words}")
            mend = f"are user and the content of {secret(mailbox)} right?"
            raise Denied(f"the server refuses the login of {mailbox.user}: {words} ({mend})")
        await self._do(self._client.protocol.capability(), COMMAND_SECONDS)

    def _offers(self, capability: str) -> bool:
        return capability in {str(one).upper() for one in self._client.protocol.capabilities}

    @property
    def flag(self) -> str:
        """What marks a mail that is done with."""
        return DONE if self._selected.keywords else r"\Flagged"

    async def select(self, folder: str) -> Selected:
        """Opens the folder. Raises Denied where that cannot be."""
        answer = await self._do(self._client.select(wire.folder_name(folder)), COMMAND_SECONDS)
        if answer.result != "OK":
            said = bytes(answer.lines[-1])
            words = f"folder {folder} cannot be opened: {said.decode('ascii', 'replace')}"
            raise Denied(words) if answer.result == "NO" and not _LATER(said) else Lost(words)
        try:
            self._selected = wire.selected(answer.lines)
        except ValueError:
            raise Denied(f"folder {folder} has no UIDVALIDITY: such a server cannot be read safely") from None
        return self._selected

    async def search(self, first: int, *, everything: bool = False) -> list[int]:
        """UIDs from `first` on, without those marked as done where the mark is ours alone; `everything`: with them, and
        mail announced meanwhile still counts as news, for nobody takes it in."""
        if not everything:
            self._client.protocol.news = False
        found = await self._search(*self._unmarked(not everything), "UID", f"{first}:*")
        return [uid for uid in found if uid >= first]  # the star is the last mail, however low its number

    async def present(self, uids: Sequence[int], *, unmarked: bool = False) -> set[int]:
        """Which of these UIDs there are; `unmarked`: without those marked as done where the mark is ours alone."""
        return set(await self._search(*self._unmarked(unmarked), "UID", wire.uid_set(uids))) if uids else set()

    def _unmarked(self, wanted: bool) -> list[str]:
        return ["UNKEYWORD", DONE] if wanted and self._selected.keywords else []

    async def _search(self, *criteria: str) -> list[int]:
        answer = await self._do(self._client.uid_search(*criteria, charset=None), COMMAND_SECONDS)
        return wire.found(_ok(answer, "SEARCH"))

    async def facts(self, uids: Sequence[int]) -> dict[int, Facts]:
        """UID -> facts of those that are still there."""
        return wire.facts(await self._fetch(uids, "(UID FLAGS INTERNALDATE RFC822.SIZE)"))

    async def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """UID -> header block with its blank line, cut one octet past 64 KiB."""
        return wire.contents(await self._fetch(uids, f"(UID BODY.PEEK[HEADER]<0.{HEADER_LIMIT}>)"))

    async def bodies(self, uids: Sequence[int]) -> dict[int, bytes]:
        """UID -> the first 64 KiB of the body."""
        return wire.contents(await self._fetch(uids, f"(UID BODY.PEEK[TEXT]<0.{BODY_LIMIT}>)"))

    async def _fetch(self, uids: Sequence[int], what: str) -> Sequence[Line]:
        if not uids:
            return ()
        answer = await self._do(self._client.uid("fetch", wire.uid_set(uids), what), COMMAND_SECONDS)
        # NO means that some mails have gone meanwhile (RFC 2180 section 4.1.3)
        return answer.lines if answer.result == "NO" else _ok(answer, "FETCH")

    async def mark(self, uids: Sequence[int]) -> bool:
        return await self._store(uids, self.flag)

    async def _store(self, uids: Sequence[int], flag: str) -> bool:
        return await self._uid("store", wire.uid_set(uids), "+FLAGS.SILENT", f"({flag})")

    @property
    def moves(self) -> bool:
        """Whether mails can be moved. A plain EXPUNGE would take mails along that somebody else deleted."""
        return self._offers("MOVE") or self._offers("UIDPLUS")

    async def move(self, uids: Sequence[int], folder: str) -> bool:
        """Moves mails to a folder, which is made where it is missing. False where the server will not."""
        verb = "move" if self._offers("MOVE") else "copy"
        name, given = wire.folder_name(folder), wire.uid_set(uids)
        # a try before this one may have ended between COPY and EXPUNGE
        copied = await self._search("DELETED", "UID", given) if verb == "copy" else []
        rest = wire.uid_set(uid for uid in uids if uid not in copied)
        if rest and not await self._uid(verb, rest, name):
            await self._do(self._client.create(name), COMMAND_SECONDS)
            if not await self._uid(verb, rest, name):
                return False
        if verb == "copy":
            return await self._store(uids, r"\Deleted") and await self._uid("expunge", given)
        return True

    async def have(self, folder: str) -> bool:
        """Whether the folder is there, or could be made."""
        name = wire.folder_name(folder)
        for make in (False, True):
            if make:
                await self._do(self._client.create(name), COMMAND_SECONDS)
            if (await self._do(self._client.status(name, "(UIDVALIDITY)"), COMMAND_SECONDS)).result == "OK":
                return True
        return False

    async def _uid(self, *words: str) -> bool:
        answer = await self._do(self._client.uid(*words), COMMAND_SECONDS)
        return bool(answer.result == "OK")

    async def idle(
        self,
        seconds: float,
        stop: asyncio.Event,
        beat: float,
        on_beat: Callable[[], Awaitable[None]],
        *,
        push: bool = True,
    ) -> None:
        """Until mail is announced, `stop` is set, or `seconds` are over; `on_beat` is called every `beat` seconds.
        Without `push` the server is not asked to announce any."""
        if self._client.protocol.news:
            return
        queue: asyncio.Queue[Any] = self._client.protocol.idle_queue
        while not queue.empty():
            queue.get_nowait()
        idle = None
        if push and self._offers("IDLE"):
            idle = await self._do(self._client.idle_start(seconds + COMMAND_SECONDS), IDLE_SECONDS)
        stopped = asyncio.ensure_future(stop.wait())
        pushed = asyncio.ensure_future(queue.get())
        loop = asyncio.get_running_loop()
        end, next_beat = loop.time() + seconds, loop.time() + beat
        try:
            while (now := loop.time()) < end:
                if now >= next_beat:
                    next_beat = now + beat
                    await on_beat()
                waiting = {stopped, pushed, self._lost, *((idle,) if idle else ())}
                left = max(min(end, next_beat) - loop.time(), 0)
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if self._lost in done:
                    raise Lost(self._lost.result())
                if pushed in done and not all(_chatter(line) for line in pushed.result()):
                    break
                if self._client.protocol.news or done - {pushed}:
                    break
                if pushed in done:
                    pushed = asyncio.ensure_future(queue.get())
        finally:
            stopped.cancel()
            pushed.cancel()
        if idle is not None:
            if not idle.done():
                self._client.idle_done()
            _ok(await self._do(idle, IDLE_SECONDS), "IDLE")

    async def logout(self) -> None:
        with contextlib.suppress(Lost):
            await self._do(self._client.logout(), IDLE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Hangs up without a word."""
        self._gone(None)
        client = self._client
        if client._idle_waiter is not None:
            client._idle_waiter.cancel()
        for task in (client._client_task, *client.tasks, *client.protocol.tasks):
            if not task.done():
                task.cancel()
        if client.protocol.transport is not None:
            client.protocol.transport.abort()

    def _gone(self, error: BaseException | None) -> None:
        if not self._lost.done():
            self._lost.set_result(str(error or "the server hung up"))

    async def _do(
        self, work: Coroutine[Any, Any, Any] | asyncio.Future[Any], seconds: float, plain: bool = False
    ) -> Any:
        """Runs a command against the end of the connection and the clock: `seconds` of silence end it."""
        task = asyncio.ensure_future(work)
        try:
            await self._hear(task, seconds)
            if task.done() and not task.cancelled():
                try:
                    return task.result()
                except (aioimaplib.AioImapException, OSError, ValueError, IndexError) as error:
                    if plain and isinstance(error, ValueError):
                        raise Denied("user, password or token hold characters that no login may have") from None
                    raise Lost(f"{type(error).__name__}: {error}") from error
            raise Lost(self._lost.result() if self._lost.done() else f"no answer in {seconds:g} s")
        finally:
            if not task.done():
                task.cancel()

    async def _hear(self, task: asyncio.Future[Any], seconds: float) -> None:
        loop, protocol = asyncio.get_running_loop(), self._client.protocol
        end, heard = loop.time() + ANSWER_SECONDS, -1
        while heard != protocol.received and loop.time() < end:
            heard = protocol.received
            done, _ = await asyncio.wait({task, self._lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return


def _ok(answer: Any, command: str) -> Sequence[Line]:
    if answer.result != "OK":
        raise Lost(f"{command} got {answer.result} {answer.lines[-1].decode('ascii', 'replace')[:120]}")
    lines: Sequence[Line] = answer.lines
    return lines


def _chatter(line: bytes) -> bool:
    """What a server says to keep the line open, such as `OK Still here`, or a count, which is news where it changed."""
    return line.startswith(b"OK ") or line.upper().endswith(b" EXISTS") or line in aioimaplib.STOP_WAIT_SERVER_PUSH
