"""Sheets -> one PDF/A-2b file, set by typst from `notice/notice.typ`; everything that differs goes in as JSON.

Credentials are handed to typst in memory: no file holds them but the finished one. Many sheets are set in parts, in as
many processes as the machine has cores, and joined.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segno
import typst

from mailbot import resources
from mailbot.config import Settings, Society
from mailbot.credentials import reading

from . import words
from .fonts import Typeface
from .sheets import Letter, Paper, Sheet

PART = 250
"""Sheets set at once; about 250 MB of memory each time."""
PARTS_A_PROCESS = 3
WORKERS = 4

Progress = Callable[[str, int, int], Any]
"""(what is being done, units done, units in all)."""

_UNFIT = re.compile(r"DOES-NOT-FIT ([a-z]+) ([0-9]+)")


class DoesNotFit(Exception):
    """A text is too long for its place even in the smallest type; `sheet` counts from 1."""

    def __init__(self, what: str, sheet: int) -> None:
        super().__init__(what, sheet)
        self.what, self.sheet = what, sheet


@dataclass(frozen=True)
class Printed:
    """A sheet with what makes it findable: its number in the file, code at its foot, and tag in its address."""

    sheet: Sheet
    number: int
    code: str
    tag: str


@dataclass(frozen=True)
class _Job:
    template: Path
    fonts: tuple[str, ...]
    data: str
    now: int


def texts(settings: Settings, society: Society, paper: Paper) -> Iterator[str]:
    """Everything of the society that is printed."""
    data = _data(settings, society, paper, (), "", 0, False)
    remarks = words.remarks(society, 0, 0, True)
    yield from _strings([data["society"], data["words"], remarks, "0123456789〒様（）：・(/)"])


def letter_texts(one: Letter) -> Iterator[tuple[str, str]]:
    """(column of the roster, text) of what is printed about a person."""
    person = one.person
    yield "氏名", person.name
    yield "続柄", person.relation
    yield "仮ニックネーム", one.nickname
    yield "住所", person.postal_address
    yield "仮ログインID", one.login_id
    yield "仮パスワード", one.password
    yield "メールアドレス", person.address


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


async def typeset(
    settings: Settings,
    society: Society,
    face: Typeface,
    sheets: Sequence[Printed],
    paper: Paper,
    now: int,
    replaces: bool,
    progress: Progress,
) -> bytes:
    """The whole file, dated `now`; `replaces`: earlier sheets end with it. Raises DoesNotFit."""
    template = _template(settings, society)
    folders = tuple(dict.fromkeys(str(file.parent) for file in face.files))
    parts = [sheets[start : start + PART] for start in range(0, len(sheets), PART)]

    def job(some: Sequence[Printed], side: str) -> _Job:
        data = _data(settings, society, paper, some, side, now, replaces, face)
        return _Job(template, folders, json.dumps(data), now)

    jobs = [job(part, "front") for part in parts]
    back = job(sheets[:1], "back")
    loop = asyncio.get_running_loop()
    made: list[tuple[bytes, list[int]]] = []
    done = 0

    async def one(pool: Executor, job: _Job, count: int) -> tuple[bytes, list[int]]:
        nonlocal done
        result = await loop.run_in_executor(pool, _compile, job)
        done += count
        progress("組版しています", done, len(sheets))
        return result

    workers = min(len(jobs), os.cpu_count() or 1, WORKERS)
    for start in range(0, len(jobs), workers * PARTS_A_PROCESS):
        turn = slice(start, start + workers * PARTS_A_PROCESS)
        with _pool(workers) as pool:
            made += await asyncio.gather(
                *(one(pool, job, len(part)) for job, part in zip(jobs[turn], parts[turn], strict=True))
            )
    shared = (await asyncio.to_thread(_compile, back))[0] if paper == "a4" else None
    # not at the top: reading it would cost each command of any kind a third of a second
    from .joining import joined

    return await asyncio.to_thread(joined, made, shared, progress)


def _pool(workers: int) -> Executor:
    """typst keeps what it has computed: processes that end give the memory back."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _template(settings: Settings, society: Society) -> Path:
    own = settings.site.site.templates
    folders = [*([own] if own != Path() else []), resources.folder("templates")]
    places = [folder / "societies" / society.id / "notice" for folder in folders]
    places += [folder / "notice" for folder in folders]
    return next(place / "notice.typ" for place in places if (place / "notice.typ").is_file())


