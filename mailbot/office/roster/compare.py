"""Rows of a file against the members there are: who joined, who changed, who stayed the same.

All sealing and hashing happens here, outside of any writing transaction. Works in chunks, so that memory does not grow
with the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials
from mailbot.config import Society
from mailbot.credentials import Format, KeyRefused, encode_id
from mailbot.mail.address import stored
from mailbot.registration import formula, people
from mailbot.registration.context import Context
from mailbot.registration.people import Person
from mailbot.registration.steps.temporary_login import printed_password
from mailbot.store import new_id
from mailbot.store.tables import member, temporary

from .columns import BY_KEY
from .rows import Checked, Complaints, Row, household_of, prefix

CHUNK = 1000
MAX_DETAILS = 1000


@dataclass(frozen=True, slots=True)
class Decisions:
    """What staff say about rows that might be somebody who is there already: line numbers."""

    same: frozenset[int] = frozenset()
    new: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Detail:
    """One row's verdict. `columns`: labels of what changed, never the values."""

    line: int
    verdict: str
    columns: tuple[str, ...] = ()


@dataclass
class Tally:
    """What the comparison found so far."""

    joined: int = 0
    changed: int = 0
    same: int = 0
    stayed: int = 0
    """Rows of members who are there today."""
    letters: int = 0
    details: list[Detail] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Compared:
    """One row with what is known of it. `known`: the member's row, None for a new person."""

    row: Row
    key: bytes
    member_id: int
    digest: bytes
    known: Any
    verdict: str
    letter: bool


def before_place(society: str, batch_id: int, member_id: int) -> str:
    """The context of `roster_change.sealed_before`."""
    return f"{society}/roster_change/sealed_before/{batch_id}/{member_id}"


def changed_columns(before: Person, after: Person) -> tuple[str, ...]:
    """Labels of the columns in which two persons differ."""
    old, new = asdict(before), asdict(after)
    # a person's `address` is the mail address; that header in a file means the postal one
    return tuple(BY_KEY["mail" if name == "address" else name].label for name in old if old[name] != new[name])


def indexes(ctx: Context, society: str, person: Person) -> dict[str, bytes | None]:
    """The blind-index columns of `member` that follow from the person."""
    ring = ctx.ring
    on_file = stored(person.address).key if person.address else None
    return {
        "person_key": people.person_key(ring, society, person),
        "household": household_of(ring, society, person),
        "name_index": people.name_index(ring, society, person.name),
        "kana_index": people.kana_index(ring, society, person.kana),
        "number_index": people.number_index(ring, society, person.symbol, person.number),
        "file_address_index": people.file_address_index(ring, society, on_file) if on_file else None,
    }


