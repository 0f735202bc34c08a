"""`make fuzz`: looks for bytes that break a law of `targets.py`, guided by the branches they reach.

Each target gets the same share of the time, its start-up included, and begins with its seeds and all that was found
before; a quarter of its share goes to inputs by chance, without coverage (`chance.py`). What breaks a law is left in
`found/TARGET/`, where `test_fuzz.py` tries it again in every test run; commit it together with the repair.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).with_name("found")
LONGEST = 4 * 1024  # octets of one input
CHANCE = 0.25  # of a target's time
HANGS = 60  # seconds after which an input counts as found: all readers are linear, but slow while they are watched


def fuzz(name: str, seconds: float, found: Path = FOUND) -> bool:
    """True when nothing was found. Prints one line."""
    kept, begun = found / name, time.monotonic()
    target = TARGETS.get(name)
    share = CHANCE if target else 0
    with tempfile.TemporaryDirectory() as folder:
        corpus, news = Path(folder, "corpus"), Path(folder, "news")
        corpus.mkdir()
        news.mkdir()
        seeds = [*target.seeds(), *(one.read_bytes() for one in sorted(kept.glob("*")))] if target else []
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        ended = [_run("one", name, begun + seconds * (1 - share), str(corpus), *_options(news))]
        if target:
            ended.append(_run("chance", name, begun + seconds, str(news)))
        hits = sorted(news.glob("*"))
        for hit in hits:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(hit, kept / hit.name)
        tries = re.search(r"stat::number_of_executed_units:\s*(\d+)", ended[0].stderr)
        reached = re.findall(r"cov: (\d+)", ended[0].stderr)
        chance = sum(int(one.stdout) for one in ended[1:] if one.stdout.strip().isdigit())
        print(
            f"{name:8} {int(tries[1]) if tries else 0:9,} inputs, {reached[-1] if reached else 0:>5} branches, "
            f"{chance:7,} by chance, {time.monotonic() - begun:4.0f} s, "
            + (f"FOUND {', '.join(str(kept / hit.name) for hit in hits)}" if hits else "nothing found"),
            flush=True,
        )
    failed = any(one.returncode for one in ended)
    if hits or failed:
        for one in ended:
            print("\n".join([*one.stdout.splitlines()[-20:], *one.stderr.splitlines()[-12:]]), flush=True)
    return not hits and not failed


def _options(news: Path) -> list[str]:
    """What libFuzzer is told."""
    limits = [f"-max_len={LONGEST}", f"-timeout={HANGS}", f"-report_slow_units={HANGS}", "-rss_limit_mb=2048"]
    return [*limits, f"-artifact_prefix={news}/", "-print_final_stats=1"]


def _run(module: str, name: str, until: float, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.fuzz.{module}", name, str(until), *more],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


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
    seconds = options.minutes * 60 / math.ceil(len(names) / options.jobs)
    print(f"{len(names)} targets, {seconds:.0f} s each, {options.jobs} at a time", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        return 0 if all([*pool.map(partial(fuzz, seconds=seconds), names)]) else 1


if __name__ == "__main__":
    sys.exit(main())
