"""Letters: what is sent, what is refused at the start, and that nothing a member typed can do harm."""

import shutil
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from mailbot.config import HelpChannel, Society
from mailbot.letters import LETTERS, LetterError, Letters, letters_of
from mailbot.letters.facts import clean, day, moment
from mailbot.letters.kinds import FORBIDDEN_FACTS, MAX_TEXT, lifetime
from mailbot.letters.lint import MAX_MAIL
from mailbot.mail.address import Address
from tests.golden.update import (
    FACTS,
    FOLDER,
    HOST,
    INCOMING,
    MESSAGE_ID,
    NOW,
    RECIPIENT,
    ROOT,
    TOKEN,
    WEB_URL,
    facts,
    letters,
    mails,
    societies,
)

SOCIETIES = societies()
MADE = letters()
PAIRS = [(name, letter) for name, file in SOCIETIES.items() for letter in letters_of(file)]


def render(society: str, letter: str, made: Letters = MADE, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "recipient": RECIPIENT,
        "message_id": MESSAGE_ID,
        "date_ms": NOW,
        "in_reply_to": None,
        **changes,
    }
    given = facts(society, letter) | arguments.pop("facts", {})
    return made.render(society, letter, given, **arguments)


def read(mail: bytes) -> EmailMessage:
    return message_from_bytes(mail, policy=policy.default)


def body(mail: bytes) -> str:
    text: str = read(mail).get_content()
    return text.replace("\r\n", "\n")


def society(**changes: Any) -> Society:
    """A society of no file, to vary."""
    data: dict[str, Any] = {
        "id": "sixth",
        "name": "第六健康保険組合",
        "addresses": {"robot": "robot@sixth.example", "bounce": "bounce@sixth.example"},
        "help": [{"kind": "phone", "name": "第六健康保険組合", "value": "06-0000-0000"}],
        "journeys": {"any": {"starts": ["web-form"], "steps": ["insurance-details", "credentials"]}},
    }
    return Society.model_validate(data | changes)


def one(member: Society, *folders: Path, web_url: str = WEB_URL) -> Letters:
    return Letters({member.id: member}, [*folders, ROOT / "templates"], web_url, HOST)


# -- as sent ---------------------------------------------------------------------------------------------------------


def test_golden_files() -> None:
    """Every letter of every society, byte for byte. A change is wanted? `python -m tests.golden.update`, `git diff`."""
    made = mails()
    kept = {file: file.read_bytes() for file in [*FOLDER.glob("*/*.eml"), *FOLDER.glob("*/*.txt")]}
    assert sorted(made) == sorted(kept)
    for file, content in made.items():
        assert content == kept[file], file


def test_no_problems_in_what_is_shipped() -> None:
    assert MADE.problems() == []


def test_longest_host_and_longest_facts_still_fit() -> None:
    longest = max(SOCIETIES, key=len)
    host = "https://" + "h" * (30 - len(longest) - len(".example")) + ".example"
    assert Letters(SOCIETIES, [ROOT / "templates"], host, HOST).problems() == []
    for name in SOCIETIES:
        made = Letters(SOCIETIES, [ROOT / "templates"], host, HOST)
        for letter, kind in letters_of(SOCIETIES[name]).items():
            hostile = {"nickname": "髙" * 500, "login_id": "W" * 64}
            url = {"url": f"{host}/{name}/r/{TOKEN}"} if "url" in kind.facts else {}
            mail = made.render(
                name,
                letter,
                FACTS | hostile | url,
                recipient=RECIPIENT,
                message_id=MESSAGE_ID,
                date_ms=NOW,
                in_reply_to="<" + "i" * 200 + "@mail.example>",
            )
            assert len(mail) < 4096


COMMON = {
    "To": "hanako@mail.example",
    "Date": "Fri, 20 Nov 2026 15:42:00 +0900",
    "Message-ID": MESSAGE_ID,
    "MIME-Version": "1.0",
    "Content-Type": 'text/plain; charset="utf-8"',
    "Content-Transfer-Encoding": "base64",
    "X-Robot-Id": HOST,
    "X-Auto-Response-Suppress": "All",
}