def _compile(job: _Job) -> tuple[bytes, list[int]]:
    """(PDF, the last page of each sheet). Runs in a process or thread of its own; raises DoesNotFit."""
    compiler = typst.Compiler(
        input=str(job.template),
        root=str(job.template.parent),
        font_paths=list(job.fonts),
        ignore_system_fonts=True,
        sys_inputs={"data": job.data},
    )
    try:
        pdf = compiler.compile(format="pdf", pdf_standards=["a-2b"], timestamp=job.now // 1000)
        ends = json.loads(compiler.query("<sheet-end>", field="value"))
    except typst.TypstError as error:
        if found := _UNFIT.search(str(error)):
            raise DoesNotFit(found[1], int(found[2])) from None
        raise
    assert isinstance(pdf, bytes)
    return pdf, ends


# --- data -----------------------------------------------------------------------------------------------------------


def _data(
    settings: Settings,
    society: Society,
    paper: Paper,
    sheets: Sequence[Printed],
    part: str,
    now: int,
    replaces: bool,
    face: Typeface | None = None,
) -> dict[str, Any]:
    """What the template reads."""
    targets = [words.target(settings, society, one.tag) for one in sheets] or [words.target(settings, society, "")]
    distinct = dict(targets)
    places = {uri: place for place, uri in enumerate(distinct)}
    secret = words.journey_on_paper(society) is not None
    address = secret and words.prints_address(society)
    printed = [
        {
            "number": one.number,
            "code": one.code,
            "part": one.sheet.part,
            "parts": one.sheet.parts,
            "remarks": words.remarks(society, one.sheet.ends_at, now, replaces),
            "postal_code": one.sheet.recipient.postal_code,
            "postal_address": one.sheet.recipient.postal_address,
            "name": one.sheet.recipient.name,
            "qr": places[uri],
            "persons": [_person(letter, secret, address) for letter in one.sheet.letters],
        }
        for one, (uri, _) in zip(sheets, targets, strict=False)
    ]
    return {
        "paper": paper,
        "part": part,
        "fonts": list(face.families) if face else [],
        "codes": [_qr(uri) for uri in distinct] if part == "front" else [],
        "society": {
            "name": society.name,
            "robot": society.addresses.robot,
            "sender": list(society.notice.sender),
            "texts": list(society.notice.texts),
            "help": [
                {"name": one.name, "value": one.value, "hours": one.hours or "", "state": one.state or ""}
                for one in words.help_channels(society)
            ],
        },
        "words": {**words.words(settings, society, paper, now), "targets": list(distinct.values())},
        "sheets": printed,
        "fullest": max(range(len(printed)), key=lambda place: _length(printed[place]), default=0),
    }


def _length(sheet: dict[str, Any]) -> int:
    """About how much stands on a sheet."""
    return sum(len(text) for person in sheet["persons"] for text in person.values())


def _person(one: Letter, secret: bool, address: bool) -> dict[str, str]:
    shown = {
        "name": one.person.name,
        "relation": one.person.relation,
        "nickname": one.nickname,
        "address": one.person.address if address else "",
        "login_id": "",
    }
    if not secret:
        return shown
    return shown | {
        "login_id": one.login_id,
        "login_id_reading": reading(one.login_id),
        "password": one.password,
        "password_reading": reading(one.password),
    }


def _qr(uri: str) -> str:
    """An SVG picture. The mask is fixed: trying all eight would take four times as long, and every reader knows all."""
    picture = io.BytesIO()
    segno.make(uri, error="m", micro=False, mask=2, boost_error=False).save(picture, kind="svg", border=4)
    return picture.getvalue().decode()


__all__ = ["DoesNotFit", "Printed", "letter_texts", "texts", "typeset"]
