"""Run `mailbot` under cProfile, each thread of it, and leave the merged figures: python -m bench.profiled FILE …"""

import atexit
import cProfile
import pstats
import sys
import threading

_finished: list[cProfile.Profile] = []
_plain_run = threading.Thread.run


def _profiled_run(thread: threading.Thread) -> None:
    profile = cProfile.Profile()
    try:
        profile.runcall(_plain_run, thread)
    finally:
        _finished.append(profile)


def _write(path: str) -> None:
    # At exit the pools have joined their threads; one that still runs is left out.
    stats = pstats.Stats(*_finished)
    stats.dump_stats(path)


def main() -> None:
    """Take FILE off the arguments and hand the rest to the command line."""
    from mailbot.cli import main as command_line

    path = sys.argv.pop(1)
    atexit.register(_write, path)
    setattr(threading.Thread, "run", _profiled_run)  # noqa: B010  cProfile sees one thread; this gives each its own
    profile = cProfile.Profile()
    try:
        profile.runcall(command_line)
    finally:
        _finished.append(profile)


if __name__ == "__main__":
    main()
