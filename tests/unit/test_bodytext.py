"""The readable text of incoming mails: what phones and office programs send, and what nobody should."""

import base64
import quopri
import unicodedata
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail.bodytext import MAX_FIELD, MAX_TEXT, body_text, harmless, words

ASKS = "社員番号 10023 の髙橋です。\n仮パスワードが①届きません。ﾖﾛｼｸ"
CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*/*.eml"))


def mail(body: bytes, content_type: str = "", encoding: str = "", head: str = "") -> bytes:
    lines = [head] if head else []
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Content-Transfer-Encoding: {encoding}"] if encoding else []
    return "\r\n".join(["From: a@b.example", *lines]).encode() + b"\r\n\r\n" + body


def jis(text: str) -> bytes:
    """ISO-2022-JP as phones write it: with NEC's row 13 (①) and half-width kana."""
    return text.encode("iso2022_jp_2004", "ignore") if text.isascii() else _cp50221(text)


def _cp50221(text: str) -> bytes:
    out = bytearray()
    for char in text:
        raw = char.encode("cp932")
        if len(raw) == 2:
            lead, trail = raw[0] - (0xC1 if raw[0] >= 0xE0 else 0x81), raw[1]
            row = 2 * lead + (trail >= 0x9F)
            cell = trail - 0x9F if trail >= 0x9F else trail - 0x40 - (trail > 0x7F)
            out += b"\x1b$B" + bytes((row + 0x21, cell + 0x21)) + b"\x1b(B"
        elif raw[0] >= 0x80:
            out += b"\x1b(I" + bytes((raw[0] & 0x7F,)) + b"\x1b(B"
        else:
            out += raw
    return bytes(out)


PLAIN = ASKS.replace("髙", "高")  # the ladder form is in no JIS standard


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        (ASKS.encode(), "utf-8", ASKS),
        (ASKS.encode(), "", ASKS),
        (ASKS.encode(), "us-ascii", ASKS),
        (ASKS.encode(), "iso-2022-jp", ASKS),
        (ASKS.encode("cp932"), "shift_jis", ASKS),
        (ASKS.encode("cp932"), "Windows-31J", ASKS),
        (ASKS.encode("cp932"), "", ASKS),
        (ASKS.encode("cp932"), "utf-8", ASKS),
        (jis(PLAIN), "iso-2022-jp", PLAIN),
        (jis(PLAIN), "ISO-2022-JP-MS", PLAIN),
        (jis(PLAIN), "", PLAIN),
        (jis(PLAIN), "utf-8", PLAIN),
        (PLAIN.replace("①", "").encode("euc_jp"), "euc-jp", PLAIN.replace("①", "")),
        (ASKS.encode(), "x-nobody-knows", ASKS),
        (b"\x1b[2J" + ASKS.encode(), "utf-8", "[2J" + ASKS),
        (b"\x1b[2J" + ASKS.encode("cp932"), "", "[2J" + ASKS),
    ],
)
@pytest.mark.parametrize("encoding", ["", "8bit", "base64", "quoted-printable"])
def test_charsets_of_japanese_mail(raw: bytes, charset: str, text: str, encoding: str) -> None:
    raw = raw.replace(b"\n", b"\r\n")
    if encoding == "base64":
        raw = base64.encodebytes(raw).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        raw = quopri.encodestring(raw)
    kind = f'text/plain; charset="{charset}"' if charset else "text/plain"
    assert body_text(mail(raw, kind, encoding)) == text


def test_a_text_that_is_cut_anywhere_keeps_its_beginning() -> None:
    whole = ASKS.replace("\n", "\r\n").encode()
    for raw, encoding in ((whole, "8bit"), (base64.b64encode(whole), "base64")):
        for length in range(len(raw)):
            found = body_text(mail(raw[:length], "text/plain; charset=utf-8", encoding))
            assert ASKS.startswith(found.rstrip("\ufffd")), (length, found)


def test_plain_text_wins_over_html_and_attachments() -> None:
    made = EmailMessage()
    made["From"] = "高橋 <a@b.example>"
    made["Subject"] = "仮パスワード　再送のお願い"
    made.set_content(ASKS)
    made.add_alternative("<p>別の文面</p>", subtype="html")
    made.add_attachment("名簿", filename="a.txt")
    found = words(made.as_bytes())
    assert (found.sender, found.subject, found.text) == ("高橋 <a@b.example>", "仮パスワード 再送のお願い", ASKS)


def test_html_is_read_without_tags_scripts_and_comments() -> None:
    page = (
        "<html><head><title>題</title><style>p{color:red}</style></head><body>"
        "<!--[if gte mso 9]><xml><o:x>隠し</o:x></xml><![endif]-->"
        "<p>社員番号&nbsp;10023&lt;b&gt;</p><script>alert('x')</script><div>届き<b>ません</b><br>よろしく</div>"
    )
    made = mail(page.encode(), "text/html; charset=utf-8")
    assert body_text(made) == "社員番号\u00a010023<b>\n\n届きません\nよろしく"


def test_a_mail_in_a_mail_and_parts_in_parts() -> None:
    inner = mail(ASKS.encode(), "text/plain; charset=utf-8")
    within = mail(b"--y\r\n" + inner + b"\r\n--y--\r\n", "multipart/alternative; boundary=y")
    picture = b"pre\r\n--x\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--x\r\n\r\n"
    for content in (
        mail(inner, "message/rfc822"),
        mail(b"--x\r\n" + within + b"\r\n--x--", 'multipart/mixed;\r\n boundary="x"'),
        mail(picture + ASKS.encode() + b"\r\n--x--\r\n", "multipart/mixed; boundary=x"),
    ):
        assert body_text(content) == ASKS


def test_nothing_to_read_is_empty() -> None:
    for content in (b"", b"\r\n", b"From: a@b.example\r\n", mail(b""), mail(b"\x89PNG", "image/png")):
        assert body_text(content) == ""


def test_what_terminals_obey_is_gone() -> None:
    text = harmless("a\x1b[2Jb\x07\x9b31mc\u202ed\u200be\x00f\r\ng\x85h\ue000\ud800\u2028i")
    assert text == "a[2Jb31mcdef\ngh\ni"


def test_words_are_bounded() -> None:
    found = words(mail("あ\r\n".encode() * 9000, head="Subject: " + "x" * 5000))
    assert len(found.text) <= MAX_TEXT
    assert len(found.subject) == MAX_FIELD


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_odd_mails_are_read_without_an_error(file: Path) -> None:
    _clean(words(file.read_bytes()).text)


_HEADS = st.sampled_from([
    b"", b"Content-Type: text/plain; charset=iso-2022-jp\r\n", b"Content-Type: text/html; charset=utf-7\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n", b"Content-Type: ;;;\r\n",
])  # fmt: skip
_BITS = st.sampled_from([b"--b\r\n", b"--b--\r\n", b"\r\n", b"<p>", b"<!--", b"-->", b"<script>", b"&#x1b;",
                         b"\x1b$B", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"\xff", b"=E3=81",
                         b"44GC"])  # fmt: skip


@given(st.lists(_HEADS, max_size=3), st.lists(_BITS | st.binary(max_size=20), max_size=20))
def test_no_octets_make_it_fail(heads: list[bytes], bits: list[bytes]) -> None:
    _clean(words(b"".join(heads) + b"\r\n" + b"".join(bits)).text)


@given(st.binary(max_size=300))
def test_any_octets(content: bytes) -> None:
    _clean(words(content).text)


def _clean(text: str) -> None:
    assert len(text) <= MAX_TEXT
    assert not [char for char in text if char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs"}]
