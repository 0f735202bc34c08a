"""A private Dovecot: IMAP with TLS on a free port, Maildirs of its own, every user with the same password.

Needs root, as Dovecot does. Mail can be delivered by file, as a delivery agent does, or through IMAP.
"""

from __future__ import annotations

import contextlib
import imaplib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import trustme

from tests.support.servers import program, wait_for_port

PASSWORD = 'se"cret'
_CONFIG = """\
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = required
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
mail_location = maildir:{folder}/mail/%u
mail_fsync = never
first_valid_uid = 1
first_valid_gid = 1
auth_failure_delay = 0
mail_max_userip_connections = 1000
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = password={{PLAIN}}{password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%u
}}
{more}
"""


@dataclass
class Dovecot:
    """`folder` holds everything; `ca_file` is what a client has to trust."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    _numbers: count[int] = field(default_factory=count)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [program("dovecot"), "-F", "-c", str(self.folder / "dovecot.conf")], start_new_session=True
        )
        try:
            wait_for_port(self.port)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    def kill(self) -> None:
        """kill -9 of the server and of every session."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def client(self, user: str) -> imaplib.IMAP4_SSL:
        """A mail program of this user, logged in."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        opened = imaplib.IMAP4_SSL("127.0.0.1", self.port, ssl_context=context, timeout=20)
        opened.login(user, PASSWORD)
        return opened

    def maildir(self, user: str) -> Path:
        return self.folder / "mail" / user

    def deliver(self, user: str, *mails: bytes, at: int) -> None:
        """What a delivery agent does with mails that arrive at `at` (ms since the epoch)."""
        inbox = self.maildir(user)
        for name in ("tmp", "new", "cur"):
            (inbox / name).mkdir(parents=True, exist_ok=True)
        nobody = pwd.getpwnam("nobody")
        for path in (inbox, *inbox.iterdir()):
            if path.is_dir():
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for mail in mails:
            name = f"{at // 1000}.{next(self._numbers):06}.test"
            path = inbox / "tmp" / name
            path.write_bytes(mail)
            os.utime(path, (at / 1000, at / 1000))
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
            path.rename(inbox / "new" / name)

    @contextmanager
    def restored(self, user: str) -> Iterator[None]:
        """What happens to the mailbox within the block is undone at its end, as by a backup: UIDVALIDITY stays."""
        backup = self.folder / "backup"
        self._put_back(self.maildir(user), backup)
        yield
        self._put_back(backup, self.maildir(user))

    def _put_back(self, source: Path, target: Path) -> None:
        self.kill()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        nobody = pwd.getpwnam("nobody")
        for path in (target, *target.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.start()

    def renumber(self, user: str) -> None:
        """UIDVALIDITY changes, and every mail is numbered anew."""
        uids = self.maildir(user) / "dovecot-uidlist"
        validity = re.search(r" V(\d+)", uids.read_text().splitlines()[0])
        assert validity
        for path in self.maildir(user).glob("dovecot[.-]*"):
            if path.is_file():
                path.unlink()
        uids.write_text(f"3 V{int(validity[1]) + 1} N1\n")
        nobody = pwd.getpwnam("nobody")
        os.chown(uids, nobody.pw_uid, nobody.pw_gid)

    def folders(self, user: str) -> dict[str, list[tuple[int, str, bytes]]]:
        """Folder as it stands on the wire -> (UID, flags, header) of its mails."""
        client = self.client(user)
        found: dict[str, list[tuple[int, str, bytes]]] = {}
        try:
            for line in client.list()[1]:
                assert isinstance(line, bytes)
                name = line.decode().rpartition(' "." ')[2] if '"." ' in line.decode() else line.decode().split()[-1]
                client.select(name, readonly=True)
                found[name.strip('"')] = []
                _, parts = client.uid("fetch", "1:*", "(FLAGS BODY.PEEK[HEADER])")
                for part in parts:
                    if isinstance(part, tuple):
                        said = part[0].decode()
                        uid, flags = re.search(r"UID (\d+)", said), re.search(r"FLAGS \(([^)]*)\)", said)
                        assert uid
                        assert flags
                        found[name.strip('"')].append((int(uid[1]), flags[1], part[1]))
        finally:
            client.logout()
        return found


def _steady_port() -> int:
    """A free port that no outgoing connection is given while the server is down."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def dovecot(more: str = "") -> Iterator[Dovecot]:
    """Runs Dovecot with `more` lines of configuration."""
    program("dovecot")
    folder = Path(tempfile.mkdtemp(prefix="mb-dovecot-", dir="/tmp"))
    folder.chmod(0o755)
    made = Dovecot(folder, _steady_port())
    try:
        for name in ("run", "state", "mail"):
            (folder / name).mkdir()
        shutil.chown(folder / "mail", "nobody", "nogroup")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(made.ca_file))
        server = authority.issue_cert("127.0.0.1")
        server.private_key_pem.write_to_path(str(folder / "key.pem"))
        server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        text = _CONFIG.format(folder=folder, port=made.port, password=PASSWORD, more=more)
        (folder / "dovecot.conf").write_text(text)
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)
