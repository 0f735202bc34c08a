"""`mailbot roster`: who belongs to a society."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.credentials import decode_id, encode_id
from mailbot.office import letterlist, roster

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The society's id.")]
Partial = Annotated[bool, typer.Option("--partial", help="The file is part of the roster: who is not in it stays.")]
Many = Annotated[bool, typer.Option("--many-leave", help="Yes, more than a fifth of the members left.")]
Same = Annotated[list[int] | None, typer.Option("--same", help="The row in this line is the member it resembles.")]
New = Annotated[list[int] | None, typer.Option("--new", help="The row in this line is a new person (a twin).")]


NOTES = 20
"""Notes printed; a large roster has hundreds of people of one name."""


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The roster: import, what changed, take back, letters for print.")
    group.command("import")(import_)
    for function in (diff, undo, letters):
        group.command()(function)
    command.add_typer(group, name="roster")


def _run(society: str, file: Path, **options: Any) -> roster.Report:
    async def work() -> roster.Report:
        async with common.opened() as (ctx, now):
            with common.progress() as progress:
                return await roster.import_file(
                    ctx,
                    app.society_of(ctx.settings, society),
                    file,
                    actor=common.actor(),
                    now=now,
                    progress=progress,
                    **options,
                )

    return _not_busy(work())


def _not_busy(work: Coroutine[Any, Any, T]) -> T:
    try:
        return common.run(work)
    except roster.Busy as error:
        raise common.fail(error) from None


def _decisions(same: list[int] | None, new: list[int] | None) -> roster.Decisions:
    return roster.Decisions(frozenset(same or ()), frozenset(new or ()))


def _counts(report: roster.Report) -> dict[str, Any]:
    return {
        "batch": encode_id(report.batch) if report.batch else None,
        "encoding": report.encoding,
        "rows": report.rows,
        "joined": report.joined,
        "changed": report.changed,
        "same": report.same,
        "left": report.left,
        "letters": report.letters,
    }


def _end(report: roster.Report, done: str, json: bool) -> None:
    """Prints the report; status 1 with complaints."""
    if json:
        words = {"complaints": list(report.complaints), "notes": list(report.notes)}
        common.fields([*_counts(report).items(), *words.items()], True)
    else:
        for line in report.notes[:NOTES]:
            print(f"note: {line}")
        if len(report.notes) > NOTES:
            print(f"… and {len(report.notes) - NOTES} more notes; --json shows them.")
        if report.rows:
            print(", ".join(f"{name} {value}" for name, value in _counts(report).items() if value is not None))
    if report.complaint_count:
        refused = f"{report.complaint_count} complaint{'s'[: report.complaint_count != 1]}: nothing was changed."
        raise common.fail(common.Failed("\n".join([*([] if json else report.complaints), refused])))
    if not json:
        print(done)


def import_(
    society: Name,
    file: Annotated[Path, typer.Argument(help="CSV with a header row: UTF-8 or cp932 (Shift_JIS).")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    partial: Partial = False,
    many_leave: Many = False,
    same: Same = None,
    new: New = None,
    json: common.Json = False,
) -> None:
    """Take a roster file over: all of it, or nothing where anything is wrong. Delete the file afterwards."""
    decisions = _decisions(same, new)
    report = _run(society, file, partial=partial, dry_run=dry_run, many_leave=many_leave, decisions=decisions)
    done = "Dry run: nothing was changed."
    if not dry_run:
        done = f"Imported. Delete {file.name} now."
        if report.letters:
            done += f" `mailbot notice print {society}` prints the new credentials, `roster letters` lists them."
        if report.batch is None:
            done = f"Nothing has changed since the last import. Delete {file.name} now."
    _end(report, done, json)


def diff(
    society: Name,
    file: Annotated[Path | None, typer.Argument(help="A roster file; without one: the last import.")] = None,
    partial: Partial = False,
    many_leave: Many = False,
    same: Same = None,
    new: New = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    json: common.Json = False,
) -> None:
    """What a file would change, row by row, or what the last import changed. Columns are named, never their content."""
    if file is None:
        _show_last(society, limit, json)
        return
    report = _run(
        society, file, partial=partial, dry_run=True, many_leave=many_leave, decisions=_decisions(same, new)
    )
    rows = [
        {"line": one.line, "verdict": one.verdict, "columns": list(one.columns)} for one in report.details[:limit]
    ]
    common.show(rows, json, empty="No row differs.")
    if report.complaint_count:
        raise common.fail(common.Failed("\n".join(report.complaints)))
    if not json:
        print(f"joined {report.joined}, changed {report.changed}, same {report.same}, left {report.left}")


def _show_last(society: str, limit: int, json: bool) -> None:
    async def work() -> roster.LastBatch | None:
        async with common.opened() as (ctx, _):
            return await roster.last_changes(ctx, app.society_of(ctx.settings, society), limit)

    last = common.run(work())
    changes = last.changes if last else ()
    rows = [{"member": encode_id(c.member_id), "verdict": c.kind, "columns": list(c.columns)} for c in changes]
    if last is not None and not json:
        facts = f"joined {last.joined}, changed {last.changed}, left {last.left}"
        print(f"import {encode_id(last.id)} of {common.moment(last.at)} by {last.actor}: {facts}")
    common.show(rows, json, empty="No import yet.")


def undo(
    society: Name,
    batch: Annotated[str | None, typer.Option(help="The import's id, to be sure that it is the last one.")] = None,
) -> None:
    """Take the last import back: who joined and has not registered goes, the others are as before."""
    batch_id = decode_id(batch) if batch else None
    if batch and batch_id is None:
        raise typer.BadParameter(f"{batch} is no import id; `mailbot roster diff {society}` shows it")

    async def work() -> str:
        async with common.opened() as (ctx, now):
            with common.progress() as progress:
                done = await roster.undo(
                    ctx,
                    app.society_of(ctx.settings, society),
                    actor=common.actor(),
                    now=now,
                    batch_id=batch_id,
                    progress=progress,
                )
        if isinstance(done, str):
            raise common.Failed(done)
        kept = f" {done.kept} who joined have registered since and stay." if done.kept else ""
        counts = f"{done.removed} removed, {done.restored} restored, {done.returned} returned."
        return f"Import {encode_id(done.batch)} is undone: {counts}{kept}"

    print(_not_busy(work()))


def letters(
    society: Name,
    out: Annotated[Path, typer.Option("--out", help="File to write (mode 0600); refused where it exists.")],
    batch: Annotated[str | None, typer.Option(help="Only those of this import.")] = None,
) -> None:
    """Write the temporary IDs and passwords that wait for their owners, for the printer. Delete the file afterwards."""
    batch_id = decode_id(batch) if batch else None
    if batch and batch_id is None:
        raise typer.BadParameter(f"{batch} is no import id; `mailbot roster diff {society}` shows it")

    async def work() -> int:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            return await letterlist.write(ctx, chosen, out, actor=common.actor(), now=now, batch_id=batch_id)

    try:
        count = common.run(work())
    except OSError as error:
        raise common.unwritten(out, error) from error
    print(f"{count} letters written to {out}. Delete it when they are printed.")
