"""Roster import, diff and undo on both databases."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mailbot import audit
from mailbot.credentials import encode_id, fold
from mailbot.office import export, letterlist, members, policy, roster
from mailbot.office.roster import Busy, Decisions, Report, Undone, live
from mailbot.registration import people
from mailbot.store.tables import audit as audit_table
from mailbot.store.tables import member, roster_batch, roster_change, roster_stage, temporary
from tests.support.factory import DAY, Joined, World

HEAD = (
    *("記号", "番号", "氏名", "カナ氏名", "生年月日", "メールアドレス"),
    *("仮ニックネーム", "仮ログインID", "仮パスワード", "保護", "資格喪失日"),
)
TARO = {"氏名": "髙橋　太郎", "カナ氏名": "タカハシ タロウ", "生年月日": "1974-05-18", "仮ニックネーム": "たろう"}
HANA = {"氏名": "髙橋　花子", "カナ氏名": "タカハシ ハナコ", "生年月日": "1976-09-03"}
ACTOR = "staff:sato"


def person(base: dict[str, str], **more: str) -> dict[str, str]:
    return {"記号": "12", "番号": "34", **base, **more}


class Office:
    """One society's roster, and the file that staff have."""

    def __init__(self, here: World, folder: Path, society: str) -> None:
        self.here, self.file, self.society = here, folder / "meibo.csv", here.society(society)

    async def give(self, *rows: dict[str, str], **options: Any) -> Report:
        with self.file.open("w", encoding="cp932", newline="") as stream:
            sheet = csv.DictWriter(stream, HEAD)
            sheet.writeheader()
            sheet.writerows(rows)
        self.here.now += 1000
        return await roster.import_file(
            self.here.ctx, self.society, self.file, actor=ACTOR, now=self.here.now, **options
        )

    async def undo(self, **options: Any) -> Undone | str:
        self.here.now += 1000
        return await roster.undo(self.here.ctx, self.society, actor=ACTOR, now=self.here.now, **options)

    async def members(self) -> dict[str, Any]:
        """By given name; `person` and `nickname` opened."""
        ring, found = self.here.ctx.ring, {}
        for row in await self.here.rows(select(member).where(member.c.society == self.society.id)):
            who = people.open_person(ring, row.sealed, self.society.id, row.id)
            found[who.name.split("　")[-1]] = (row, who)
        return found

    async def letters(self, *states: str) -> list[Any]:
        wanted = select(temporary).where(temporary.c.society == self.society.id)
        rows = await self.here.rows(wanted.order_by(temporary.c.created_at, temporary.c.id))
        return [row for row in rows if not states or row.state in states]

    async def printed(self) -> dict[str, tuple[str, str]]:
        """Given name -> (ID, password), as it goes to the printer."""
        out = self.file.with_name(f"letters-{self.here.now}.csv")
        await letterlist.write(self.here.ctx, self.society, out, actor=ACTOR, now=self.here.now)
        with out.open(encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        out.unlink()
        return {row["氏名"].split("　")[-1]: (row["仮ログインID"], row["仮パスワード"]) for row in rows}

    async def register(self, name: str, login_id: str) -> None:
        """Registers with the printed credentials."""
        row, _ = (await self.members())[name]
        (letter,) = [one for one in await self.letters("live") if one.member_id == row.id]
        printed = (await self.printed())[name]
        await self.here.register(Joined(self.society, row.id, letter.id, *printed), login_id)


@pytest.fixture
def office(here: World, tmp_path: Path) -> Office:
    return Office(here, tmp_path, "yokokou")


def counts(report: Report) -> tuple[int, int, int, int]:
    assert report.complaints == ()
    return report.joined, report.changed, report.same, report.left


async def test_the_roster_becomes_members_with_letters(office: Office) -> None:
    brought = person(TARO, 仮ログインID="12345678", 仮パスワード="87654321", メールアドレス="taro@docomo.ne.jp")
    report = await office.give(brought, person(HANA, 保護="はい"))
    assert counts(report) == (2, 0, 0, 0)
    assert report.letters == 2
    found = await office.members()
    row, who = found["太郎"]
    assert (who.symbol, who.number, who.birth_date, who.address) == ("12", "34", "1974-05-18", "taro@docomo.ne.jp")
    assert (row.state, row.protected, row.left_on, row.batch) == ("invited", False, None, report.batch)
    place = ("yokokou", "member", "sealed_nickname", row.id)
    assert people.open_text(office.here.ctx.ring, row.sealed_nickname, *place) == "たろう"
    assert found["花子"][0].protected
    assert bytes(found["花子"][0].household) == bytes(row.household)
    printed = await office.printed()
    assert printed["太郎"] == ("12345678", "87654321")
    made = printed["花子"]
    assert all(len(text) == 8 and text.isdigit() for text in made)
    async with office.here.ctx.store.read() as tx:
        for text in ("髙橋太郎", "ﾀｶﾊｼ ﾀﾛｳ", "taro@docomo.ne.jp", "12345678"):
            assert [one.id for one in await members.find(office.here.ctx, tx, office.society, text)] == [row.id]
        assert len(await members.find(office.here.ctx, tx, office.society, "12-34")) == 2
        assert await policy.counts(tx, office.here.now) == {"yokokou": (2, 0)}
    await office.register("太郎", "tarotaro")
    await office.register("花子", "hanahana")
    async with office.here.ctx.store.read() as tx:
        assert await policy.counts(tx, office.here.now) == {"yokokou": (2, 2)}


async def test_nothing_personal_lies_open_in_the_tables(office: Office) -> None:
    printed = {"仮ログインID": "12345678", "仮パスワード": "87654321"}
    await office.give(person(TARO, メールアドレス="taro@docomo.ne.jp", **printed))
    await office.give(person(TARO, 氏名="髙橋　次郎", メールアドレス="jiro@docomo.ne.jp"))
    secrets = ["髙橋", "タカハシ", "1974", "taro@", "jiro@", "12345678", "87654321", "たろう"]
    for table in (member, temporary, roster_change, roster_stage, roster_batch, audit_table):
        for row in await office.here.rows(select(table)):
            raw = b"\0".join(bytes(v) if isinstance(v, bytes) else str(v).encode() for v in row)
            assert not [word for word in secrets if word.encode() in raw], table.name


async def test_90_the_same_file_twice_changes_nothing(office: Office) -> None:
    rows = [person(TARO, 仮ログインID="12345678", 仮パスワード="87654321"), person(HANA)]
    await office.give(*rows)
    before = await office.printed(), await office.here.rows(select(member)), await office.letters()
    batches = await office.here.count(roster_batch)
    again = await office.give(*rows)
    assert (counts(again), again.letters, again.batch) == ((0, 0, 2, 0), 0, None)
    assert (await office.printed(), await office.here.rows(select(member)), await office.letters()) == before
    assert await office.here.count(roster_batch) == batches
    assert await office.here.count(roster_stage) == 0
    await office.register("花子", "hanahana")
    assert counts(await office.give(*rows)) == (0, 0, 2, 0)
    assert len(await office.letters()) == 2


async def test_dry_run_and_diff_change_nothing(office: Office) -> None:
    await office.give(person(TARO), person(HANA))
    rows = (person(TARO, メールアドレス="t@docomo.ne.jp"), person(HANA, 氏名="髙橋　華子"))
    report = await office.give(*rows, dry_run=True)
    assert (counts(report), report.batch) == ((0, 2, 0, 0), None)
    assert [(one.line, one.verdict, one.columns) for one in report.details] == [
        (2, "changed", ("メールアドレス",)),
        (3, "changed", ("氏名",)),
    ]
    assert set(await office.members()) == {"太郎", "花子"}
    assert await office.here.count(roster_batch) == 1


async def test_a_complaint_anywhere_refuses_everything(office: Office) -> None:
    report = await office.give(person(TARO), person(HANA, 生年月日="1976-02-31"))
    assert report.complaints == ("meibo.csv 3行目: 「生年月日」(5列目) ない日付です。",)
    assert report.batch is None
    assert await office.members() == {}
    assert await office.here.count(roster_stage) == 0


async def test_changes_and_what_registered_members_keep(office: Office) -> None:
    await office.give(person(TARO), person(HANA, 仮ニックネーム="はな"))
    await office.register("太郎", "tarotaro")
    report = await office.give(
        person(TARO, 仮ニックネーム="別", 保護="1", メールアドレス="t@docomo.ne.jp"), person(HANA, 仮ニックネーム="華")
    )
    assert counts(report) == (0, 2, 0, 0)
    found = await office.members()
    ring = office.here.ctx.ring

    def nickname(name: str) -> str:
        row = found[name][0]
        return people.open_text(ring, row.sealed_nickname, "yokokou", "member", "sealed_nickname", row.id)

    assert (nickname("太郎"), nickname("花子")) == ("たろう", "華")
    assert found["太郎"][0].protected
    assert found["太郎"][0].login_id == "tarotaro"
    assert found["太郎"][1].address == "t@docomo.ne.jp"
    last = await roster.last_changes(office.here.ctx, office.society, 10)
    assert last is not None
    assert {change.columns for change in last.changes} == {("メールアドレス", "仮ニックネーム"), ("仮ニックネーム",)}


async def test_other_printed_credentials_replace_the_letter(office: Office) -> None:
    first = {"仮ログインID": "12345678", "仮パスワード": "87654321"}
    await office.give(person(TARO, **first))
    await office.give(person(TARO))  # a file without the columns has no opinion
    assert (await office.printed())["太郎"] == ("12345678", "87654321")
    report = await office.give(person(TARO, 仮ログインID="12345678", 仮パスワード="11223344"))
    assert (counts(report), report.letters) == ((0, 1, 0, 0), 1)
    assert (await office.printed())["太郎"] == ("12345678", "11223344")
    assert [one.state for one in await office.letters()] == ["revoked", "live"]
    # what was on an earlier letter does not come back by itself
    assert (await office.give(person(TARO, **first))).letters == 0


async def test_leaving_kills_the_letter_and_coming_back_makes_a_new_one(office: Office) -> None:
    await office.give(person(TARO), person(HANA))
    before = await office.printed()
    assert counts(await office.give(person(TARO))) == (0, 0, 1, 1)
    gone = (await office.members())["花子"][0]
    assert gone.left_on == people.today(office.here.now)
    assert set(await office.printed()) == {"太郎"}
    assert counts(await office.give(person(TARO))) == (0, 0, 1, 0)
    back = await office.give(person(TARO), person(HANA))
    assert (counts(back), back.letters) == ((0, 1, 1, 0), 1)
    assert (await office.members())["花子"][0].left_on is None
    after = await office.printed()
    assert after["太郎"] == before["太郎"]
    assert after["花子"] != before["花子"]


async def test_leaving_dates_of_the_file(office: Office) -> None:
    office.here.now += DAY
    today, later = people.today(office.here.now), people.today(office.here.now + 3 * DAY)
    report = await office.give(person(TARO, 資格喪失日=later), person(HANA, 資格喪失日=today))
    assert (counts(report), report.letters) == ((2, 0, 0, 0), 1)
    report = await office.give(person(TARO, 資格喪失日=today), person(HANA, 資格喪失日=today))
    assert counts(report) == (0, 1, 1, 0)
    assert [one.state for one in await office.letters()] == ["revoked"]
    assert counts(await office.give(person(HANA, 資格喪失日=today))) == (0, 0, 1, 0)


async def test_partial_files_leave_the_others_alone(office: Office) -> None:
    await office.give(person(TARO))
    assert counts(await office.give(person(HANA), partial=True)) == (1, 0, 0, 0)
    assert counts(await office.give(person(HANA), partial=True)) == (0, 0, 1, 0)
    assert {row.left_on for row, _ in (await office.members()).values()} == {None}


async def test_whoever_resembles_a_member_is_for_staff_to_decide(office: Office) -> None:
    await office.give(person(TARO), person(HANA))
    member_id = (await office.members())["花子"][0].id
    married = person(HANA, カナ氏名="ヤマダ ハナコ", 氏名="山田　花子")
    refused = await office.give(person(TARO), married)
    assert len(refused.complaints) == 1
    words = f"meibo.csv 3行目: 名簿にいる人（{encode_id(member_id)}）と「カナ氏名」だけが違います。"
    assert refused.complaints[0].startswith(words)
    assert "ハナコ" not in refused.complaints[0]
    assert counts(await office.give(person(TARO), married, decisions=Decisions(same=frozenset({3})))) == (0, 1, 1, 0)
    row, who = (await office.members())["花子"]
    assert (row.id, who.name) == (member_id, "山田　花子")
    assert counts(await office.give(person(TARO), married)) == (0, 0, 2, 0)
    twin = person(HANA, カナ氏名="ヤマダ ハルコ", 氏名="山田　春子")
    assert (await office.give(twin, partial=True)).complaint_count == 1
    assert counts(await office.give(twin, partial=True, decisions=Decisions(new=frozenset({2})))) == (1, 0, 0, 0)
    assert counts(await office.give(person(TARO), married, twin)) == (0, 0, 3, 0)
    other_day = person(twin, 生年月日="1976-09-04")
    refused = await office.give(other_day, partial=True)
    assert "「生年月日」だけが違います" in refused.complaints[0]


async def test_86_an_id_that_another_member_has_refuses_the_file(office: Office) -> None:
    await office.give(person(TARO, 仮ログインID="12345678"))
    refused = await office.give(person(HANA, 仮ログインID="12345678"), partial=True)
    assert refused.complaints == ("meibo.csv 2行目: 「仮ログインID」を、ほかの人が使っています。",)


async def test_drawn_ids_keep_clear_of_given_and_chosen_ones(
    office: Office, here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.give(person(TARO, 仮ログインID="10000001"))
    await here.register(await here.join("yokokou", login_id="77777777"), "abcd10000002")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.login_id.is_not(None)).values(login_key=fold("10000002")))
    drawn = iter(["10000001", "10000002", "10000003", "10000004", "10000004", "10000005"])
    monkeypatch.setattr("mailbot.credentials.login_id", lambda *_: next(drawn))
    rows = [person(HANA, 番号="1", 仮ログインID="10000003"), person(HANA, 番号="2"), person(HANA, 番号="3")]
    assert counts(await office.give(*rows, partial=True)) == (3, 0, 0, 0)
    assert {login for login, _ in (await office.printed()).values()} <= {f"1000000{n}" for n in range(1, 6)}
    keys = [bytes(one.login_key) for one in await office.letters("live")]
    wanted = [people.temporary_key(here.ctx.ring, "yokokou", f"1000000{n}") for n in (1, 3, 4, 5)]
    assert sorted(keys) == sorted(wanted)


