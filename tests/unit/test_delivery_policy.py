"""Waits, deadlines and leases as numbers."""

import pytest

from mailbot.credentials import decode_id
from mailbot.delivery import policy
from mailbot.delivery.outbox import message_id
from mailbot.delivery.policy import Lane

MINUTE = 60_000
NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("lane", "seconds"),
    [
        (Lane.PIN, [15, 45, 120, 240, 240]),
        (Lane.LINK, [60, 180, 420, 900, 1800, 3600, 5400, 5400]),
        (Lane.BULK, [60, 180, 420, 900, 1800, 3600, 5400, 5400]),
    ],
)
def test_waits_grow_to_a_ceiling(lane: Lane, seconds: list[int]) -> None:
    assert [policy.wait_ms(lane, n) // 1000 for n in range(1, len(seconds) + 1)] == seconds


def test_a_wait_is_stretched_by_its_factor() -> None:
    assert policy.next_attempt_at(Lane.LINK, 1, NOW, None, NOW, 1.2) == NOW + 72_000
    assert policy.next_attempt_at(Lane.PIN, 1, NOW, None, NOW, 0.8) == NOW + 12_000


def test_a_long_wait_is_cut_to_one_last_try() -> None:
    deadline = NOW + 20 * MINUTE
    assert policy.next_attempt_at(Lane.LINK, 5, NOW, deadline, NOW, 1.0) == deadline - policy.ATTEMPT_MS


def test_too_late_for_another_try() -> None:
    assert policy.next_attempt_at(Lane.LINK, 5, NOW, NOW + MINUTE, NOW, 1.0) is None
    assert policy.next_attempt_at(Lane.LINK, 1, NOW, NOW + MINUTE + 1, NOW, 1.0) == NOW + MINUTE


def test_a_mail_without_deadline_grows_too_old() -> None:
    created = NOW - policy.MAX_AGE_MS
    assert policy.next_attempt_at(Lane.COMPLETION, 1, created, None, NOW, 1.0) is None


@pytest.mark.parametrize("mail_id", [1, 31, 2**40 + 7, 2**63 - 1])
def test_a_message_id_names_its_row(mail_id: int) -> None:
    text = message_id(mail_id, "mail.example")
    assert text.startswith("<")
    assert text.endswith("@mail.example>")
    assert decode_id(text[1:14]) == mail_id
    assert message_id(mail_id, "mail.example") != text