@pytest.mark.parametrize(("name", "letter"), PAIRS)
def test_headers(name: str, letter: str) -> None:
    kind = LETTERS[letter]
    reply = {"In-Reply-To": INCOMING, "References": INCOMING} if kind.answer else {}
    society, addresses = SOCIETIES[name], SOCIETIES[name].addresses
    robot, desk = (addresses.sender_name or society.name, addresses.robot), (society.help_sender, addresses.help)
    headers = {
        "From": "{} <{}>".format(*(desk if kind.help_desk else robot)),
        "Subject": kind.title,
        "Auto-Submitted": "auto-replied" if kind.answer else "auto-generated",
        **COMMON,
        **reply,
    }
    message = read(render(name, letter, in_reply_to=INCOMING))
    assert {key: str(value) for key, value in message.items()} == headers
    assert len(message.items()) == len(headers)
    assert not message.defects


@pytest.mark.parametrize(("name", "letter"), PAIRS)
def test_every_parser_reads_the_same_body(name: str, letter: str) -> None:
    mail = render(name, letter)
    assert mail.isascii()
    assert b"\n" not in mail.replace(b"\r\n", b"")
    assert all(len(line) <= 78 for line in mail.split(b"\r\n"))
    payload = message_from_bytes(mail, policy=policy.compat32).get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode("utf-8").replace("\r\n", "\n") == body(mail)
    assert b"\n" not in payload.replace(b"\r\n", b"")


@pytest.mark.parametrize(("name", "letter"), PAIRS)
def test_every_letter_says_who_writes_where_to_ask_and_that_nobody_reads_answers(name: str, letter: str) -> None:
    text = body(render(name, letter))
    assert SOCIETIES[name].name in text
    assert SOCIETIES[name].service in text
    assert ("返信はお受けできません" in text) is not LETTERS[letter].help_desk
    strange = ("お心あたりのないとき", "おぼえがないとき", "ログインをしていないのに")
    assert any(words in text for words in strange)
    channels = SOCIETIES[name].help_for(LETTERS[letter].help)
    assert channels
    for channel in channels:
        said = [channel.name, channel.hours or "", channel.state or "", channel.note or ""]
        assert all(word in text for word in said)
        assert channel.kind == "form" or channel.value in text


@pytest.mark.parametrize("name", SOCIETIES)
def test_invitation_tells_until_when_in_japanese_time(name: str) -> None:
    text = body(render(name, "invitation"))
    assert f"\n\n{WEB_URL}/{name}/r/{TOKEN}\n\n" in text
    assert "発行から3時間、2026年11月20日（金）18時42分（日本時間）まで" in text


@pytest.mark.parametrize(
    ("login_id", "temporary"), [(True, "letters:8"), (True, None), (False, "letters:8"), (False, None)]
)
def test_reissue_carries_what_the_society_asks_for(login_id: bool, temporary: str | None) -> None:
    made = one(society(reissue={"login_id": login_id, "temporary_password": temporary}))
    assert made.problems() == []
    text = body(render("sixth", "reissue", made))
    assert ("hanako-k" in text) is login_id
    assert ("QwErTyUi" in text) is (temporary is not None)
    assert "はなこ 様" in text


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "submitted", "reference"),
    [
        ({}, "auto-generated", None),
        ({"facts": {"answer": 1}}, "auto-replied", None),
        ({"facts": {"answer": 0}}, "auto-generated", None),
        ({"in_reply_to": "<a@b>"}, "auto-replied", "<a@b>"),
        ({"in_reply_to": "<>"}, "auto-replied", None),
        ({"in_reply_to": "<" + "a" * 990 + "@b>"}, "auto-replied", None),
        ({"in_reply_to": "<a@b>\r\nBcc: <c@d>"}, "auto-replied", None),
        ({"in_reply_to": "<あ@b>"}, "auto-replied", None),
    ],
)
def test_answers_say_so(changes: dict[str, Any], submitted: str, reference: str | None) -> None:
    message = read(render("yokokou", "invitation", **changes))
    assert message["Auto-Submitted"] == submitted
    assert message["In-Reply-To"] == reference
    assert message["References"] == reference
    assert "Bcc" not in message


def test_long_message_ids_stay_as_they_are() -> None:
    long = "<" + "a" * 104 + "@exchange.test>"
    assert len(long) == 120
    mail = render("yokokou", "invitation", in_reply_to=long)
    assert f"\r\nIn-Reply-To: {long}\r\nReferences: {long}\r\n".encode() in mail


