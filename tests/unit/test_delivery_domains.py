"""Turns: so many mails to a domain at a time, fewer where it asks, and nobody waits for a stranger."""

from mailbot.delivery.domains import (
    FORGET_BEHIND_MS,
    FORGET_MS,
    LONGEST_SPREAD_MS,
    PATIENCE_MS,
    PIN_TURN_MS,
    SLOW_DOMAIN_MS,
    TURN_MS,
    Domains,
)
from mailbot.delivery.policy import Lane

NOW = 1_800_000_000_000
LINK, PIN = Lane.LINK, Lane.PIN


def full(most: int) -> Domains[str]:
    domains = Domains[str](most)
    for number in range(most):
        assert domains.enter("x.jp", LINK, number, f"m{number}", NOW) == 0
    return domains


def test_further_mails_wait_and_follow_by_lane_and_age() -> None:
    domains = full(2)
    for lane, number in ((LINK, 7), (LINK, 5), (PIN, 9), (Lane.BULK, 1)):
        assert domains.enter("x.jp", lane, number, f"m{number}", NOW) is None
    assert domains.enter("y.jp", LINK, 8, "other", NOW) == 0
    order = []
    while (following := domains.leave("x.jp")) is not None:
        order.append(following[2])
        assert domains.enter("x.jp", *following, NOW) == 0
    assert order == ["m9", "m5", "m7", "m1"]


def test_who_waits_too_long_makes_room_and_so_do_those_behind() -> None:
    domains = full(1)
    assert domains.enter("x.jp", LINK, 5, "link", NOW) is None
    assert domains.enter("x.jp", PIN, 6, "pin", NOW) is None
    assert domains.enter("x.jp", LINK, 7, "late", NOW + 1) is None
    assert domains.overdue(NOW + PATIENCE_MS - 1) == []
    now = NOW + PATIENCE_MS
    late = dict(domains.overdue(now))
    assert late.keys() == {"link", "pin"}
    assert now + TURN_MS <= late["link"] < now + 2 * TURN_MS
    assert late["pin"] == now + PIN_TURN_MS
    again = domains.enter("x.jp", LINK, 8, "behind", now)
    assert again is not None
    assert now + TURN_MS <= again < now + 2 * TURN_MS
    assert domains.enter("x.jp", PIN, 9, "pin", now) is None  # a PIN does wait
    assert domains.leave("x.jp") == (PIN, 9, "pin")
    assert domains.enter("x.jp", PIN, 9, "pin", now) == 0
    assert domains.enter("x.jp", LINK, 8, "behind", now) is None  # something moved
    assert sorted(domains.give_up()) == ["behind", "late"]
    assert domains.leave("x.jp") is None


def test_a_domain_that_hangs_is_asked_less_and_less_often() -> None:
    domains = full(1)
    assert domains.enter("x.jp", LINK, 5, "link", NOW) is None
    now = NOW + PATIENCE_MS
    domains.overdue(now)
    for behind, spread in ((0, TURN_MS), (20_000, 20_000), (600_000, LONGEST_SPREAD_MS)):
        first = now + behind + TURN_MS
        asked = [domains.again("x.jp", Lane.BULK, now + behind) for _ in range(200)]
        assert all(first <= again < first + spread for again in asked)
        assert max(asked) - min(asked) > spread // 2  # not all at once
        assert first <= domains.again("x.jp", LINK, now + behind) < first + TURN_MS
        assert domains.again("x.jp", PIN, now + behind) == domains.again("y.jp", LINK, now + behind) == 0
    assert domains.leave("x.jp") is None
    assert domains.again("x.jp", LINK, now + 600_000) == 0
    now += 600_000 + FORGET_BEHIND_MS  # it did well meanwhile
    for number in (6, 7):
        domains.enter("x.jp", Lane.BULK, number, "m", now)
    ((_, again),) = domains.overdue(now + PATIENCE_MS)
    assert again < now + PATIENCE_MS + 2 * TURN_MS


def test_a_backlog_goes_out_nearly_as_fast_as_its_domain_takes_it() -> None:
    """60 mails, two at a time, two seconds each: a minute at best."""
    domains = Domains[int](2)
    asking = [(NOW, number) for number in range(60)]
    sending: list[int] = []
    now, sent = NOW, 0
    while sent < 60:
        assert now < NOW + 120_000
        for _ in [end for end in sending if end <= now]:
            sending.remove(min(sending))
            sent += 1
            if (following := domains.leave("x.jp")) is not None:
                asking.append((now, following[1]))
        asking += [(at, number) for number, at in domains.overdue(now)]
        for at, number in sorted(asking):
            if at <= now:
                asking.remove((at, number))
                if (until := domains.enter("x.jp", LINK, number, number, now)) == 0:
                    sending.append(now + 2000)
                elif until is not None:
                    asking.append((until, number))
        now += 100


def test_a_domain_at_rest_needs_no_mail_to_be_made() -> None:
    domains = Domains[str](4)
    assert domains.asked_for_less("x.jp", NOW)
    assert domains.again("x.jp", LINK, NOW) >= NOW + SLOW_DOMAIN_MS
    assert domains.again("x.jp", PIN, NOW) == 0
    assert domains.again("x.jp", LINK, NOW + SLOW_DOMAIN_MS) == 0


def test_less_for_a_domain_that_asks_and_more_step_by_step() -> None:
    domains = full(8)
    for _ in range(8):
        domains.leave("x.jp")
    assert domains.asked_for_less("x.jp", NOW)
    assert not domains.asked_for_less("x.jp", NOW + 1)  # was under way at the same time
    until = domains.enter("x.jp", LINK, 1, "m", NOW)
    assert until is not None
    assert NOW + SLOW_DOMAIN_MS <= until < NOW + SLOW_DOMAIN_MS * 1.25
    assert domains.enter("y.jp", LINK, 1, "m", NOW) == 0
    assert domains.enter("x.jp", PIN, 1, "m", NOW) == 0  # one PIN finds its way all the same
    assert domains.enter("x.jp", PIN, 2, "m2", NOW) is None
    assert domains.leave("x.jp") == (PIN, 2, "m2")

    def at_a_time(now: int) -> int:
        taken = 0
        while domains.enter("x.jp", LINK, taken, "m", now) == 0:
            taken += 1
        domains.give_up()
        for _ in range(taken):
            domains.leave("x.jp")
        return taken

    now = NOW + SLOW_DOMAIN_MS
    assert at_a_time(now) == 4
    assert domains.asked_for_less("x.jp", now)
    now += SLOW_DOMAIN_MS
    widths = [at_a_time(now)]
    for _ in range(2 + 3 + 4 + 5 + 6 + 7):
        domains.took("x.jp")
        if (width := at_a_time(now)) != widths[-1]:
            widths.append(width)
    assert widths == [2, 3, 4, 5, 6, 7, 8]


def test_it_never_comes_to_a_stop() -> None:
    domains = Domains[str](1)
    now = NOW
    for _ in range(3):
        assert domains.asked_for_less("x.jp", now)
        now += SLOW_DOMAIN_MS
    assert domains.enter("x.jp", LINK, 1, "m", now) == 0


def test_old_domains_are_forgotten() -> None:
    domains = Domains[str](4)
    for number in range(100):
        domains.asked_for_less(f"d{number}.jp", NOW)
    domains.asked_for_less("x.jp", NOW + SLOW_DOMAIN_MS + FORGET_MS)
    assert list(domains._slowed) == ["x.jp"]
