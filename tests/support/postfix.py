"""A private Postfix: own configuration, queue, data, log and port; nothing of the machine's own Postfix is touched."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import free_port, program, wait_for_port

_DAEMONS = Path("/usr/lib/postfix/sbin")

# Debian's services without chroot: the queue directory needs no copies of resolver and time zone files.
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
smtp      unix  - - n -     - smtp
lmtp      unix  - - n -     - lmtp
relay     unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
local     unix  - n n -     - local
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


def _settings(directory: Path) -> dict[str, str]:
    return {
        "compatibility_level": "3.6",
        "queue_directory": f"{directory}/queue",
        "data_directory": f"{directory}/data",
        "command_directory": "/usr/sbin",
        "daemon_directory": str(_DAEMONS),
        "maillog_file": f"{directory}/log",
        "maillog_file_prefixes": str(directory),
        "mail_owner": "postfix",
        "setgid_group": "postdrop",
        "myhostname": "relay.test",
        "myorigin": "relay.test",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "alias_maps": "",
        "alias_database": "",
        "local_recipient_maps": "",
        "smtp_dns_support_level": "disabled",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtpd_recipient_restrictions": "",
        "smtpd_peername_lookup": "no",
        # Anvil's limits protect the internet from a machine; here all clients are one address.
        "smtpd_client_connection_count_limit": "0",
        "smtpd_client_connection_rate_limit": "0",
        "smtpd_client_message_rate_limit": "0",
        "smtpd_client_recipient_rate_limit": "0",
        "biff": "no",
        "append_dot_mydomain": "no",
    }


@dataclass(frozen=True)
class Postfix:
    """A running instance. `port` takes mail from the loopback; where it goes is what the instance was started with."""

    directory: Path
    port: int

    def log(self) -> str:
        """Everything Postfix has logged so far; postlogd writes a moment after the event."""
        path = self.directory / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def queue(self) -> list[Path]:
        """Queue files of mails not yet delivered."""
        found: list[Path] = []
        for name in ("incoming", "active", "deferred"):
            found += [path for path in (self.directory / "queue" / name).rglob("*") if path.is_file()]
        return found

    def flush(self) -> None:
        """Try every deferred mail now."""
        self._control("flush")

    def master_pid(self) -> int:
        """Process id of master(8), the parent of all the others."""
        return int((self.directory / "queue/pid/master.pid").read_text())

    def _control(self, verb: str, *, check: bool = True) -> None:
        done = subprocess.run(
            [program("postfix"), "-c", str(self.directory / "etc"), verb],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"postfix {verb} failed ({done.returncode}): {done.stderr}\n{self.log()}")


@contextmanager
def postfix(
    *,
    relay_port: int | None = None,
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
    files: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """Run Postfix: everything it takes goes on to 127.0.0.1:`relay_port`, or is discarded where there is none.

    `settings` are further lines of main.cf, whose `$config_directory` holds the `files` (name -> text). Needs root, as
    Postfix does; the directory lies outside pytest's own, which the user postfix cannot enter.
    """
    program("postfix")
    directory = Path(tempfile.mkdtemp(prefix="mb-postfix-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        for name in ("etc", "queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix", "postfix")
        instance = Postfix(directory, port or free_port())
        onward = {"relayhost": f"[127.0.0.1]:{relay_port}"} if relay_port else {"default_transport": "discard"}
        lines = _settings(directory) | onward | dict(settings or {})
        (directory / "etc/main.cf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        for name, text in (files or {}).items():
            (directory / "etc" / name).write_text(text)
        (directory / "etc/master.cf").write_text(_MASTER.format(port=instance.port))
        instance._control("start")
        try:
            wait_for_port(instance.port)
            yield instance
        finally:
            # 'stop' waits for the mails in delivery; 'abort' does not, and every mail that got its 250 is on disk.
            instance._control("abort", check=False)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