async def test_a_whole_roster_that_lacks_very_many_is_refused(office: Office) -> None:
    crowd = [person(HANA, 番号=f"{n}") for n in range(150)]
    await office.give(*crowd)
    refused = await office.give(*crowd[:30])
    assert refused.complaints == (
        "meibo.csv: 名簿にいる150人のうち120人がこのファイルにいません。名簿の一部なら --partial を、"
        "本当にやめた方々なら --many-leave を付けてください。",
    )
    assert counts(await office.give(*crowd[:30], many_leave=True)) == (0, 0, 30, 120)


async def test_a_small_office_is_guarded_too(office: Office) -> None:
    few = [person(HANA, 番号=f"{n}") for n in range(7)]
    await office.give(*few)
    assert (await office.give(*few[:2])).complaints  # 5 of 7 would go: most likely a part without --partial
    assert counts(await office.give(*few[:5])) == (0, 0, 5, 2)


async def test_undo_takes_the_last_import_back(office: Office) -> None:
    await office.give(person(TARO), person(HANA, 仮ログインID="12345678", 仮パスワード="87654321"))
    rows, printed = await office.members(), await office.printed()
    new = person(HANA, 番号="99", 氏名="鈴木　三郎", カナ氏名="スズキ サブロウ")
    late = person(HANA, 番号="98", 氏名="鈴木　史郎", カナ氏名="スズキ シロウ")
    changed = person(HANA, 氏名="髙橋　花子", メールアドレス="h@docomo.ne.jp", 仮ログインID="22223333", 保護="はい")
    assert counts(await office.give(changed, new, late)) == (2, 1, 0, 1)
    await office.register("史郎", "shiroshi")
    undone = await office.undo()
    assert isinstance(undone, Undone)
    assert (undone.removed, undone.restored, undone.returned, undone.kept) == (1, 1, 1, 1)
    after = await office.members()
    assert set(after) == {"太郎", "花子", "史郎"}
    same = ("person_key", "household", "row_digest", "name_index", "file_address_index", "left_on", "protected")
    for name in ("太郎", "花子"):
        assert after[name][1] == rows[name][1]
        assert [getattr(after[name][0], c) for c in same] == [getattr(rows[name][0], c) for c in same]
    assert await office.printed() == printed
    assert await office.undo(batch_id=undone.batch) == "this import has been undone already"
    assert counts(await office.give(person(TARO), person(HANA), partial=True)) == (0, 0, 2, 0)
    assert isinstance(await office.undo(), Undone)
    assert set(await office.members()) == {"史郎"}
    assert await office.undo() == "there is no import to undo"
    async with office.here.ctx.store.read() as tx:
        assert await audit.verify(tx) is None
    events = [row.event for row in await office.here.rows(select(audit_table).order_by(audit_table.c.number))]
    assert [event for event in events if event.startswith("roster")] == [
        "roster-imported", "roster-imported", "roster-undone", "roster-undone",
    ]  # fmt: skip


