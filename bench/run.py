"""`make bench`: how many mails a second the robot answers, beside a Postfix that only relays the same mails.

Both run at the same time on the same machine and are loaded in turns, so that a busy neighbour hurts both alike: trust
the ratio, not the figures. Load and sink share one process; the CPU they take is not in the CPU column.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import Load, send
from bench.mails import corpus
from bench.profile import report, watched
from bench.sink import Sink, start
from bench.systems import RECIPIENT, System, machine, relay, robot

_RESULTS = Path(__file__).with_name("results")
_PATIENCE = 20.0  # seconds without any new answer after which the rest counts as lost
_LONGEST = 300.0  # seconds one round may take to send
_WANTED = 1.0  # times the relay


@dataclass(frozen=True)
class Round:
    """One system under one load."""

    system: str
    mails: int
    answered: int
    refused: int
    doubles: int
    per_second: float  # answers / (first MAIL FROM .. last answer)
    cpu_ms: float  # CPU of the system's processes a mail
    p50_ms: float  # from the sender's 250 to the answer at the sink
    p99_ms: float
    memory_mib: float


async def _round(system: System, sink: Sink, load: Load, connections: int, per_connection: int) -> Round:
    doubles, before = sink.doubles, system.cpu_seconds()
    async with asyncio.timeout(_LONGEST):
        await send(load, system.port, connections, per_connection)
    waiting, news = set(load.accepted) - sink.arrived.keys(), time.monotonic()
    while waiting and time.monotonic() - news < _PATIENCE:
        await asyncio.sleep(0.02)
        left = {number for number in waiting if number not in sink.arrived}
        if len(left) < len(waiting):
            waiting, news = left, time.monotonic()
    # What follows an answer (the mark that it was sent, the queue file's end) belongs to its price.
    await asyncio.sleep(0.5)
    times = {number: sink.arrived[number] for number in load.accepted if number in sink.arrived}
    if not times:
        sys.exit(f"bench: the {system.name} answered none of {load.mails} mails; refusals: {dict(load.refused)}")
    waits = sorted(times[number] - load.accepted[number] for number in times)
    return Round(
        system=system.name,
        mails=load.mails,
        answered=len(times),
        refused=load.refused.total(),
        doubles=sink.doubles - doubles,
        per_second=len(times) / (max(times.values()) - load.started),
        cpu_ms=(system.cpu_seconds() - before) * 1000 / len(times),
        p50_ms=max(0.0, waits[len(waits) // 2]) * 1000,
        p99_ms=max(0.0, waits[len(waits) * 99 // 100]) * 1000,
        memory_mib=system.memory_mib(),
    )


async def _measure(options: argparse.Namespace, profile: Path | None) -> tuple[list[Round], Sink]:
    sink = Sink()
    server = await start(sink)
    rounds: list[Round] = []
    first = 0
    with ExitStack() as stack:
        systems = []
        if options.only != "relay":
            systems.append(stack.enter_context(robot(sink.port)))
        if options.only != "robot" and not profile:
            systems.append(stack.enter_context(relay(sink.port)))
        for number in range(options.rounds + 1):
            if profile and number == 1:
                stack.enter_context(watched(systems[0].pid, profile))
            for system in systems:
                mails = options.mails if number else max(options.mails // 10, options.connections)
                load = Load(RECIPIENT, first, mails)
                first += mails
                done = await _round(system, sink, load, options.connections, options.per_connection)
                if number:  # the first turn only warms up
                    rounds.append(done)
                    print(
                        f"  {done.system:5} {number}/{options.rounds}: {done.answered} of {done.mails} answered, "
                        f"{done.per_second:.0f}/s, {done.cpu_ms:.2f} ms CPU a mail"
                        + "".join(f", {count} × {words!r}" for words, count in load.refused.most_common(3)),
                        flush=True,
                    )
    server.close()
    return rounds, sink


def _spread(values: list[float], form: str) -> str:
    return " / ".join(format(value, form) for value in (min(values), median(values), max(values)))


def _report(rounds: list[Round], options: argparse.Namespace) -> float | None:
    """Print the table; the ratio of the medians, if both systems ran."""
    per_connection = options.per_connection or "all their"
    table = Table(title=f"{options.connections} connections with {per_connection} mails each; min / median / max")
    for heading in ("", "answered/s", "CPU ms a mail", "p50 ms", "p99 ms", "MiB", "lost", "refused", "double"):
        table.add_column(heading, justify="right" if heading else "left")
    medians = {}
    for name in dict.fromkeys(done.system for done in rounds):
        own = [done for done in rounds if done.system == name]
        medians[name] = median(done.per_second for done in own)
        table.add_row(
            name,
            _spread([done.per_second for done in own], ".0f"),
            _spread([done.cpu_ms for done in own], ".2f"),
            format(median(done.p50_ms for done in own), ".1f"),
            format(median(done.p99_ms for done in own), ".1f"),
            format(max(done.memory_mib for done in own), ".0f"),
            str(sum(done.mails - done.answered - done.refused for done in own)),
            str(sum(done.refused for done in own)),
            str(sum(done.doubles for done in own)),
        )
    Console(width=120).print(table)
    return medians["robot"] / medians["relay"] if len(medians) == 2 else None


def _check(rounds: list[Round], sink: Sink) -> list[str]:
    """What makes the figures worthless."""
    wrong = [
        f"{done.system}: {done.mails - done.answered} of {done.mails} mails without an answer"
        for done in rounds
        if done.answered < done.mails
    ]
    wrong += [f"{done.system}: {done.doubles} answers twice" for done in rounds if done.doubles]
    answers = [sample for sample in sink.samples if b"\r\nFrom: <bench.m" not in sample]
    if any(done.system == "robot" for done in rounds) and not any(b"DKIM-Signature:" in sample for sample in answers):
        wrong.append("robot: its answers are not signed")
    return wrong


def _save(rounds: list[Round], ratio: float | None, options: argparse.Namespace) -> None:
    _RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "python": sys.version.split()[0],
        **machine(),
        "connections": options.connections,
        "per_connection": options.per_connection,
        "ratio": ratio and round(ratio, 2),
        "rounds": [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(done).items()}
            for done in rounds
        ],
    }
    with (_RESULTS / "throughput.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mails", type=int, default=3000, help="mails a round (3000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each (3)")
    parser.add_argument("--connections", type=int, default=20, help="connections at a time (20)")
    parser.add_argument("--per-connection", type=int, default=0, help="mails a connection; 0: it is kept (0)")
    parser.add_argument("--only", choices=("robot", "relay"), help="measure one of the two")
    parser.add_argument("--save", action="store_true", help="add a line to bench/results/throughput.jsonl")
    parser.add_argument("--profile", action="store_true", help="show where the robot's time goes instead of comparing")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 if each mail was answered once, the robot keeps up with the relay and judging is quick."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile" if options.profile else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rounds, sink = runner.run(_measure(options, profile))
        ratio = _report(rounds, options)
        if profile:
            print(report(profile))
    quick = profile is not None or corpus()
    wrong = _check(rounds, sink)
    for line in wrong:
        print(line)
    if options.save:
        _save(rounds, ratio, options)
    if ratio is not None:
        verdict = "holds" if ratio >= _WANTED else "IS TOO SLOW"
        print(f"robot / relay = {ratio:.2f}; at least {_WANTED:.1f} is wanted: {verdict}")
    return 1 if wrong or not quick or (ratio is not None and ratio < _WANTED) else 0


if __name__ == "__main__":
    sys.exit(main())
