"""Who may connect."""

import pytest

from mailbot.config.site import SmtpSection
from mailbot.intake.smtp_limits import Admission, Room
from mailbot.mail.network import Peers, network_of
from mailbot.mail.status import BUSY, TOO_MANY_FROM_NETWORK


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("no address", "no address"),
    ],
)
def test_network(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_a_network_is_full_before_the_house_is() -> None:
    admission = Admission(SmtpSection(max_connections=3, max_connections_per_network=2))
    assert [admission.enter(f"192.0.2.{n}") for n in range(3)] == [None, None, TOO_MANY_FROM_NETWORK]
    assert admission.enter("198.51.100.1") is None
    assert admission.enter("203.0.113.1") is BUSY
    admission.leave("192.0.2.0")
    assert admission.enter("203.0.113.1") is None
    assert admission.enter("203.0.113.2") is BUSY


def test_a_refused_connection_takes_no_place() -> None:
    admission = Admission(SmtpSection(max_connections=1, max_connections_per_network=1))
    assert admission.enter("192.0.2.1") is None
    for _ in range(5):
        assert admission.enter("192.0.2.2") is TOO_MANY_FROM_NETWORK
        assert admission.enter("198.51.100.1") is BUSY
    admission.leave("192.0.2.1")
    assert admission.enter("198.51.100.1") is None


def test_trusted_peers_are_not_counted() -> None:
    admission = Admission(SmtpSection(max_connections=1, trusted_peers=("192.0.2.0/24", "2001:db8::1")))
    for _ in range(5):
        assert admission.enter("192.0.2.9") is None
        assert admission.enter("2001:db8::1") is None
    admission.leave("192.0.2.9")
    assert admission.enter("203.0.113.1") is None
    assert admission.enter("198.51.100.1") is BUSY


def test_peers() -> None:
    peers = Peers(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])
    assert "::ffff:127.0.0.1" in peers
    assert "10.9.9.9" in peers
    assert "2001:db8::9" in peers
    assert "127.0.0.2" not in peers
    assert "no address" not in peers
    assert "10.0.0.1" not in Peers([])


def test_one_network_fills_a_quarter_of_the_room() -> None:
    room = Room(400)
    assert room.resize(0, 60, "192.0.2.0/24")
    assert not room.resize(0, 60, "192.0.2.0/24")
    assert room.resize(60, 100, "192.0.2.0/24")
    assert not room.resize(100, 101, "192.0.2.0/24")
    assert room.resize(0, 100, "198.51.100.0/24")
    assert room.resize(0, 150)  # a server of ours
    assert not room.resize(0, 60, "203.0.113.0/24")
    assert room.taken == 350
    assert room.resize(100, 0, "192.0.2.0/24")
    assert room.resize(0, 100, "192.0.2.0/24")
    assert room.resize(100, 0, "192.0.2.0/24")
    assert room.resize(0, 0, "192.0.2.0/24")
    assert room.taken == 250
