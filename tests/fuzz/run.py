"""`make fuzz`: looks for bytes that break a law of `targets.py`, guided by the branches they reach.

Each target gets the same share of the time and begins with its seeds and all that was found before. What breaks a law
is left in `found/TARGET/`, where `test_fuzz.py` tries it again in every test run; commit it together with the repair.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).with_name("found")
LONGEST = 4 * 1024  # octets of one input
HANGS = 20  # seconds after which an input counts as found: all readers are linear


def fuzz(name: str, seconds: int, found: Path = FOUND) -> bool:
    """True when nothing was found. Prints one line."""
    kept = found / name
    with tempfile.TemporaryDirectory() as folder:
        corpus, news = Path(folder, "corpus"), Path(folder, "news")
        corpus.mkdir()
        news.mkdir()
        seeds = (
            [*TARGETS[name].seeds(), *(one.read_bytes() for one in sorted(kept.glob("*")))] if name in TARGETS else []
        )
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        ended = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "tests.fuzz.one", name, str(corpus)),
                *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANGS}", "-rss_limit_mb=2048"),
                *(f"-artifact_prefix={news}/", "-print_final_stats=1"),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        hits = sorted(news.glob("*"))
        for hit in hits:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(hit, kept / hit.name)
        tries = re.search(r"stat::number_of_executed_units:\s*(\d+)", ended.stderr)
        reached = re.findall(r"cov: (\d+)", ended.stderr)
        print(
            f"{name:8} {int(tries[1]) if tries else 0:9,} inputs, {reached[-1] if reached else 0:>5} branches, "
            + (f"FOUND {', '.join(str(kept / hit.name) for hit in hits)}" if hits else "nothing found"),
            flush=True,
        )
    if hits or ended.returncode:
        print("\n".join([*ended.stdout.splitlines()[-20:], *ended.stderr.splitlines()[-12:]]), flush=True)
    return not hits and ended.returncode == 0


def main() -> int:
    """Exit status 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10, help="all together (10)")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="at a time")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    seconds = max(1, round(options.minutes * 60 * options.jobs / len(names)))
    print(f"{len(names)} targets, {seconds} s each, {options.jobs} at a time", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        return 0 if all([*pool.map(partial(fuzz, seconds=seconds), names)]) else 1


if __name__ == "__main__":
    sys.exit(main())
