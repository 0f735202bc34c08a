"""When failed look-ups are worth an alarm."""

from __future__ import annotations

from mailbot.intake.lookups import UNANSWERED_MS, LookupTrouble
from mailbot.ratelimit import MINUTE_MS

NOW = 1_800_000_000_000


def told(*failures: tuple[int, str, bytes]) -> list[bool]:
    """Of a robot that had an answer at NOW; (milliseconds after it, domain, mail)."""
    made = LookupTrouble()
    made.answered(NOW)
    return [made.worth_telling(domain, mail, NOW + at) for at, domain, mail in failures]


def test_three_organizations_within_a_minute() -> None:
    assert told((0, "a.example", b"1"), (1, "b.test", b"2"), (MINUTE_MS - 1, "c.jp", b"3")) == [False, False, True]
    assert told((0, "a.example", b"1"), (1, "b.test", b"2"), (MINUTE_MS, "c.jp", b"3")) == [False, False, False]
    # one owner's many names are one fault
    assert not any(told(*((n, f"s{n}.a.example", b"%d" % n) for n in range(20))))


def test_three_mails_and_no_answer_for_five_minutes() -> None:
    """Two carriers are nearly all the mail of an ordinary robot."""
    domains = ("docomo.ne.jp", "ezweb.ne.jp")
    every = [(n * MINUTE_MS, domains[n % 2], b"%d" % n) for n in range(8)]
    assert told(*every) == [False] * 5 + [True] * 3
    assert told((UNANSWERED_MS - 1, "a.example", b"1"), (UNANSWERED_MS - 1, "a.example", b"2")) == [False] * 2
    late = UNANSWERED_MS
    assert told(*((late, "a.example", mail) for mail in (b"1", b"2", b"3"))) == [False, False, True]
    assert told(*((late, "a.example", mail) for mail in (b"1", b"2", b"2", b"1"))) == [False] * 4, "two mails, again"


def test_an_answer_ends_the_trouble() -> None:
    made = LookupTrouble()
    for n in range(20):
        at = NOW + n * 2 * MINUTE_MS
        assert not made.worth_telling("broken.example", b"%d" % n, at)
        made.answered(at)


def test_a_robot_that_never_had_an_answer() -> None:
    made = LookupTrouble()
    found = [made.worth_telling("docomo.ne.jp", b"%d" % n, NOW + n * 2 * MINUTE_MS) for n in range(4)]
    assert found == [False, False, False, True]
