"""`mailbot society` and `mailbot qr`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import segno
import typer

from mailbot import app
from mailbot.cli import common
from mailbot.office import explain as explaining
from mailbot.office import policy
from mailbot.registration import stops

Name = Annotated[str, typer.Argument(help="The society's id: the name of its file.")]

PICTURES = (".svg", ".png", ".pdf")


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Societies: their rules in words, and their emergency stop.")
    group.command("list")(list_)
    for function in (show, explain, lint, pause, resume):
        group.command()(function)
    command.add_typer(group, name="society")
    command.command()(qr)


def list_(json: common.Json = False) -> None:
    """All societies with their members and state."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, now), ctx.store.scan() as tx:
            paused = await stops.paused(tx)
            counts = await policy.counts(tx, now)
            return [
                {
                    "society": s.id,
                    "name": s.name,
                    "registration": s.addresses.registration,
                    "on the roster": counts.get(s.id, (0, 0))[0],
                    "registered": counts.get(s.id, (0, 0))[1],
                    "state": "paused" if s.id in paused else "open",
                }
                for s in ctx.settings.societies.values()
            ]

    common.show(common.run(work()), json)


def show(society: Name) -> None:
    """Every rule of a society with its value, defaults included (JSON)."""

    async def work() -> str:
        return app.society_of(common.settings(), society).model_dump_json(indent=1)

    print(common.run(work()))


def explain(society: Name) -> None:
    """What a member of that society goes through, in plain words (Japanese)."""

    async def work() -> str:
        return explaining.explain(app.society_of(common.settings(), society), common.settings().site)

    print(common.run(work()))


def lint(society: Annotated[str | None, typer.Argument()] = None, json: common.Json = False) -> None:
    """Rules that weaken security or surprise members, and why; letters that would not arrive, or not as they should."""

    async def work() -> list[dict[str, str]]:
        loaded = common.settings()
        chosen = [app.society_of(loaded, society)] if society else list(loaded.societies.values())
        letters = app.build_letters(loaded)
        return [
            {"society": s.id, "rule": rule, "warning": text}
            for s in chosen
            for rule, text in (
                *((w.rule, w.text) for w in policy.warnings(s)),
                *(("letters", text) for text in letters.problems(s.id)),
            )
        ]

    common.show(common.run(work()), json, empty="No warnings.")


def pause(
    society: Name, reason: Annotated[str, typer.Option(help="For colleagues; stands in the audit record.")]
) -> None:
    """Stop a society at once: no answers, no mails, no forms. Nothing is lost; mails in the queue wait."""

    async def work() -> None:
        async with common.opened() as (ctx, now):
            await stops.pause(ctx, app.society_of(ctx.settings, society).id, reason, common.actor(), now)

    common.run(work())
    print(f"{society} is paused. `mailbot society resume {society}` opens it again.")


def resume(society: Name) -> None:
    """Open a paused society again."""

    async def work() -> None:
        async with common.opened() as (ctx, now):
            await stops.resume(ctx, app.society_of(ctx.settings, society).id, common.actor(), now)

    common.run(work())
    print(f"{society} is open.")


def qr(
    society: Name,
    login: Annotated[bool, typer.Option("--login", help="The login page instead of the registration address.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .svg, .png or .pdf; refused where it exists. On the terminal when absent."),
    ] = None,
) -> None:
    """The QR code for notices: a blank mail to the registration address, or the login page."""

    async def work() -> str:
        loaded = common.settings()
        return policy.qr_content(app.society_of(loaded, society), loaded.site, login=login)

    if out is not None and out.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"--out {out}: a QR code is written as {', '.join(PICTURES)}")
    try:
        content = common.run(work())
    except ValueError as error:
        raise common.fail(error) from error
    code = segno.make(content, error="m", micro=False)
    if out is None:
        code.terminal(compact=True, border=4)
    else:
        _save(code, out)
    print(content)


def _save(code: segno.QRCode, out: Path) -> None:
    """A new file, whole or not there."""
    picture = io.BytesIO()
    code.save(picture, kind=out.suffix[1:].lower(), border=4, scale=8)
    made = False
    try:
        with out.open("xb") as stream:
            made = True
            stream.write(picture.getvalue())
    except OSError as error:
        if made:
            out.unlink(missing_ok=True)
        raise common.unwritten(out, error) from error