def test_carrier_addresses_are_written_as_they_are() -> None:
    mail = render("yokokou", "invitation", recipient=Address("a..b.", "docomo.ne.jp"))
    assert b"\r\nTo: a..b.@docomo.ne.jp\r\n" in mail


@pytest.mark.parametrize("bad", ["", "a@b", "<a@b>\r\nBcc: x", "<a@b>\0"])
def test_no_mail_with_a_bad_message_id(bad: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        render("yokokou", "completion", message_id=bad)


# -- facts of a member -----------------------------------------------------------------------------------------------


def test_hostile_nickname_is_only_text() -> None:
    hostile = "{{7*7}}\r\nBcc: x http://x"
    mail = render("yokokou", "reissue", facts={"nickname": hostile})
    assert "\n\n{{7*7}} Bcc: x http：／／x 様\n\n" in body(mail)
    assert read(mail).keys() == read(render("yokokou", "reissue")).keys()
    assert "Bcc" not in read(mail)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("はなこ", "はなこ"),
        ("健康　花子", "健康 花子"),
        ("a\u202eb\u200b\u2028c\0", "a b c"),
        ("\ud800x", "x"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("あ" * 40, "あ" * 40),
        ("あ" * 41, "あ" * 39 + "…"),
        ("あ" * 38 + "か\u3099" * 9, "あ" * 38 + "…"),
        ("あ" * 36 + "👨‍👩‍👧‍👦" * 3, "あ" * 36 + "…"),
        ("https://evil.example", "https：／／evil.example"),
        ("\ufdd0url\ufdd1", "url"),
        ("\u200d", ""),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text, MAX_TEXT) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("nickname", ["", "\r\n", "\u200d"])
def test_rows_without_a_nickname_are_still_addressed(nickname: str) -> None:
    assert "ご登録者 様" in body(render("yokokou", "reissue", facts={"nickname": nickname}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", ""),
        ("url", "https://evil.example/yokokou/r/abc"),
        ("url", f"{WEB_URL}/shochiku/p/{TOKEN}"),
        ("url", f"{WEB_URL}/yokokou/p/abc\r\nx"),
        ("url", f"{WEB_URL}/yokokou/p/abc def"),
        ("url", 5),
        ("expires_at", "2026-11-20"),
        ("login_id", "W" * 65),
        ("login_id", ""),
        ("temporary_password", ""),
    ],
)
def test_impossible_facts_are_refused_and_not_quoted(name: str, value: str | int) -> None:
    with pytest.raises(LetterError, match=f"fact {name} is ") as caught:
        render("yokokou", "reissue", facts={name: value})
    assert value == "" or str(value) not in str(caught.value)


def test_unknown_letters_are_refused() -> None:
    for name, letter in (("yokokou", "advert"), ("nobody", "invitation")):
        with pytest.raises(LetterError, match=letter):
            MADE.render(name, letter, {}, recipient=RECIPIENT, message_id=MESSAGE_ID, date_ms=NOW, in_reply_to=None)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (1_795_156_920_000, "2026年11月20日（金）15時42分"),
        (1_795_156_979_999, "2026年11月20日（金）15時42分"),
        (1_798_729_500_000, "2027年1月1日（金）0時05分"),
    ],
)
def test_moments(at: int, text: str) -> None:
    assert moment(at) == text
    assert text.startswith(day(at))


@pytest.mark.parametrize(("minutes", "text"), [(180, "3時間"), (1440, "24時間"), (90, "1時間30分"), (45, "45分")])
def test_lifetimes(minutes: int, text: str) -> None:
    assert lifetime(minutes) == text


