"""`mailbot notice`: the printed notices."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.config import Society
from mailbot.credentials import decode_id, encode_id
from mailbot.office import notices
from mailbot.registration.context import Context

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The society's id.")]
BatchId = Annotated[str, typer.Argument(help="The batch; it stands at the foot of each sheet.")]
Out = Annotated[Path, typer.Option("--out", help="PDF to write (mode 0600); refused where it exists.")]
PerOption = Annotated[str | None, typer.Option("--per", help="household or person; the society's own way when absent.")]
PaperOption = Annotated[str | None, typer.Option("--paper", help="a4 or postcard; the society's own way when absent.")]
Sheets = Annotated[str | None, typer.Option("--sheets", help="Only these sheets, such as 3,7-9.")]
Member = Annotated[list[str] | None, typer.Option("--member", help="Only this member; may be repeated.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Printed notices: print, list what was printed, reprint, revoke.")
    group.command("print")(print_)
    group.command("list")(list_)
    for function in (reprint, revoke):
        group.command()(function)
    command.add_typer(group, name="notice")


def _choice(value: str | None, default: str, allowed: tuple[str, ...], option: str) -> Any:
    if value is None:
        return default
    if value not in allowed:
        raise typer.BadParameter(f"{option} {value}: expected {' or '.join(allowed)}")
    return value


def _looks(society: Society, per: str | None, paper: str | None) -> tuple[notices.Per, notices.Paper]:
    own = society.notice
    return (
        _choice(per, own.per, ("household", "person"), "--per"),
        _choice(paper, own.paper, ("a4", "postcard"), "--paper"),
    )


def _members(typed: list[str] | None) -> frozenset[int]:
    found = {text: decode_id(text) for text in typed or ()}
    for text, one in found.items():
        if one is None:
            raise typer.BadParameter(f"{text} is no member id; `mailbot member find` shows them")
    return frozenset(one for one in found.values() if one is not None)


def _batch(typed: str | None, sheets: str | None) -> tuple[int | None, frozenset[int]]:
    """(batch, sheets of it, all when empty). A batch may be typed as at the foot of a sheet: its id, `-`, the sheet."""
    wanted = _sheets(sheets)
    if not typed:
        if wanted:
            raise typer.BadParameter("--sheets needs the batch they belong to; `mailbot notice list` shows them")
        return None, wanted
    # the page of pages in brackets is for the eye
    name, dash, sheet = re.sub(r"\s*\([0-9]+/[0-9]+\)$", "", typed).partition("-")
    batch_id = decode_id(name)
    if batch_id is None:
        raise typer.BadParameter(f"{typed} is no batch; `mailbot notice list` shows them")
    if dash and sheets:
        raise typer.BadParameter(f"{typed} names one sheet already: leave out --sheets, or write {name} alone")
    return batch_id, _sheets(sheet) if dash else wanted


def _sheets(typed: str | None) -> frozenset[int]:
    """`3,7-9` -> {3, 7, 8, 9}; empty for all."""
    found: set[int] = set()
    for part in typed.replace("、", ",").split(",") if typed is not None else ():
        one = re.fullmatch(r"\s*([0-9]{1,7})(?:\s*-\s*([0-9]{1,7}))?\s*", part)
        first, last = (int(one[1]), int(one[2] or one[1])) if one else (0, 0)
        if not 1 <= first <= last:
            raise typer.BadParameter(f"sheets {typed!r}: expected numbers such as 3,7-9")
        found |= set(range(first, min(last, 1_000_000) + 1))
    return frozenset(found)


def _done(work: Coroutine[Any, Any, T], out: Path | None = None) -> T:
    try:
        return common.run(work)
    except notices.Busy as error:
        raise common.fail(error) from None
    except OSError as error:
        raise common.unwritten(out or error.filename, error) from error


def _end(made: notices.Made, out: Path, json: bool, nothing: str) -> None:
    """Prints what a run did; status 1 with complaints."""
    if json:
        facts: list[tuple[str, Any]] = [
            ("batch", encode_id(made.batch) if made.batch else None),
            ("sheets", made.sheets),
            ("letters", made.letters),
            ("complaints", list(made.complaints)),
            ("notes", list(made.notes)),
        ]
        common.fields(facts, True)
    if made.complaints:
        refused = "Nothing was printed."
        raise common.fail(common.Failed("\n".join([*([] if json else made.complaints), refused])))
    if json:
        return
    for line in made.notes:
        print(f"note: {line}")
    if made.batch is None:
        print(nothing)
        return
    counts = f"{made.sheets} sheets with {made.letters} letters"
    print(f"Batch {encode_id(made.batch)}: {counts} written to {out}. Delete it when it is printed.")


def print_(
    society: Name,
    out: Out,
    every: Annotated[bool, typer.Option("--all", help="Also letters that were printed before.")] = False,
    member: Member = None,
    household: Annotated[bool, typer.Option("--household", help="With --member: their whole households.")] = False,
    per: PerOption = None,
    paper: PaperOption = None,
    json: common.Json = False,
) -> None:
    """Print the letters that wait for their owners and were not printed before, as one PDF in the order of posting."""
    if household and not member:
        raise typer.BadParameter("--household needs --member; --per household puts a household on one sheet")
    chosen = notices.Chosen(every, _members(member), household)

    async def work() -> notices.Made:
        async with common.opened() as (ctx, now):
            one = app.society_of(ctx.settings, society)
            looks, form = _looks(one, per, paper)
            with common.progress() as progress:
                return await notices.print_notices(
                    ctx, one, out, chosen=chosen, per=looks, form=form, actor=common.actor(), now=now, progress=progress
                )

    nothing = "no letter waits that was not printed before (--all prints those again)."
    if every or member:
        nothing = "nobody of them has a letter that waits (registered, left or ended: `mailbot member show` tells)."
    _end(_done(work(), out), out, json, f"Nothing to print: {nothing}")


def list_(
    society: Name,
    batch: Annotated[str | None, typer.Option("--batch", help="What stood on which sheet of this batch.")] = None,
    sheets: Sheets = None,
    json: common.Json = False,
) -> None:
    """Batches that were printed and how many of their letters still live; or one batch, sheet by sheet."""
    batch_id, wanted = _batch(batch, sheets)

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, _):
            one = app.society_of(ctx.settings, society)
            if batch_id is not None:
                return [_line(line) for line in await _lines(ctx, one, batch_id, wanted)]
            return [_row(made) for made in await notices.batches(ctx, one)]

    common.show(_done(work()), json, empty="Nothing was printed yet.")


def _row(made: notices.Batch) -> dict[str, Any]:
    return {
        "batch": encode_id(made.id),
        "printed_at": made.at,
        "actor": made.actor,
        "paper": made.paper,
        "per": made.per,
        "sheets": made.sheets,
        "letters": made.letters,
        "live": made.live,
        "used": made.used,
        "ended": made.ended,
    }


def _line(line: notices.Line) -> dict[str, Any]:
    return {
        "sheet": line.sheet,
        "member": encode_id(line.member_id),
        "generation": line.generation,
        "state": line.state,
        "tag": line.tag,
        "mail_at": line.mail_at,
    }


async def _lines(ctx: Context, one: Society, batch_id: int, wanted: frozenset[int]) -> list[notices.Line]:
    """Raises Failed where the batch or a sheet of it is not there."""
    found = await notices.lines(ctx, one, batch_id, wanted)
    if missing := sorted(wanted - {line.sheet for line in found}):
        listed = ", ".join(map(str, missing[:10]))
        raise common.Failed(f"batch {encode_id(batch_id)} has no sheet {listed}")
    if not found:
        raise common.Failed(f"no batch {encode_id(batch_id)}; `mailbot notice list {one.id}` shows them")
    return found


def reprint(
    society: Name,
    out: Out,
    batch: Annotated[str | None, typer.Argument(help="A batch, from `mailbot notice list`; or give --member.")] = None,
    sheets: Sheets = None,
    member: Member = None,
    per: PerOption = None,
    paper: PaperOption = None,
    yes: Yes = False,
    json: common.Json = False,
) -> None:
    """Print new letters in place of old ones: the login ID stays, the old temporary password stops working."""
    (batch_id, wanted), members = _batch(batch, sheets), _members(member)
    if (batch_id is None) == (not members):
        raise typer.BadParameter("give either a batch or --member")

    async def look() -> tuple[frozenset[int], int, tuple[notices.Per, notices.Paper]]:
        async with common.opened() as (ctx, _):
            one = app.society_of(ctx.settings, society)
            if batch_id is None:
                return members, 0, _looks(one, per, paper)
            found = await _lines(ctx, one, batch_id, wanted)
            old_paper, old_per = await notices.kind_of(ctx, one, batch_id) or ("a4", "household")
            used = {line.member_id for line in found if line.state in ("used", "gone")}
            mine = frozenset(line.member_id for line in found) - used
            return mine, len(used), _looks(one, per or old_per, paper or old_paper)

    who, used, (looks, form) = _done(look())
    if not who:
        raise common.fail(common.Failed("All of them have registered: nothing to reprint."))
    what = f"{len(who)} letters get a new temporary password; what was printed for them before stops working."
    if used:
        what += f" {used} who have registered are left out."
    _ask(what, yes)

    async def work() -> notices.Made:
        async with common.opened() as (ctx, now):
            one = app.society_of(ctx.settings, society)
            with common.progress() as progress:
                return await notices.reprint(
                    ctx, one, out, who, per=looks, form=form, actor=common.actor(), now=now, progress=progress
                )

    _end(_done(work(), out), out, json, "Nothing to print.")


def revoke(society: Name, batch: BatchId, sheets: Sheets = None, yes: Yes = False) -> None:
    """End the letters of a batch that nobody has used yet, such as those that were lost in the post."""
    batch_id, wanted = _batch(batch, sheets)
    if batch_id is None:
        raise typer.BadParameter("name the batch; `mailbot notice list` shows them")

    async def look() -> int:
        async with common.opened() as (ctx, _):
            found = await _lines(ctx, app.society_of(ctx.settings, society), batch_id, wanted)
            return sum(line.state == "live" for line in found)

    live = _done(look())
    if not live:
        print("Nothing to revoke: none of these letters is live.")
        return
    _ask(f"{live} letters stop working; `mailbot notice reprint` makes new ones.", yes)

    async def work() -> int:
        async with common.opened() as (ctx, now):
            one = app.society_of(ctx.settings, society)
            return await notices.revoke(ctx, one, batch_id, wanted, actor=common.actor(), now=now)

    print(f"{_done(work())} letters revoked.")


def _ask(what: str, yes: bool) -> None:
    if not yes:
        typer.confirm(f"{what} Go on?", abort=True)
