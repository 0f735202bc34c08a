"""IP addresses of those who connect: what counts as one sender, and lists of known ones."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def parse_peer(peer: str) -> IPv4Address | IPv6Address:
    """A socket's peer name as an address; IPv4 that came through an IPv6 socket is IPv4. Raises ValueError."""
    address = ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(4096)
def network_of(peer: str) -> str:
    """The /24 or /48 a peer's address lies in: what one sender can easily vary counts as one."""
    try:
        address = parse_peer(peer)
    except ValueError:
        return peer[:45]
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


class Peers:
    """Addresses and networks (CIDR) of the configuration."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(e, strict=False) for e in entries)

    def __contains__(self, peer: object) -> bool:
        if not self._networks:
            return False
        try:
            address = parse_peer(str(peer))
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class Everybody(Peers):
    """Every peer."""

    def __init__(self) -> None:
        super().__init__(())

    def __contains__(self, peer: object) -> bool:
        return True
