"""A private unbound on loopback that serves the zones of a test and nothing else of the world."""

from __future__ import annotations

import shutil
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.support.servers import free_port, program

Records = Mapping[str, Sequence[str] | str]
"""Owner name -> records in zone-file form, such as `TXT "v=spf1 -all"` or `MX 10 mx.example.`."""

SETTINGS = """\
server:
    directory: "{folder}"
    username: ""
    chroot: ""
    pidfile: "{folder}/pid"
    use-syslog: no
    logfile: "{folder}/log"
    do-daemonize: no
    interface: 127.0.0.1@{port}
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-not-query-localhost: no
    num-threads: 1
    module-config: "iterator"
    local-zone: "." static
{zones}
remote-control:
    control-enable: no
{forwards}
"""


@dataclass(frozen=True)
class Unbound:
    """`endpoint` is for `dns.servers`."""

    port: int
    folder: Path

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a robot ask here."""
        return {"DNS_SERVERS": f'["{self.endpoint}"]'}


class _Broken(socketserver.BaseRequestHandler):
    """A name server with a fault."""

    def handle(self) -> None:
        packet, sock = self.request
        answer = dns.message.make_response(dns.message.from_wire(packet))
        answer.set_rcode(dns.rcode.SERVFAIL)
        sock.sendto(answer.to_wire(), self.client_address)


@contextmanager
def _broken_server() -> Iterator[int]:
    with socketserver.UDPServer(("127.0.0.1", 0), _Broken) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()


def _settings(
    folder: Path,
    port: int,
    records: Records,
    failing: Collection[str],
    silent: Collection[str],
    broken: int,
    zones_with_aliases: Mapping[str, Records],
) -> str:
    zones = [
        f"    local-data: '{owner.rstrip('.')}. 60 IN {line}'"
        for owner, lines in records.items()
        for line in ([lines] if isinstance(lines, str) else lines)
    ]
    zones += [f'    local-zone: "{name.rstrip(".")}." always_deny' for name in silent]
    zones += [f'    local-zone: "{name.rstrip(".")}." transparent' for name in failing]
    zones += [f'    local-zone: "{name.rstrip(".")}." transparent' for name in zones_with_aliases]
    forwards = [
        f'forward-zone:\n    name: "{name.rstrip(".")}."\n    forward-addr: 127.0.0.1@{broken}' for name in failing
    ]
    forwards += [_zone(folder, name.rstrip("."), found) for name, found in zones_with_aliases.items()]
    return SETTINGS.format(folder=folder, port=port, zones="\n".join(zones), forwards="\n".join(forwards))


def _zone(folder: Path, name: str, records: Records) -> str:
    """A zone that is resolved like those of the world, so that aliases are followed."""
    lines = [f"{name}. 60 IN SOA ns.{name}. hostmaster.{name}. 1 60 60 60 60", f"{name}. 60 IN NS ns.{name}."]
    lines += [f"ns.{name}. 60 IN A 127.0.0.1"]
    for owner, found in records.items():
        lines += [f"{owner.rstrip('.')}. 60 IN {line}" for line in ([found] if isinstance(found, str) else found)]
    file = folder / f"{name}.zone"
    file.write_text("\n".join(lines) + "\n")
    return f'auth-zone:\n    name: "{name}."\n    zonefile: "{file}"\n    for-downstream: no\n    for-upstream: yes'


@contextmanager
def resolver(
    records: Records,
    *,
    failing: Collection[str] = (),
    silent: Collection[str] = (),
    zones_with_aliases: Mapping[str, Records] | None = None,
) -> Iterator[Unbound]:
    """Answers from `records`, NXDOMAIN for everything else. Names under `failing` get SERVFAIL, those under `silent` no
    answer at all. A CNAME is followed only where it stands in one of `zones_with_aliases`, by name, and stays there.

    A text in a record is quoted as in a zone file; one longer than 255 octets as several quoted pieces.
    """
    unbound = program("unbound")
    folder = Path(tempfile.mkdtemp(prefix="mb-unbound-"))
    port = free_port()
    file = folder / "unbound.conf"
    with _broken_server() as broken:
        file.write_text(_settings(folder, port, records, failing, silent, broken, zones_with_aliases or {}))
        process = subprocess.Popen([unbound, "-d", "-c", str(file)], stderr=subprocess.PIPE)
        try:
            _wait(port, process)
            yield Unbound(port, folder)
        finally:
            process.kill()
            process.communicate()
            shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    question = dns.message.make_query("ready.test.", "A")
    for _ in range(100):
        if process.poll() is not None:
            _, words = process.communicate()
            raise AssertionError(f"unbound ended: {words.decode()}")
        try:
            dns.query.udp(question, "127.0.0.1", timeout=0.1, port=port)
            return
        except (dns.exception.Timeout, OSError):
            continue
    raise AssertionError("unbound does not answer")