class Comparison:
    """Lifetime: one import or dry run."""

    def __init__(
        self,
        ctx: Context,
        society: Society,
        batch_id: int,
        checked: Checked,
        decisions: Decisions,
        complaints: Complaints,
        now: int,
    ) -> None:
        self._ctx, self._society, self.batch, self._now = ctx, society, batch_id, now
        self._decisions, self._complaints = decisions, complaints
        self._in_file = checked.persons.keys()
        self._printed = checked.printed.keys()
        self._claimed: set[int] = set()
        self._today = people.today(now)
        self._id_format = Format.parse(society.temporary.login_id)
        self.tally = Tally()

    async def chunk(self, rows: Sequence[Row]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(rows for `roster_stage`, rows for `roster_change`)."""
        ctx, society = self._ctx, self._society
        keys = {row.line: people.person_key(ctx.ring, society.id, row.person) for row in rows}
        async with ctx.store.read() as tx:
            known = await self._members(tx, list(keys.values()))
            near = await self._near(tx, [row for row in rows if keys[row.line] not in known])
            letters = await self._letters(tx, [one.id for one in (*known.values(), *near.values())])
            compared = [self._compare(row, keys[row.line], known, near, letters) for row in rows]
            ids = await self._login_ids(tx, [one for one in compared if one.letter])
        stage, changes = [], []
        for one in compared:
            self._count(one)
            stage.append(self._stage_row(one, ids.get(one.row.line)))
            if one.verdict != "same":
                changes.append(self._change_row(one))
        return stage, changes

    # --- what is known ----------------------------------------------------------------------------------------------

    async def _members(self, tx: AsyncConnection, keys: list[bytes]) -> dict[bytes, Any]:
        c = member.c
        columns = (c.id, c.person_key, c.row_digest, c.left_on, c.protected, c.state, c.sealed)
        rows = await tx.execute(select(*columns).where(c.society == self._society.id, c.person_key.in_(keys)))
        return {bytes(row.person_key): row for row in rows}

    async def _near(self, tx: AsyncConnection, rows: list[Row]) -> dict[int, Any]:
        """Line -> the member whom staff declared to be the same person; other doubts become complaints."""
        ctx, society, c = self._ctx, self._society, member.c
        if not rows:
            return {}
        by_number: dict[bytes, list[Row]] = {}
        for row in rows:
            index = people.number_index(ctx.ring, society.id, row.person.symbol, row.person.number)
            by_number.setdefault(index, []).append(row)
        columns = (c.id, c.person_key, c.number_index, c.row_digest, c.left_on, c.protected, c.state, c.sealed)
        found = await tx.execute(
            select(*columns).where(c.society == society.id, c.number_index.in_(list(by_number)), self._here())
        )
        doubts: dict[int, list[tuple[Any, str]]] = {}
        for one in found:
            if prefix(one.person_key) in self._in_file:
                continue
            person = people.open_person(ctx.ring, one.sealed, society.id, one.id)
            for row in by_number[bytes(one.number_index)]:
                if (difference := _near_difference(row.person, person)) is not None:
                    doubts.setdefault(row.line, []).append((one, difference))
        return {line: one for line, ones in doubts.items() if (one := self._decided(line, ones)) is not None}

    def _here(self) -> Any:
        return member.c.left_on.is_(None) | (member.c.left_on > self._today)

    def _decided(self, line: int, ones: list[tuple[Any, str]]) -> Any:
        if line in self._decisions.new:
            return None
        one, difference = ones[0]
        if line in self._decisions.same and len(ones) == 1 and one.id not in self._claimed:
            self._claimed.add(one.id)
            return one
        who = "、".join(encode_id(other.id) for other, _ in ones)
        self._complaints.add(
            line,
            f"名簿にいる人（{who}）と{difference}だけが違います。"
            f"同じ人なら --same {line}、双子など別の人なら --new {line} を付けてください。",
        )
        return None

    async def _letters(self, tx: AsyncConnection, member_ids: list[int]) -> dict[int, list[Any]]:
        c = temporary.c
        found: dict[int, list[Any]] = {}
        columns = (c.id, c.member_id, c.login_key, c.sealed_password, c.kid, c.generation, c.format, c.state)
        for row in await tx.execute(
            select(*columns).where(c.society == self._society.id, c.member_id.in_(member_ids))
        ):
            found.setdefault(row.member_id, []).append(row)
        return found

    # --- the verdict ------------------------------------------------------------------------------------------------

    def _compare(
        self,
        row: Row,
        key: bytes,
        known: Mapping[bytes, Any],
        near: Mapping[int, Any],
        letters: Mapping[int, list[Any]],
    ) -> _Compared:
        digest = self._ctx.ring.index(
            "roster-row", self._society.id, row.person.dump().decode(), str(row.protected), row.left_on or ""
        )
        gone = row.left_on is not None and row.left_on <= self._today
        one = known.get(key) or near.get(row.line)
        if one is None:
            return _Compared(row, key, new_id(), digest, None, "joined", not gone)
        letter = one.state == "invited" and not gone and self._wants_letter(row, letters.get(one.id, []))
        same = bytes(one.row_digest) == digest and one.left_on == row.left_on and not letter
        return _Compared(row, key, one.id, digest, one, "same" if same else "changed", letter)

    def _wants_letter(self, row: Row, letters: list[Any]) -> bool:
        """Whether an invited member needs new credentials: the file brings others, or none are valid any more (the
        person came back, or they were revoked or guessed at too often)."""
        if row.printed_id or row.printed_password:
            return not any(self._is_letter(row, letter) for letter in letters)
        return not any(letter.state == "live" for letter in letters)

    def _is_letter(self, row: Row, letter: Any) -> bool:
        ctx, society = self._ctx, self._society
        if row.printed_id and bytes(letter.login_key) != people.temporary_key(ctx.ring, society.id, row.printed_id):
            return False
        try:
            return not row.printed_password or printed_password(ctx, society, letter)[0] == row.printed_password
        except KeyRefused:
            return False

    def _count(self, one: _Compared) -> None:
        tally = self.tally
        setattr(tally, one.verdict, getattr(tally, one.verdict) + 1)
        tally.letters += one.letter
        tally.stayed += one.known is not None and (one.known.left_on is None or one.known.left_on > self._today)
        if one.verdict != "same" and len(tally.details) < MAX_DETAILS:
            tally.details.append(Detail(one.row.line, one.verdict, self._what_changed(one)))

    def _what_changed(self, one: _Compared) -> tuple[str, ...]:
        if one.known is None:
            return ()
        row, known = one.row, one.known
        before = people.open_person(self._ctx.ring, known.sealed, self._society.id, known.id)
        columns = changed_columns(before, row.person)
        if known.left_on != row.left_on:
            columns += (BY_KEY["left_on"].label,)
        if known.protected != row.protected:
            columns += (BY_KEY["protected"].label,)
        return columns + ((BY_KEY["temporary_id"].label,) if one.letter else ())

    # --- printed credentials ----------------------------------------------------------------------------------------

    async def _login_ids(self, tx: AsyncConnection, compared: list[_Compared]) -> dict[int, tuple[int, str]]:
        """Line -> (id of the new letter, its login ID): the file's own, else drawn until nobody has it."""
        ids: dict[int, tuple[int, str]] = {}
        given = {one.row.line: one for one in compared if one.row.printed_id}
        for line in await self._taken(tx, {n: (one.member_id, one.row.printed_id) for n, one in given.items()}):
            self._complaints.add(line, f"「{BY_KEY['temporary_id'].label}」を、ほかの人が使っています。")
        for line, one in given.items():
            ids[line] = (new_id(), one.row.printed_id)
        open_lines = {one.row.line: one for one in compared if not one.row.printed_id}
        while open_lines:
            drawn = {line: (one.member_id, *self._draw()) for line, one in open_lines.items()}
            taken = await self._taken(tx, {line: (who, text) for line, (who, _, text) in drawn.items()})
            for line, (_, letter_id, text) in drawn.items():
                number = prefix(people.temporary_key(self._ctx.ring, self._society.id, text))
                if line not in taken and number not in self._printed:
                    self._printed.add(number)
                    ids[line] = (letter_id, text)
                    del open_lines[line]
        return ids

    def _draw(self) -> tuple[int, str]:
        letter_id, kid = new_id(), self._ctx.ring.active(self._now).kid
        return letter_id, credentials.login_id(self._ctx.ring, kid, self._society.id, letter_id, 0, self._id_format)

    async def _taken(self, tx: AsyncConnection, wanted: Mapping[int, tuple[int, str]]) -> set[int]:
        """Lines whose login ID is on another member's live letter, or is another member's own."""
        if not wanted:
            return set()
        ctx, society = self._ctx, self._society.id
        printed: dict[bytes, int] = {}
        chosen: dict[str, int] = {}
        for line, (_, text) in wanted.items():
            printed[people.temporary_key(ctx.ring, society, text)] = line
            chosen[formula.login_key(ctx.ring, self._society, text)] = line
        t, m = temporary.c, member.c
        taken = set()
        live = select(t.login_key, t.member_id).where(
            t.society == society, t.state == "live", t.login_key.in_(list(printed))
        )
        for key, who in await tx.execute(live):
            line = printed[bytes(key)]
            taken |= {line} if who != wanted[line][0] else set()
        own = select(m.login_key, m.id).where(m.society == society, m.login_key.in_(list(chosen)))
        for text, who in await tx.execute(own):
            line = chosen[text]
            taken |= {line} if who != wanted[line][0] else set()
        return taken

    # --- rows to write ----------------------------------------------------------------------------------------------

    def _stage_row(self, one: _Compared, letter: tuple[int, str] | None) -> dict[str, Any]:
        ctx, society, now, row = self._ctx, self._society.id, self._now, one.row
        values: dict[str, Any] = dict.fromkeys(_OPTIONAL)
        values |= {
            "society": society,
            "batch_id": self.batch,
            "line": row.line,
            "member_id": one.member_id,
            "person_key": one.key,
            "row_digest": one.digest,
            "protected": row.protected,
            "left_on": row.left_on,
            "verdict": one.verdict,
            "sealed": b"",
        }
        if one.verdict == "same":  # only its presence counts
            return values
        values |= indexes(ctx, society, row.person)
        values["sealed"] = people.seal_person(ctx.ring, row.person, society, one.member_id, now)
        if row.person.nickname:
            place = (society, "member", "sealed_nickname", one.member_id)
            values["sealed_nickname"] = people.seal_text(ctx.ring, row.person.nickname, *place, now)
        if letter is not None:
            letter_id, login_id = letter
            values |= {
                "temporary_id": letter_id,
                "temporary_login_key": people.temporary_key(ctx.ring, society, login_id),
                "sealed_login_id": people.seal_text(
                    ctx.ring, login_id, society, "temporary", "sealed_login_id", letter_id, now
                ),
                "kid": ctx.ring.active(now).kid,
                "format": self._society.temporary.password,
            }
            if row.printed_password:
                place = (society, "temporary", "sealed_password", letter_id)
                values["sealed_password"] = people.seal_text(ctx.ring, row.printed_password, *place, now)
        return values

    def _change_row(self, one: _Compared) -> dict[str, Any]:
        ring, society, known = self._ctx.ring, self._society.id, one.known
        values: dict[str, Any] = dict.fromkeys(_BEFORE)
        values |= {"society": society, "batch_id": self.batch, "member_id": one.member_id, "kind": one.verdict}
        if known is None:
            return values
        before = people.open_person(ring, known.sealed, society, known.id).dump()
        return values | {
            "sealed_before": ring.seal(before, before_place(society, self.batch, known.id), self._now),
            "digest_before": bytes(known.row_digest),
            "left_on_before": known.left_on,
            "protected_before": known.protected,
        }


_BEFORE = ("sealed_before", "digest_before", "left_on_before", "protected_before")
_OPTIONAL = (
    "household",
    "name_index",
    "kana_index",
    "number_index",
    "file_address_index",
    "sealed_nickname",
    "temporary_id",
    "temporary_login_key",
    "sealed_login_id",
    "sealed_password",
    "kid",
    "format",
)


def _near_difference(row: Person, known: Person) -> str | None:
    """Of two persons under one symbol and number: what alone differs, birth date or kana; None where both do."""
    born = row.birth_date == known.birth_date
    kana = people.folded_name(row.kana) == people.folded_name(known.kana)
    if born == kana:
        return None
    return f"「{BY_KEY['kana' if born else 'birth_date'].label}」"