# -- what is found at the start --------------------------------------------------------------------------------------


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the shipped templates."""
    shutil.copytree(ROOT / "templates" / "mail", tmp_path / "mail")
    return tmp_path


def test_a_society_overrides_one_file_and_nobody_else_sees_it(tmp_path: Path) -> None:
    own = tmp_path / "societies" / "yokokou" / "mail" / "completion"
    own.mkdir(parents=True)
    (own / "subject.txt").write_text("登録が済みました\n", "utf-8")
    made = Letters(SOCIETIES, [tmp_path, ROOT / "templates"], WEB_URL, HOST)
    assert made.problems() == []
    assert read(render("yokokou", "completion", made))["Subject"] == "登録が済みました"
    assert body(render("yokokou", "completion", made)) == body(render("yokokou", "completion"))
    assert render("shochiku", "completion", made) == render("shochiku", "completion")


def test_a_society_may_replace_the_foot_of_all_its_letters(tmp_path: Path) -> None:
    own = tmp_path / "societies" / "yokokou" / "mail" / "_base"
    own.mkdir(parents=True)
    (own / "foot.txt").write_text("{{ society }} 総務課\n", "utf-8")
    made = Letters(SOCIETIES, [tmp_path, ROOT / "templates"], WEB_URL, HOST)
    assert made.problems() == []
    for letter in letters_of(SOCIETIES["yokokou"]):
        assert body(render("yokokou", letter, made)).endswith("横浜港運健康保険組合 総務課\n")


def append(text: str) -> Callable[[str], str]:
    return lambda old: old.replace("{% endblock %}", f"{text}\n{{% endblock %}}", 1)


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


FAULTS = [
    ("invitation/body.txt", append("{{ link }}"), "{{ link }} is not a fact of this letter"),
    ("invitation/body.txt", append("{{ nickname }}"), "{{ nickname }} is not a fact of this letter"),
    ("invitation/body.txt", append("{{ symbol }}"), "no letter carries name, symbol"),
    ("reissue/body.txt", append("{{ name }}"), "no letter carries name, symbol"),
    ("reissue/body.txt", append("{{ birth_date }}"), "no letter carries name, symbol"),
    ("reissue/body.txt", append("{% if nickname %}x{% endif %}"), "nickname is a fact of the member"),
    ("reissue/body.txt", append("{% if nickname is defined %}x{% endif %}"), "nickname is a fact of the member"),
    ("reissue/body.txt", append("{{ nickname|upper }}"), "LINE: nickname is a fact of the member"),
    ("reissue/body.txt", append("{{ 'x' if url else 'y' }}"), "url is a fact of the member"),
    ("reissue/body.txt", append("{% filter upper %}{{ nickname }}{% endfilter %}"), "went through a filter"),
    ("reissue/body.txt", append("{% set x %}{{ nickname }}{% endset %}{{ x[3:] }}"), "went through a filter"),
    ("reissue/body.txt", append("{% include robot %}"), "need a fixed name"),
    ("reissue/body.txt", append("{% include 'nowhere.txt' %}"), "nowhere.txt"),
    ("reissue/body.txt", append("{% if society %}"), "line"),
    ("reissue/body.txt", append("{{ society.nothing }}"), "has no attribute 'nothing'"),
    ("reissue/body.txt", append("{{ label['no.such'] }}"), "no.such"),
    ("reissue/body.txt", append("{{ ().__class__.__base__.__subclasses__() }}"), "SecurityError"),
    ("reissue/body.txt", append("{{ 1 // 0 }}"), "LINE: ZeroDivisionError"),
    ("reissue/body.txt", append("{{ login_url }}"), "; a letter carries one"),
    ("reissue/body.txt", append("https://short.example/x"), "; a letter carries one"),
    ("reissue/body.txt", swap("\n{{ url }}\n", "\nこちら {{ url }}\n"), "needs a line of its own"),
    ("reissue/body.txt", swap("\n\n{{ url }}\n", "\n{{ url }}\n"), "needs a line of its own"),
    ("reissue/body.txt", swap("{{ url }}\n", "{{ url }}。\n"), "end in a letter or digit"),
    ("reissue/body.txt", swap("{{ url }}", ""), "{{ url }} is missing"),
    ("reissue/body.txt", swap("{{ expires_at }}", ""), "{{ expires_at }} is missing"),
    ("reissue/body.txt", swap("{{ login_id }}", ""), "{{ login_id }} is missing"),
    ("completion/body.txt", swap("{{ login_url }}", "https://other.example/x"), "does not begin with"),
    ("completion/body.txt", append("健診キャンペーンのご案内"), "キャンペーン is advertising"),
    ("completion/body.txt", append("長" * 1200), f"less than {MAX_MAIL} are wanted"),
    ("completion/body.txt", append("a\u202eb"), "control or invisible characters"),
    ("reissue/subject.txt", lambda _: "{{ nickname }}様へ", "locked screens"),
    ("reissue/subject.txt", lambda _: "一\n二", "expected one line"),
    ("reissue/subject.txt", lambda _: "\n", "expected one line"),
    ("reissue/subject.txt", lambda _: "長" * 61, "expected one line"),
    ("reissue/subject.txt", lambda _: "{{ login_url }}", "holds no URL"),
]


@pytest.mark.parametrize(("file", "change", "sentence"), FAULTS)
def test_a_broken_template_is_named(templates: Path, file: str, change: Callable[[str], str], sentence: str) -> None:
    path = templates / "mail" / file
    before = path.read_text("utf-8")
    after = change(before)
    changed = (
        n for n, lines in enumerate(zip(before.split("\n"), after.split("\n"), strict=False), 1) if len({*lines}) > 1
    )
    sentence = sentence.replace("LINE", f"line {next(changed)}")
    path.write_text(after, "utf-8")
    made = Letters({"yokokou": SOCIETIES["yokokou"]}, [templates], WEB_URL, HOST)
    found = made.problems()
    assert found
    assert all(file in problem for problem in found)
    assert any(sentence in problem for problem in found), found
    with pytest.raises(LetterError):
        render("yokokou", file.partition("/")[0], made)
    others = set(letters_of(SOCIETIES["yokokou"])) - {file.partition("/")[0]}
    assert all(render("yokokou", letter, made) == render("yokokou", letter) for letter in others)


def test_a_missing_and_an_undecodable_file_are_named(templates: Path) -> None:
    (templates / "mail" / "completion" / "subject.txt").unlink()
    assert one(society(), templates).problems() == []  # the shipped one stands behind
    (templates / "mail" / "reissue" / "body.txt").write_bytes("再発行".encode("cp932"))
    found = Letters({"sixth": society()}, [templates], WEB_URL, HOST).problems()
    assert [problem.partition(":")[0].removeprefix(f"{templates}/mail/") for problem in found] == [
        "completion/subject.txt",
        "reissue/body.txt",
    ]


def test_facts_the_society_does_not_ask_for_have_no_place(templates: Path) -> None:
    path = templates / "mail" / "reissue" / "body.txt"
    path.write_text(append("{{ login_id }}")(path.read_text("utf-8")), "utf-8")
    (problem,) = Letters({"sixth": society()}, [templates], WEB_URL, HOST).problems()
    assert "in sixth: {{ login_id }} stands here, but the society's file does not ask for it" in problem


def test_a_fault_that_all_societies_share_is_said_once(templates: Path) -> None:
    path = templates / "mail" / "_base" / "foot.txt"
    path.write_text("{{ telephone }}", "utf-8")
    found = Letters(SOCIETIES, [templates], WEB_URL, HOST).problems()
    assert found == [f"{path}: {{{{ telephone }}}} is not a fact of this letter; docs/letters.md lists them"]


def test_too_long_a_host_is_named() -> None:
    problems = one(society(), web_url="https://kenpo-portal.registration.example").problems()
    assert problems
    assert all("shorten the host" in problem for problem in problems)


def test_a_society_that_breaks_a_header_is_named() -> None:
    problems = one(society(name="第六\r\nBcc: x@y.example")).problems()
    named = {letter for letter in letters_of(society()) for text in problems if f"/{letter}/" in text}
    assert named == set(letters_of(society()))
    assert all("in sixth" in problem or "society sixth" in problem for problem in problems)


@pytest.mark.parametrize(
    ("channel", "shown"),
    [
        ({"kind": "mail", "value": "help@sixth.example"}, "窓口　メール help@sixth.example\n"),
        ({"kind": "form", "value": "https://forms.example/x"}, "窓口　ログイン画面にあるお問い合わせフォーム\n"),
        ({"kind": "phone", "value": "06-1", "hours": "9–17時"}, "窓口　電話 06-1（9–17時）\n"),
        ({"kind": "phone", "value": "06-1", "state": "番号"}, "　（番号をお知らせください）\n"),
    ],
)
def test_help_channels(channel: dict[str, str], shown: str) -> None:
    """A form is described in words: its URL would be the letter's second."""
    member = society(help=[HelpChannel.model_validate({"name": "窓口", **channel}).model_dump()])
    made = one(member)
    assert made.problems() == []
    assert all(shown in body(render("sixth", letter, made)) for letter in letters_of(member))


def test_no_letter_knows_a_forbidden_fact() -> None:
    assert not any(FORBIDDEN_FACTS & kind.facts.keys() for kind in LETTERS.values())
