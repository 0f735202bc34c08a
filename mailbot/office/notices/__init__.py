"""The printed notice: one sheet for a household or a person, with the credentials, a QR code and the steps.

A run writes one PDF and, with it, the manifest of which letter stands on which sheet; either both are there or neither.
A reprint makes new letters, which end the old ones at the moment the new file is whole.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials
from mailbot.config import Society
from mailbot.credentials import Format, encode_id
from mailbot.office.roster.live import Busy, Turn
from mailbot.registration import letters_on_paper, people
from mailbot.registration.context import Context
from mailbot.registration.letters_on_paper import Planned
from mailbot.store import new_id
from mailbot.store.tables import member

from . import fonts, manifest, paper, sheets, words
from .manifest import Batch, Line, batches, kind_of, lines, revoke
from .paper import DoesNotFit, Printed, Progress
from .sheets import Chosen, Letter, Paper, Per, Sheet

__all__ = [
    "Batch",
    "Busy",
    "Chosen",
    "Line",
    "Made",
    "Paper",
    "Per",
    "Progress",
    "batches",
    "kind_of",
    "lines",
    "print_notices",
    "reprint",
    "revoke",
    "silent",
]

MOST_REPRINTED = 1000
"""Letters of one reprint: they die and begin in one transaction."""
SHOWN = 50

_OVERTAKEN = "印刷している間に、登録が進んだ人か新しい書面のできた人がいます。もう一度お試しください。"
_FONTS = "その字をもつフォントを、mailbot.toml の [site] fonts のフォルダーに置いてください。"
_PLACES = {
    "address": "宛名（住所・氏名）",
    "scan": "QRコードの横の文章",
    "steps": "手順（notice.texts）",
    "credentials": "IDとパスワードの面",
}

Seal = Callable[[AsyncConnection], Awaitable[bool]]


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class Made:
    """What a run did. `complaints`: why nothing was printed; `notes`: what the clerk should look at."""

    batch: int | None = None
    sheets: int = 0
    letters: int = 0
    complaints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def print_notices(
    ctx: Context,
    society: Society,
    file: Path,
    *,
    chosen: Chosen,
    per: Per,
    form: Paper,
    actor: str,
    now: int,
    progress: Progress = silent,
) -> Made:
    """Prints live letters to a new file (mode 0600). Raises OSError where it exists, Busy beside a roster command."""
    if found := words.problems(society):
        return Made(complaints=tuple(found))
    async with Turn(ctx, society.id, now) as turn:
        progress("読み込んでいます", 0, 0)
        letters = await sheets.live_letters(ctx, society, chosen, now)
        return await _print(ctx, turn, society, file, letters, per, form, "notices-printed", actor, now, progress)


async def reprint(
    ctx: Context,
    society: Society,
    file: Path,
    members: Collection[int],
    *,
    per: Per,
    form: Paper,
    actor: str,
    now: int,
    progress: Progress = silent,
) -> Made:
    """Prints new letters for these members: the login ID of a live letter stays, every old password dies.

    Who has no live letter gets one with a new login ID. Raises as `print_notices`.
    """
    if found := words.problems(society):
        return Made(complaints=tuple(found))
    if len(members) > MOST_REPRINTED:
        return Made(complaints=(f"一度に新しくできるのは{MOST_REPRINTED}人分までです（{len(members)}人）。",))
    async with Turn(ctx, society.id, now) as turn:
        async with ctx.store.read() as tx:
            refused = await _no_letter_for(tx, society, members, now)
            if refused:
                return Made(complaints=tuple(refused))
            planned = await letters_on_paper.plan(ctx, tx, society, members, now, keep_login_id=True)
            letters = await _planned_letters(ctx, tx, society, planned)

        async def carry_out(tx: AsyncConnection) -> bool:
            return await letters_on_paper.carry_out(tx, society, planned, now)

        event = "notices-reprinted"
        return await _print(ctx, turn, society, file, letters, per, form, event, actor, now, progress, carry_out)


async def _print(
    ctx: Context,
    turn: Turn,
    society: Society,
    file: Path,
    letters: Sequence[Letter],
    per: Per,
    form: Paper,
    event: str,
    actor: str,
    now: int,
    progress: Progress,
    before: Seal | None = None,
) -> Made:
    _new(file)
    await manifest.drop_unfinished(ctx, turn, society)
    arranged = await sheets.arranged(ctx, society, letters, per, form, now)
    if not arranged:
        return Made()
    face = fonts.typeface(ctx.settings.site.site.fonts)
    if complaints := _unprintable(ctx, society, face, arranged, form):
        return Made(complaints=tuple(complaints))
    batch_id = new_id()
    numbered = [
        Printed(one, number, f"{encode_id(batch_id)}-{number}", _tag(ctx, society, batch_id, number))
        for number, one in enumerate(arranged, 1)
    ]
    batch = {
        "id": batch_id,
        "at": now,
        "actor": actor,
        "paper": form,
        "per": per,
        "sheets": len(numbered),
        "file_digest": b"",
    }
    await manifest.stage(ctx, turn, society, batch, numbered)
    done = False
    try:
        pdf = await paper.typeset(ctx.settings, society, face, numbered, form, now, before is not None, progress)
        with _written(file, pdf) as put_in_place:
            async with ctx.store.begin() as tx:
                await turn.renew(tx)
                done = before is None or await before(tx)
                if done:
                    await manifest.seal(tx, society, batch_id, hashlib.sha256(pdf).digest())
                    facts: dict[str, str | int | bool | None] = {
                        "batch": encode_id(batch_id),
                        "sheets": len(numbered),
                        "letters": len(letters),
                        "paper": form,
                        "per": per,
                    }
                    await audit.record(tx, actor, event, society.id, None, facts, now)
                    put_in_place()
    except DoesNotFit as error:
        return Made(complaints=(_unfit(numbered, error),))
    finally:
        if not done:
            await manifest.drop_unfinished(ctx, turn, society)
    if not done:
        return Made(complaints=(_OVERTAKEN,))
    return Made(batch_id, len(numbered), len(letters), notes=tuple(_notes(arranged)))


def _tag(ctx: Context, society: Society, batch_id: int, number: int) -> str:
    """Marks a sheet's own registration address. It opens nothing: mail to any tag is answered alike."""
    if not society.notice.letter_tag or society.notice.qr != "registration":
        return ""
    digest = ctx.ring.index("notice-tag", society.id, str(batch_id), str(number))
    return base64.b32encode(digest[:5]).decode().lower()


