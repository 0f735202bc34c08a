"""Reply codes: what we say, and how a relay's words are read."""

import re

import pytest

from mailbot.mail import status
from mailbot.mail.address import AddressProblem
from mailbot.mail.status import Status, bad_path, relay_status

OURS = {name: value for name, value in vars(status).items() if isinstance(value, Status)}


def test_reply_line() -> None:
    assert str(status.OK) == "250 2.0.0 OK"
    assert str(status.START_DATA) == "354 End data with <CR><LF>.<CR><LF>"


@pytest.mark.parametrize("name", OURS)
def test_our_replies_are_well_formed(name: str) -> None:
    reply = OURS[name]
    assert re.fullmatch(r"[2-5]\d\d( [245]\.\d\.\d)? [ -~]{2,80}", str(reply))
    assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
    assert reply.permanent is (reply.code >= 500)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OUTAGE", "451 4.3.0"), ("OVER_LIMIT", "451 4.7.1"), ("TOO_MANY_RECIPIENTS", "452 4.5.3"),
        ("BAD_ARGUMENT", "501 5.5.4"), ("NO_SUCH_USER", "550 5.1.1"), ("RELAY_DENIED", "554 5.7.1"),
        ("TOO_LARGE", "552 5.3.4"), ("BAD_SENDER", "553 5.1.7"), ("NOT_ASCII", "553 5.6.7"),
        ("UNKNOWN_PARAMETER", "555 5.5.4"), ("LINE_TOO_LONG", "500 5.5.2"), ("CANNOT_VERIFY", "252 2.5.2"),
        ("REFUSED_SENDER", "550 5.7.1"), ("LOOKUP_FAILED", "451 4.4.3"),
    ],
)  # fmt: skip
def test_codes_are_kept(name: str, line: str) -> None:
    assert str(OURS[name]).startswith(line + " ")


def test_bad_path() -> None:
    assert bad_path(AddressProblem.NO_BRACKETS) == status.BAD_ARGUMENT
    assert bad_path(AddressProblem.NOT_ASCII) == status.NOT_ASCII
    for problem in set(AddressProblem) - {AddressProblem.NO_BRACKETS, AddressProblem.NOT_ASCII}:
        assert bad_path(problem) == status.BAD_SENDER
        assert bad_path(problem, recipient=True) == status.BAD_RECIPIENT


def test_relay_status_joins_lines() -> None:
    assert relay_status(550, "5.1.1 No such\n5.1.1 user\x1b[2J here") == Status(550, "5.1.1", "No such user [2J here")
    assert relay_status(550, "") == Status(550, "", "")
    assert relay_status(550, "5.1.1") == Status(550, "5.1.1", "")