async def test_undo_of_an_older_import_says_which_comes_first(office: Office) -> None:
    await office.give(person(TARO))
    first = await roster.last_changes(office.here.ctx, office.society, 0)
    assert first is not None
    report = await office.give(person(TARO), person(HANA))
    assert report.batch is not None
    refused = await office.undo(batch_id=first.id)
    assert refused == f"a newer import, {encode_id(report.batch)}, builds upon this one: undo that one first"
    assert set(await office.members()) == {"太郎", "花子"}


@pytest.mark.parametrize("died_after", [1, 2, 3, 4])
async def test_an_import_that_died_is_dropped_or_finished(
    office: Office, here: World, monkeypatch: pytest.MonkeyPatch, died_after: int
) -> None:
    """Died while staging, before the commit point, after it, and in the middle of going live."""
    await office.give(person(TARO), person(HANA, 仮ログインID="12345678"))
    monkeypatch.setattr(live, "FIRST_PIECE", 2)
    monkeypatch.setattr(live, "LEAST_PIECE", 2)
    monkeypatch.setattr(live, "LARGEST_PIECE", 2)

    class Died(Exception):
        pass

    calls = 0

    def dies(name: str, after: int) -> None:
        original = getattr(live, name)

        async def once(*arguments: Any) -> Any:
            nonlocal calls
            done = await original(*arguments)
            calls += 1
            if calls == after:
                raise Died
            return done

        monkeypatch.setattr(live, name, once)

    step, after = {1: ("open_batch", 1), 2: ("stage", 1), 3: ("commit", 1), 4: ("_put_live", 2)}[died_after]
    dies(step, after)
    crowd = [person(HANA, 番号=f"{n}", 氏名=f"群衆　{n}番", カナ氏名="グンシュウ") for n in range(5)]
    with pytest.raises(Died):
        await office.give(person(TARO, 氏名="髙橋　太朗"), *crowd)
    half = len(await office.members())
    assert half == {1: 2, 2: 2, 3: 2, 4: 3}[died_after]
    report = await office.give(person(TARO, 氏名="髙橋　太朗"), *crowd)
    finished = died_after >= 3
    assert counts(report) == ((0, 0, 6, 0) if finished else (5, 1, 0, 1))
    found = await office.members()
    assert set(found) == {"太朗", "花子", *(f"{n}番" for n in range(5))}
    assert found["花子"][0].left_on is not None
    assert len(await office.letters("live")) == 6
    assert await here.count(roster_stage) == 0
    undone = await office.undo()
    assert isinstance(undone, Undone)
    assert (undone.removed, undone.restored, undone.returned) == (5, 1, 1)
    assert set(await office.printed()) == {"太郎", "花子"}


