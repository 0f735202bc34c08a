"""Who asks: the hosts we answer for, the network a request comes from, and a memory of guessed links."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from mailbot.config import Site, split_endpoint

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_MOST_HOPS = 20


def hosts(site: Site) -> frozenset[str]:
    """Values of the Host header that are ours: that of `web_url`, and where we listen if that is loopback."""
    scheme, _, netloc = site.site.web_url.partition("://")
    names = {netloc}
    port = _DEFAULT_PORTS[scheme]
    names.add(netloc.removesuffix(port) if netloc.endswith(port) else netloc + port if ":" not in netloc else netloc)
    host, number = split_endpoint(site.web.listen)
    if host == "localhost" or (_address(host) is not None and ip_address(host).is_loopback):
        names |= {f"{name}:{number}" for name in ("localhost", "127.0.0.1", "[::1]")}
    return frozenset(names)


def origins(site: Site) -> frozenset[str]:
    """Values of the Origin header that are our own pages."""
    scheme = site.site.web_url.partition("://")[0]
    return frozenset({site.site.web_url} | {f"{scheme}://{host}" for host in hosts(site)})


class Clients:
    """The network of a client, behind the proxies we trust."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = tuple(ip_network(text, strict=False) for text in trusted)

    def network(self, peer: str | None, forwarded_for: str | None) -> str:
        """The /24 (IPv4) or /48 (IPv6) that budgets count. X-Forwarded-For is read from the right, while we trust."""
        address = _address(peer or "")
        hops = [hop.strip() for hop in (forwarded_for or "").split(",")][-_MOST_HOPS:]
        while address is not None and hops and any(address in network for network in self._trusted):
            hop = _address(hops.pop())
            if hop is None:
                break
            address = hop
        if address is None:
            return "unknown"
        return str(ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Guesses:
    """Counts links that proved to be forged, by network and in memory: a flood of them must not reach the database.

    Good links of the same network go on working, and no account is touched.
    """

    WINDOW_MS = 10 * 60_000

    def __init__(self, limit: int, most_networks: int = 10_000) -> None:
        self._limit = limit
        self._most = most_networks
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def again_at(self, network: str, now: int) -> int | None:
        """When a network over its limit may guess again; None while it may."""
        begun, count = self._seen.get(network, (now, 0))
        return begun + self.WINDOW_MS if count >= self._limit and begun <= now < begun + self.WINDOW_MS else None

    def count(self, network: str, now: int) -> int | None:
        """Notes one bad link. Returns None within the limit, else the time at which the network may guess again."""
        begun, count = self._seen.get(network, (now, 0))
        if not begun <= now < begun + self.WINDOW_MS:
            begun, count = now, 0
        self._seen[network] = (begun, count + 1)
        self._seen.move_to_end(network)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return begun + self.WINDOW_MS if count >= self._limit else None
