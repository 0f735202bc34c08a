"""What the log may say; in a process of its own, because a log belongs to the whole process."""

import subprocess
import sys

TOKEN = "abcdefghijklmnopqrstuvwxyz234567ab"
PROGRAM = f"""
import logging
from mailbot import telemetry
telemetry.configure("info", "json")
try:
    raise ValueError("duplicate key: (address)=(hanako@docomo.ne.jp), /r/{TOKEN}")
except ValueError as error:
    telemetry.emit("web.error", error=error)
    logging.getLogger("uvicorn.error").exception("in the application")
"""


def test_a_trace_names_nobody() -> None:
    written = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stderr
    assert written.count("ValueError") >= 2
    assert written.count("***@docomo.ne.jp") >= 2
    assert "hanako" not in written
    assert TOKEN not in written