async def test_one_command_at_a_time(office: Office, here: World) -> None:
    async with live.Turn(here.ctx, "yokokou", here.now + 1000):
        with pytest.raises(Busy):
            await office.give(person(TARO))
        with pytest.raises(Busy):
            await office.undo()
        other = Office(here, office.file.parent, "shochiku")
        assert counts(await other.give(person(TARO))) == (1, 0, 0, 0)
    assert counts(await office.give(person(TARO))) == (1, 0, 0, 0)


async def test_two_imports_at_once_do_not_mix(office: Office, here: World) -> None:
    async def give(rows: Sequence[dict[str, str]]) -> Report | None:
        try:
            return await office.give(*rows, partial=True)
        except Busy:
            return None

    done = await asyncio.gather(*(give([person(TARO)]) for _ in range(4)))
    assert [report.joined for report in done if report and report.joined] == [1]
    assert set(await office.members()) == {"太郎"}
    assert await here.count(roster_stage) == 0


async def test_exports_are_safe_to_open(office: Office, here: World, tmp_path: Path) -> None:
    await office.give(person(TARO, 氏名="=cmd|' /C calc'!A0", 仮ニックネーム="@taro"), person(HANA))
    assert any(who.name == "=cmd|' /C calc'!A0" for _, who in (await office.members()).values())
    letters = tmp_path / "letters.csv"
    assert await letterlist.write(here.ctx, office.society, letters, actor=ACTOR, now=here.now) == 2
    assert letters.stat().st_mode & 0o777 == 0o600
    text = letters.read_text("utf-8-sig")
    assert ",'=cmd|' /C calc'!A0," in text
    assert ",'@taro," in text
    with pytest.raises(FileExistsError):
        await letterlist.write(here.ctx, office.society, letters, actor=ACTOR, now=here.now)
    await office.register("花子", "hanahana")
    out = tmp_path / "members.csv"
    assert (await export.export(here.ctx, office.society, out, actor=ACTOR, now=here.now)).count == 1
    with out.open(encoding="utf-8-sig") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["記号"], row["番号"], row["氏名"], row["ログインID"]) == ("12", "34", "髙橋　花子", "hanahana")
    assert row["メールアドレス1"] == "hanako@docomo.ne.jp"
    assert {row[name] for name in row if name.startswith(("配信", "公開"))} == {"いいえ"}
    events = {row.event for row in await here.rows(select(audit_table))}
    assert {"letters-exported", "members-exported"} <= events


