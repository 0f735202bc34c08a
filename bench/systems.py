"""What is measured: the robot as its users start it, and a Postfix that only relays the same mails."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.postfix import postfix
from tests.support.servers import free_port, wait_for_port

RECIPIENT = b"touroku@bench.example"

_SOCIETY = """\
name = "計測健康保険組合"

[addresses]
robot = "info@bench.example"
registration = "touroku@bench.example"
bounce = "bounce@bench.example"

[[help]]
kind = "phone"
name = "計測健康保険組合"
value = "03-0000-0000"

[journeys.paper]
starts = ["blank-mail", "web-form"]
steps = ["temporary-login", "credentials"]
"""


@dataclass(frozen=True)
class System:
    """Something that takes mails on `port` and sends one for each to the sink; `pid` is the root of its processes."""

    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of the process tree so far, children that have ended included."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mib(self) -> float:
        """Proportional set size of the process tree: shared pages count once."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]


@contextmanager
def relay(sink_port: int) -> Iterator[System]:
    """Postfix with Debian's defaults, its limits lifted: a durable queue, a log, and no thought about the mails."""
    if shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
        sys.exit("bench: Postfix is missing (Debian package postfix)")
    with postfix(relay_port=sink_port) as running:
        yield System("relay", running.port, running.master_pid())


def robot_config(folder: Path, *, smtp: int, web: int, ops: int, sink_port: int) -> None:
    """A configuration folder for the robot: SQLite, loopback, and budgets so wide that every mail is answered."""
    many = 1_000_000_000
    site: dict[str, dict[str, str | int | list[str]]] = {
        "site": {"data": str(folder / "var"), "web_url": f"http://127.0.0.1:{web}"},
        "smtp": {"listen": [f"127.0.0.1:{smtp}"], "trusted_peers": ["127.0.0.0/8"]},
        "web": {"listen": f"127.0.0.1:{web}"},
        "ops": {"listen": f"127.0.0.1:{ops}"},
        "relay": {"url": f"smtp://127.0.0.1:{sink_port}"},
        # the load generator forges every sender: a robot behind a mail server of its own, as Postfix here
        "authentication": {"mode": "off", "peers": ["127.0.0.0/8"]},
        "budgets": {"domain_per_hour": many, "network_per_hour": many, "society_per_hour_min": many},
    }
    (folder / "societies").mkdir()
    (folder / "societies/bench.toml").write_text(_SOCIETY, "utf-8")
    lines = []
    for section, keys in site.items():
        lines.append(f"[{section}]")
        # A string, a number and a list of strings look the same in JSON and in TOML.
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (folder / "mailbot.toml").write_text("\n".join(lines) + "\n", "utf-8")


@contextmanager
def robot(sink_port: int) -> Iterator[System]:
    """The robot, all roles in one process, started by its command line."""
    folder = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    smtp, web, ops = free_port(), free_port(), free_port()
    robot_config(folder, smtp=smtp, web=web, ops=ops, sink_port=sink_port)
    log = folder / "log"
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("mailbot"), "--config", str(folder), "serve"],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[1],
                env={key: value for key, value in os.environ.items() if not key.startswith("MAILBOT_")},
            )
        try:
            wait_for_port(smtp)
            yield System("robot", smtp, process.pid)
        except TimeoutError:
            sys.exit(f"bench: the robot did not start\n{_tail(log)}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])


def machine() -> dict[str, object]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(": ")[2] if models else os.uname().machine
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": os.uname().release}


