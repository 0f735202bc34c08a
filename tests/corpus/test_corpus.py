"""Every mail of the corpus meets its verdict, and the whole corpus keeps the laws of an automatic responder.

The laws are written here once more, from the standards and with Python's own parser, so that the program does not
judge itself.
"""

import re
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser

import pytest

from mailbot.intake.screening import Action, judge
from mailbot.mail.envelope import Purpose
from mailbot.mail.inbound import facts
from tests.support.corpus import OWN, Specimen, specimens

ALL = specimens()
each = pytest.mark.parametrize("mail", ALL, ids=str)


def test_the_corpus_is_large_and_covers_the_cases_of_headers() -> None:
    assert len(ALL) >= 150
    assert {1, 22, *range(29, 45), 46, 47, 48, 49, 50} <= {mail.wanted.get("case") for mail in ALL}
    assert len({(mail.content, mail.mail_from) for mail in ALL}) == len(ALL)
    assert sum(mail.name.startswith("people/") for mail in ALL) >= 60


@each
def test_verdict(mail: Specimen) -> None:
    wanted, inbound = mail.wanted, facts(mail.content)
    verdict = mail.judged()

    assert verdict.reason == wanted["reason"], inbound
    assert verdict.action is Action[mail.action.upper()]
    assert verdict.tier == wanted.get("tier", "proved")
    assert verdict.status.code == (250 if verdict.action is not Action.REFUSE else wanted.get("code", 550))
    # RFC 3834 section 4: From or MAIL FROM, never anybody else
    if verdict.action is Action.ANSWER:
        assert verdict.address == inbound.from_address
        assert "answer" not in wanted or str(verdict.address) == wanted["answer"]
    else:
        assert verdict.address is None
    if "message_id" in wanted:
        assert inbound.message_id == (wanted["message_id"] or None)
    if "subject" in wanted:
        assert inbound.subject == wanted["subject"]
    assert inbound.subject.isprintable()
    assert len(inbound.subject) <= 200
    assert not re.search(r"[\x00-\x1f\x7f]", inbound.date)


# -- laws ---------------------------------------------------------------------------------------------------------


def _bare(value: object) -> str:
    """A field's first word, in lower case, without comments and parameters."""
    text, kept, depth = str(value), "", 0
    for char in text:
        if char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            kept += char
    return kept.partition(";")[0].strip().lower()


_ROLES = re.compile(r"(?i)(mailer-daemon|listserv|majordomo|owner-[^@]*|[^@]*-(request|owner))@")


def signs(mail: Specimen) -> list[str]:
    """What RFC 3834 section 2 and RFC 5230 section 4.6 forbid to answer."""
    head: Message = BytesHeaderParser(policy=policy.compat32).parsebytes(mail.content)
    found = [] if mail.wanted["mail_from"] else ["null sender"]
    found += [f"role {who}" for who in (mail.wanted["mail_from"],) if _ROLES.match(who)]
    for name, value in head.items():
        name, word = name.strip().lower(), _bare(value)
        if (
            (name == "auto-submitted" and word != "no")
            or name.startswith("list-")
            or (name == "precedence" and word in ("bulk", "list", "junk"))
            or (name == "x-auto-response-suppress" and {"all", "autoreply", "oof"} & set(re.split(r"[,\s]+", word)))
            or (name == "content-type" and word in ("multipart/report", "message/disposition-notification"))
            or name in ("x-loop", "x-robot-id")
        ):
            found.append(f"{name}: {word}")
    return found


def test_automatic_mail_is_never_answered() -> None:
    automatic = {mail.name: found for mail in ALL if (found := signs(mail))}
    assert len(automatic) > 80
    assert [name for name, found in automatic.items() if _of(name).judged().action is Action.ANSWER] == []


def _of(name: str) -> Specimen:
    return next(mail for mail in ALL if mail.name == name)


def _end(mail: Specimen, content: bytes) -> tuple[object, ...]:
    verdict = mail.judged(content)
    return verdict.action, verdict.status, verdict.reason, verdict.address, verdict.tier


def _refolded(head: bytes) -> bytes:
    """The first blank or tab of each line has a line end before it (RFC 5322 section 2.2.3)."""
    return re.sub(rb"(?m)^([!-9;-~]+:[^ \t\r\n]*)(?=[ \t][^\r\n])", rb"\1\r\n", head)


def _recased(head: bytes) -> bytes:
    return re.sub(rb"(?m)^[!-9;-~]+(?=[ \t]*:)", lambda name: name[0].swapcase(), head)


@each
def test_only_the_header_counts_and_not_how_it_is_written(mail: Specimen) -> None:
    content = mail.content
    end = _end(mail, content)
    assert _end(mail, content) == end
    head, blank, _ = content.partition(b"\r\n\r\n")
    if not blank:  # all of it is header, or it has bare line ends
        head, blank = content, b""
    assert _end(mail, _recased(head) + content[len(head) :]) == end
    assert _end(mail, content.replace(b"\r\n", b"\n")) == end
    if end[2] != "broken-headers":  # folding makes them longer, or shorter
        assert _end(mail, _refolded(head) + content[len(head) :]) == end
    if blank:
        other = b"From: x@e.jp\r\nList-Id: <x>\r\nAuto-Submitted: auto-replied\r\n\r\n" + bytes(range(256))
        assert _end(mail, head + blank + other) == end
        assert _end(mail, head + blank) == end


@each
def test_only_registration_and_help_desk_answer(mail: Specimen) -> None:
    envelope = mail.envelope()
    for purpose in set(Purpose) - {Purpose.REGISTRATION, Purpose.HELP}:
        assert judge(envelope, facts(envelope.content), purpose, OWN, mail.known).action is Action.DISCARD