# --- reprints -------------------------------------------------------------------------------------------------------


async def _no_letter_for(tx: AsyncConnection, society: Society, members: Collection[int], now: int) -> list[str]:
    """Members who may have no letter, and why."""
    m = member.c
    mine = select(m.id, m.state, m.left_on).where(m.society == society.id, m.id.in_(sorted(members)))
    rows = {row.id: row for row in await tx.execute(mine)}
    found = []
    for who in members:
        if who not in rows:
            found.append(f"{encode_id(who)}: この番号の人はいません。")
        elif rows[who].state != "invited":
            found.append(f"{encode_id(who)}: 登録が済んでいます（やり直すときは `mailbot member reset`）。")
        elif people.has_left(society, rows[who].left_on, now):
            found.append(f"{encode_id(who)}: 資格を失っています。")
    return found


async def _planned_letters(ctx: Context, tx: AsyncConnection, society: Society, planned: Planned) -> list[Letter]:
    m, ring = member.c, ctx.ring
    columns = (m.id, m.household, m.protected, m.sealed, m.sealed_nickname)
    mine = select(*columns).where(m.society == society.id, m.id.in_(list(planned.letters)))
    rows = {row.id: row for row in await tx.execute(mine)}
    found = []
    for made in planned.rows:
        row = rows[made["member_id"]]
        fmt = Format.parse(made["format"])
        nickname = people.open_text(ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.id)
        found.append(
            Letter(
                row.id,
                made["id"],
                made["generation"],
                bytes(row.household or b""),
                row.protected,
                people.open_person(ring, row.sealed, society.id, row.id),
                nickname,
                planned.login_ids[row.id],
                credentials.password(ring, made["kid"], society.id, made["id"], made["generation"], fmt),
                made["expires_at"],
            )
        )
    return found


# --- before printing ------------------------------------------------------------------------------------------------


def _unprintable(
    ctx: Context, society: Society, face: fonts.Typeface, arranged: Sequence[Sheet], form: Paper
) -> list[str]:
    """Every character that no font has, with whose it is and where it stands in the roster; never the whole name."""
    found = [
        f"societies/{society.id}.toml: {fonts.described(missing)} の字形がありません。"
        for text in paper.texts(ctx.settings, society, form)
        if (missing := face.missing(text))
    ]
    for sheet in arranged:
        for one in sheet.letters:
            for column, text in paper.letter_texts(one):
                if missing := face.missing(text):
                    where = f"{encode_id(one.member_id)}: 「{column}」"
                    found.append(f"{where}の {fonts.described(missing)} の字形がありません。")
        head = sheet.recipient
        if missing := face.missing(head.name + head.postal_address):
            whose = f"{encode_id(sheet.letters[0].member_id)} の世帯"
            found.append(f"{whose}: 宛名の {fonts.described(missing)} の字形がありません。")
    listed = list(dict.fromkeys(found))
    if not listed:
        return []
    more = [f"ほかに{len(listed) - SHOWN}件あります。"] if len(listed) > SHOWN else []
    return [*listed[:SHOWN], *more, _FONTS]


def _unfit(numbered: Sequence[Printed], error: DoesNotFit) -> str:
    where = _PLACES[error.what]
    if not error.sheet:
        return f"{where}が用紙に収まりません。文章を短くするか、A4にしてください。"
    who = "、".join(encode_id(one.member_id) for one in numbered[error.sheet - 1].sheet.letters)
    return f"{who}: {where}が用紙に収まりません。"


def _notes(arranged: Sequence[Sheet]) -> list[str]:
    lost = [sheet for sheet in arranged if not sheet.recipient.postal_address]
    if not lost:
        return []
    who = "、".join(encode_id(sheet.letters[0].member_id) for sheet in lost[:SHOWN])
    return [f"住所のない宛名が{len(lost)}枚あります（{who}{'など' if len(lost) > SHOWN else ''}）。"]


# --- the file -------------------------------------------------------------------------------------------------------


def _new(file: Path) -> None:
    """Raises OSError where the file exists or cannot be made."""
    if file.exists():
        raise FileExistsError(17, "File exists")
    if not file.parent.is_dir():
        raise FileNotFoundError(2, "No such directory")


@contextlib.contextmanager
def _written(file: Path, data: bytes) -> Iterator[Callable[[], None]]:
    """The whole file under another name (mode 0600); what it yields puts it in place. Gone again on any exception."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    placed = False
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

        def put_in_place() -> None:
            nonlocal placed
            _new(file)
            os.rename(name, file)
            placed = True

        yield put_in_place
    except BaseException:
        if placed:
            file.unlink(missing_ok=True)
        raise
    finally:
        if not placed:
            Path(name).unlink(missing_ok=True)
