"""What the lint finds in broken letters: society, letter, line and what to do; in a society's own templates too."""

import re
import shutil
from pathlib import Path

import pytest

from mailbot.config import Society
from mailbot.letters import LETTERS, Letters, letters_of, lint
from tests.golden.update import HOST, ROOT, WEB_URL, mails, societies

SOCIETIES = societies()
MAILS = mails()
FRAME = '{{% extends "_base/body.txt" %}}\n{{% block main %}}\n{}\n{{% endblock %}}\n'
GOOD = "一行目\n\n{{ url }}\n\n{{ expires_at }}（日本時間）まで"


def problems(tmp_path: Path, body: str, letter: str = "invitation", subject: str = "ご案内") -> list[str]:
    """Of a society's own wording of a letter."""
    own = tmp_path / "societies" / "yokokou" / "mail" / letter
    own.mkdir(parents=True)
    (own / "body.txt").write_text(FRAME.format(body), "utf-8")
    (own / "subject.txt").write_text(subject + "\n", "utf-8")
    with pytest.MonkeyPatch.context() as only:
        only.setattr("mailbot.letters.letters_of", lambda society: {letter: LETTERS[letter]})
        made = Letters({"yokokou": SOCIETIES["yokokou"]}, [tmp_path, ROOT / "templates"], WEB_URL, HOST)
    found = made.problems("yokokou")
    shutil.rmtree(own)
    start = re.compile(re.escape(str(own)) + r"/(body|subject)\.txt: (in yokokou: )?")
    assert all(start.match(one) for one in found), found
    return [start.sub("", one) for one in found]


def test_a_good_letter_has_none(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (f"{GOOD}\n\n{{{{ login_url }}}}", "line 9: 2 URLs (lines 5, 9); a letter carries one: take the others out"),
        (GOOD.replace("{{ url }}", "https://bit.example/x"), "line 5: a URL that does not begin with"),
        (GOOD.replace("一行目", "http://kenpo.example/yokokou/"), "line 5: 2 URLs"),
        (GOOD.replace("{{ url }}", "（{{ url }}）"), "line 5: the URL"),
        (GOOD.replace("{{ url }}", "<{{ url }}>"), "needs a line of its own"),
        (GOOD.replace("{{ url }}\n\n", "{{ url }}\n"), "with an empty line before and after"),
        (GOOD.replace("{{ url }}", "{{ url }}."), "phones drop other signs"),
        (GOOD.replace("一行目", "<b>一行目</b>"), "line 3: <b> is HTML"),
        (GOOD.replace("一行目", '<a href="x">ここ</a>'), "is HTML"),
        (GOOD.replace("一行目", "ご案内<br/>です"), "<br/> is HTML"),
        (GOOD.replace("一行目", "A &amp; B"), "&amp; is HTML"),
        (GOOD.replace("一行目", "www.kenpo.example をご覧ください"), "line 3: www.kenpo.example: phones link"),
        (GOOD.replace("一行目", "詳しくはkenpo.exampleへ"), "kenpo.example: phones link a bare host name"),
        (GOOD.replace("一行目", "mailto:info@kenpo.example"), "2 URLs"),
        (GOOD.replace("一行目", "今だけ"), "line 3: 今だけ is advertising"),
        (GOOD.replace("一行目", "a\u200bb"), "line 3: holds control or invisible characters"),
        (GOOD.replace("{{ expires_at }}", ""), "{{ expires_at }} is missing"),
        (GOOD.replace("（日本時間）", ""), "line 7: say beside {{ expires_at }} that it is 日本時間"),
        (GOOD.replace("一行目", "長" * 800), f"less than {lint.MAX_MAIL} are wanted"),
    ],
)
def test_a_breach_names_its_line_and_what_to_do(tmp_path: Path, body: str, finding: str) -> None:
    found = problems(tmp_path, body)
    assert any(finding in one for one in found), found


def test_findings_are_those_of_a_society(tmp_path: Path) -> None:
    own = tmp_path / "societies" / "yokokou" / "mail" / "completion"
    own.mkdir(parents=True)
    (own / "body.txt").write_text("<p>登録が終わりました</p>", "utf-8")
    two = {name: SOCIETIES[name] for name in ("yokokou", "shochiku")}
    made = Letters(two, [tmp_path, ROOT / "templates"], WEB_URL, HOST)
    assert made.problems("shochiku") == []
    assert made.problems("yokokou") == made.problems() != []


