"""Where the robot's time goes: py-spy looks at its stacks from outside, many times a second, and hardly slows it."""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIMES_A_SECOND = 250
_LINE = re.compile(r":\d+\)$")
_FRAME = re.compile(r"^<module>|\((mailbot/cli|typer|threading|asyncio/runners)\b")  # on the stack of everything
_PACKAGES = re.compile(r"\(.*?site-packages/")


@contextmanager
def watched(pid: int, out: Path) -> Iterator[None]:
    """Watch a process for as long as the block lasts; `out` gets one line a stack: frames joined by ';', and how often.

    Sleeping threads are left out. Needs root or the right to trace another process.
    """
    program, rate = Path(sys.executable).with_name("py-spy"), str(_TIMES_A_SECOND)
    spy = subprocess.Popen(
        [str(program), "record", "--pid", str(pid), "--rate", rate, "--format", "raw", "--output", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        spy.send_signal(signal.SIGINT)
        _, words = spy.communicate(timeout=60)
    if not out.exists():
        sys.exit(f"bench: py-spy saw nothing: {words.strip()[-300:]}")


def report(raw: Path, lines: int = 30) -> str:
    """Two tables, in per cent of all samples: time by our own innermost function, and by all functions on the stack."""
    own, whole, total = Counter[str](), Counter[str](), 0
    for line in raw.read_text("utf-8", "replace").splitlines():
        stack, _, times = line.rpartition(" ")
        count = int(times)
        frames = [_PACKAGES.sub("(", _LINE.sub(")", frame)) for frame in stack.split(";")]
        ours = [frame for frame in frames if "(mailbot/" in frame and "/cli/" not in frame]
        own[ours[-1] if ours else f"none: {frames[-1]}"] += count
        whole.update(dict.fromkeys((frame for frame in frames if not _FRAME.search(frame)), count))
        total += count
    text = [f"{total} samples of threads that did not sleep; a thread that waits for the interpreter's lock counts too"]
    for title, counts in (("innermost function of ours", own), ("anywhere on the stack", whole)):
        text += ["", f"  {title}"]
        text += [f"  {100 * count / total:5.1f} %  {frame}" for frame, count in counts.most_common(lines)]
    return "\n".join(text)
