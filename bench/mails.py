"""How long one mail of the corpus takes: reading and judging it, and finding out who sent it, without the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median

from rich.console import Console
from rich.table import Table

from mailbot.mail.inbound import facts
from tests.support.corpus import Specimen, specimens
from tests.support.zone import authenticator

TIMES = 20
WANTED_MS = 5.0  # "a few milliseconds"; for the worst of judging, and the median of finding out


def _fastest(work: Callable[[Specimen], object], mail: Specimen) -> float:
    """Milliseconds; the best of several, for a neighbour's work is not the mail's."""
    best = float("inf")
    for _ in range(TIMES):
        start = time.perf_counter()
        work(mail)
        best = min(best, time.perf_counter() - start)
    return best * 1000


async def _senders(mails: list[Specimen]) -> list[float]:
    vouching = authenticator()
    spent = []
    for mail in mails:
        envelope, best = mail.envelope(), float("inf")
        inbound = facts(envelope.content)
        for _ in range(TIMES):
            start = time.perf_counter()
            await vouching.check(envelope, inbound)
            best = min(best, time.perf_counter() - start)
        spent.append(best * 1000)
    await vouching.close()
    return spent


def corpus() -> bool:
    """Prints the table and a verdict; False where a mail takes too long."""
    mails = specimens()
    for mail in mails:
        _ = mail.content  # read from the disk before the clock starts
    judged = [_fastest(Specimen.judged, mail) for mail in mails]
    asked = [mail for mail in mails if mail.name.startswith("spoofed/") and facts(mail.content).from_address]
    signed = [mail for mail in asked if b"DKIM-Signature:" in mail.content]
    table = Table(title=f"one mail of the corpus, ms; the best of {TIMES} tries each")
    for heading in ("", "mails", "median", "worst", "the worst is"):
        table.add_column(heading, justify="right" if heading in ("mails", "median", "worst") else "left")
    rows = [("read and judge", mails, judged)]
    with asyncio.Runner() as runner:
        rows.append(("SPF, DKIM and DMARC", asked, runner.run(_senders(asked))))
        rows.append(("the same, signed mails", signed, runner.run(_senders(signed))))
    for what, which, times in rows:
        worst = max(range(len(times)), key=times.__getitem__)
        table.add_row(what, str(len(which)), f"{median(times):.3f}", f"{times[worst]:.3f}", which[worst].name)
    Console(width=120).print(table)
    holds = max(judged) <= WANTED_MS and median(rows[1][2]) <= WANTED_MS
    verdict = "holds" if holds else "IS TOO SLOW"
    print(f"at most {WANTED_MS:.0f} ms to judge any, and to find out about half of them: {verdict}")
    return holds


if __name__ == "__main__":
    raise SystemExit(0 if corpus() else 1)