@pytest.mark.parametrize("harmless", ["info@kenpo.example へ", "1 < 2 > 0", "9:00-17:00", "約3.5時間", "<a@b.example>"])
def test_what_is_no_breach(tmp_path: Path, harmless: str) -> None:
    assert problems(tmp_path, GOOD.replace("一行目", harmless)) == []


@pytest.mark.parametrize("subject", ["https://kenpo.example/yokokou/", "kenpo.exampleのご案内", "www.x.example"])
def test_a_subject_has_no_url(tmp_path: Path, subject: str) -> None:
    assert problems(tmp_path, GOOD, subject=subject) == ["a subject holds no URL and no host name: take it out"]


def test_an_advertising_subject(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD, subject="割引のお知らせ") == ["割引 is advertising: take it out"]


PLAIN = "{{ code }}\n{{ expires_at }}（日本時間）\n{{ carrier }}\n{{ steps }}"


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (f"{PLAIN}\n\n{{{{ login_url }}}}", "carries no URL"),
        (f"{PLAIN}\n\nkenpo.example", "phones link a bare host name"),
        (f"{PLAIN}\n\nWWW.KENPO.EXAMPLE", "phones link a bare host name"),
        (f"{PLAIN}\n\n{{{{ url }}}}", "{{ url }} is not a fact of this letter"),
        (PLAIN.replace("{{ code }}", ""), "{{ code }} is missing"),
        (PLAIN.replace("{{ steps }}", ""), "{{ steps }} is missing"),
    ],
)
def test_the_letter_without_a_url_stays_without(tmp_path: Path, body: str, finding: str) -> None:
    assert problems(tmp_path, PLAIN, "invitation-plain") == []
    found = problems(tmp_path, body, "invitation-plain")
    assert any(finding in one for one in found), found


def test_what_is_shipped_is_sent_as_the_rules_say() -> None:
    """The finished mails, not the lint's own view of them."""
    for file, content in MAILS.items():
        text = content.decode("utf-8")
        if file.suffix == ".eml":
            assert len(content) < lint.MAX_MAIL
            assert "Content-Type: text/plain; charset=utf-8" in text
            robot = SOCIETIES[file.parent.name].addresses
            sender = re.findall(r"^From: .*?<(.*?)>\r$", text.replace("\r\n ", " "), re.MULTILINE)
            assert sender == [robot.help if LETTERS[file.stem].help_desk else robot.robot]
            continue
        urls = re.findall(r"(?<=\n\n)https://kenpo\.example/[!-~]*[0-9a-z](?=\n\n)", text)
        assert len(urls) == text.count("://") == (1 if "kenpo.example" in text else 0), file
        assert all(len(url) <= lint.MAX_URL for url in urls)


@pytest.mark.parametrize("society", SOCIETIES)
def test_a_letter_with_a_link_has_its_code_below_in_two_groups(society: str) -> None:
    texts = {file.stem: content.decode() for file, content in MAILS.items() if file.suffix == ".txt"}
    linked = [name for name, kind in letters_of(SOCIETIES[society]).items() if "url" in kind.facts]
    assert {"invitation", "reissue", "address-proof"} <= set(linked)
    for name in linked:
        before, after = texts[name].split("https://", 1)
        assert "：k7mp 3wxq\n" in after
        assert "k7mp" not in before
        assert "「コードを入力」" in after


@pytest.mark.parametrize("society", SOCIETIES)
def test_the_letter_without_a_url_shows_nothing_a_filter_or_a_phone_could_take_for_one(society: str) -> None:
    file = ROOT / "tests" / "golden" / society / "invitation-plain.txt"
    text = MAILS[file].decode()
    assert not re.search(r"https?|www|://|mailto|kenpo\.example", text, re.IGNORECASE)
    assert not re.search(r"(?<![\w.@-])[a-z0-9-]+(\.[a-z0-9-]+)+(?!\S*@)", re.sub(r"\S+@\S+", "", text), re.IGNORECASE)
    assert "コード：k7mp 3wxq" in text
    assert f"受け取るアドレス：{SOCIETIES[society].addresses.robot}" in text


def test_a_society_of_another_file_is_held_to_the_same(tmp_path: Path) -> None:
    data = SOCIETIES["yokokou"].model_dump()
    sixth = Society.model_validate({**data, "id": "sixth", "service": "portal.example"})
    found = Letters({"sixth": sixth}, [ROOT / "templates"], WEB_URL, HOST).problems()
    assert any("invitation/body.txt: in sixth: line 1: portal.example" in one for one in found), found