async def test_a_members_card(office: Office, here: World) -> None:
    await office.give(person(HANA))
    await office.register("花子", "hanahana")
    row, _ = (await office.members())["花子"]
    card = await members.card(here.ctx, office.society, row.id, actor=ACTOR, now=here.now)
    assert card is not None
    assert [link.state for link in card.links] == ["used"]
    assert {mail.letter for mail in card.mails} == {"invitation", "completion"}
    assert [letter.state for letter in card.member.letters] == ["used"]
    assert "member-revealed" not in {one.event for one in await here.rows(select(audit_table))}
    await members.card(here.ctx, office.society, row.id, actor=ACTOR, now=here.now, reveal=True)
    assert "member-revealed" in {one.event for one in await here.rows(select(audit_table))}
    assert await members.card(here.ctx, office.society, 1, actor=ACTOR, now=here.now) is None


async def test_protected_persons_share_no_notice(office: Office, here: World, tmp_path: Path) -> None:
    third = person(HANA, 氏名="髙橋　三郎", カナ氏名="タカハシ サブロウ")
    await office.give(person(TARO), person(HANA, 保護="はい"), third, person(TARO, 番号="35"))
    out = tmp_path / "letters.csv"
    await letterlist.write(here.ctx, office.society, out, actor=ACTOR, now=here.now)
    with out.open(encoding="utf-8-sig") as stream:
        households = {(row["番号"], row["カナ氏名"]): row["世帯"] for row in csv.DictReader(stream)}
    assert households["34", "タカハシ タロウ"] == households["34", "タカハシ サブロウ"]
    assert len(set(households.values())) == 3
