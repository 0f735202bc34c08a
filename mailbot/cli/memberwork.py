"""`mailbot member timeline|renotify|unlock|reset|export`: what clerks do for one member, and results out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.credentials import decode_id
from mailbot.office import export as exports
from mailbot.office import renotify as again
from mailbot.office import timeline as timelines
from mailbot.office.sheet import GETA, Encoding
from mailbot.registration import reset as resets
from mailbot.registration import unlock as unlocks

Name = Annotated[str, typer.Argument(help="The society's id.")]
Member = Annotated[str, typer.Argument(help="The member's id, from `member find`.")]


def _id(society: str, member: str) -> int:
    """Raises Failed."""
    found = decode_id(member)
    if found is None:
        raise _nobody(society, member)
    return found


def _nobody(society: str, member: str) -> common.Failed:
    return common.Failed(f"no member {member}; `mailbot member find {society} …` shows them")


def timeline(society: Name, member: Member, json: common.Json = False) -> None:
    """Everything that happened to one member, oldest first, in words for the phone (Japanese). No secrets."""

    async def work() -> list[timelines.Moment]:
        async with common.opened() as (ctx, _):
            chosen = app.society_of(ctx.settings, society)
            found = await timelines.timeline(ctx, chosen, _id(society, member))
            if found is None:
                raise _nobody(society, member)
            return found

    rows = [
        {"at": one.at if json else common.moment(one.at), "event": one.event, "what": one.what}
        for one in common.run(work())
    ]
    common.show(rows, json)


def renotify(society: Name, member: Member) -> None:
    """Send again the mail a member waits for, to the address it went to before; else say what to do instead."""

    async def work() -> again.Sent | again.NotSent:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            return await again.renotify(ctx, chosen, _id(society, member), actor=common.actor(), now=now)

    done = common.run(work())
    if isinstance(done, again.NotSent):
        raise common.fail(common.Failed(f"Nothing sent: {done.words}."))
    print(f"The mail {done.letter} goes to {done.address} once more.")


def unlock(society: Name, member: Member) -> None:
    """After checking the person: forget wrong passwords, PINs and entries from the letter, and lift their pauses."""

    async def work() -> unlocks.Lifted:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            lifted = await unlocks.unlock(ctx, chosen, _id(society, member), actor=common.actor(), now=now)
            if lifted is None:
                raise _nobody(society, member)
            return lifted

    lifted = common.run(work())
    for line in _lifted(lifted, f"{society} --member {member}"):
        print(line)


def _lifted(lifted: unlocks.Lifted, whose: str) -> list[str]:
    lines = []
    if lifted.networks:
        lines.append(f"Wrong passwords at the login, from {lifted.networks} network(s): forgotten.")
    if lifted.pins:
        lines.append(f"{lifted.pins} wrong PINs: forgotten.")
    if lifted.formula:
        lines.append("Wrong tries at the first login by formula: forgotten.")
    if lifted.details:
        lines.append("Wrong tries at the insurance details: forgotten.")
    if lifted.letters:
        paused = ", which had paused" if lifted.paused_letters else ""
        lines.append(f"Wrong entries from the letter{paused}: forgotten.")
    if lifted.opened:
        lines.append("The login waited for the completion mail: it is open now.")
    if lifted.dead_letters:
        lines.append(f"The letter died of wrong entries: `mailbot notice reprint {whose}` makes a new one.")
    return lines or ["Nothing was locked or paused."]


def reset(
    society: Name,
    member: Member,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """After checking the person: take a registration back, so that the member starts afresh. All addresses are told."""
    if not yes:
        what = "Login ID, password, addresses, nickname and choices of this member end"
        typer.confirm(f"{what}. Was the person checked?", abort=True)

    async def work() -> resets.Reset:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            done = await resets.reset(ctx, chosen, _id(society, member), actor=common.actor(), now=now)
            if done is None:
                raise common.Failed(f"{member} is not registered in {society}: there is nothing to take back")
            return done

    done = common.run(work())
    print(f"The registration is taken back; {len(done.told)} address(es) are told.")
    print(_afresh(done, f"{society} --member {member}"))


def _afresh(done: resets.Reset, whose: str) -> str:
    if done.left:
        return "The roster says that the member left: mend the roster before the member can register again."
    if done.formula:
        return "The member starts afresh with the login ID of the formula and the birth date, or by first registration."
    if done.new_letter is not None:
        return f"A new letter waits to be printed: `mailbot notice print {whose}`."
    return "The member starts afresh with the first registration."


def export(
    society: Name,
    out: Annotated[Path, typer.Option("--out", help="File to write (mode 0600); refused where it exists.")],
    since: Annotated[
        str | None, typer.Option(help="Only who registered since then: 3h, 2d or 2026-11-20T09:30.")
    ] = None,
    encoding: Annotated[
        Encoding, typer.Option(help="utf-8-bom opens in Excel; cp932 is for software without Unicode.")
    ] = Encoding.UTF_8_MARK,
    json: common.Json = False,
) -> None:
    """Write the registered members, their proved addresses, choices and consents as CSV, for the portal."""
    if since is not None:
        common.parse_since(since, 0)  # a slip is told before anything is opened

    async def work() -> exports.Exported:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            moment = common.parse_since(since, now) if since else None
            return await exports.export(
                ctx, chosen, out, actor=common.actor(), now=now, since=moment, encoding=encoding
            )

    try:
        done = common.run(work())
    except OSError as error:
        raise common.unwritten(out, error) from error
    if json:
        facts: list[tuple[str, Any]] = [("file", str(out)), ("members", done.count), ("lacking", dict(done.lacking))]
        common.fields(facts, True)
        return
    print(f"{done.count} members written to {out}.")
    if done.lacking:
        words = ", ".join(f"{letter} (U+{ord(letter):04X}) {times} times" for letter, times in done.lacking.items())
        print(f"Characters that {encoding} lacks, written as {GETA}: {words}.")
