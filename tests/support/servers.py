"""Real programs the tests start. One that is missing skips its tests, by name; where CI is set, a skip is a failure."""

import contextlib
import itertools
import os
import random
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/lib/postfix/sbin"])
_PACKAGES = {
    "chromium": "chromium",
    "opendkim": "opendkim",
    "opendkim-testkey": "opendkim-tools",
    "postfix": "postfix",
    "strings": "binutils",
    "swaks": "swaks",
    "unbound": "unbound",
    "zbarimg": "zbar-tools",
}


def program(name: str) -> Path:
    """The path of an installed program; skips the test that asked if there is none."""
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        pytest.skip(f"missing server: {name} (Debian package {_PACKAGES.get(name, name)})")
    return Path(found)


def _ports() -> Iterator[int]:
    """Below those that the kernel gives to outgoing connections: one of these would take a port between its being found
    and being listened on. Each process of the tests has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first = 15_000 + 2000 * worker
    return itertools.cycle(random.Random().sample(range(first, first + 2000), 2000))


_candidates = _ports()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on."""
    for port in _candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise AssertionError("the candidates never end")


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Return once something on the loopback accepts; TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port} after {seconds:g} s")
