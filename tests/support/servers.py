"""Real programs the tests start. One that is missing skips its tests, by name; where CI is set, a skip is a failure."""

import os
import shutil
import socket
import time
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


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
