"""What counts as one sender: the /24 or /48 around an IP address."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


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
