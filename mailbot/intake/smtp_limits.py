"""Who may connect: in all and from one network, and who is exempt. How much of signed mails is kept."""

from collections import Counter

from mailbot.config.site import SmtpSection
from mailbot.mail.network import Peers, network_of
from mailbot.mail.status import BUSY, TOO_MANY_FROM_NETWORK, Status


class Admission:
    """Counts open connections. Trusted peers are neither counted nor refused."""

    def __init__(self, smtp: SmtpSection) -> None:
        self.trusted = Peers(smtp.trusted_peers)
        self.proxies = Peers(smtp.proxy_peers)
        self._total_limit = smtp.max_connections
        self._network_limit = smtp.max_connections_per_network
        self._networks: Counter[str] = Counter()
        self._total = 0

    def enter(self, peer: str) -> Status | None:
        """Counts a connection; the refusal if it is one too many. The network is asked first: it tells more."""
        if peer in self.trusted:
            return None
        network = network_of(peer)
        if self._networks[network] >= self._network_limit:
            return TOO_MANY_FROM_NETWORK
        if self._total >= self._total_limit:
            return BUSY
        self._networks[network] += 1
        self._total += 1
        return None

    def leave(self, peer: str) -> None:
        """Undoes an `enter` that was not refused."""
        if peer in self.trusted:
            return
        network = network_of(peer)
        self._total -= 1
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]


class Room:
    """Memory for signed mails on their way in, all sessions together. One network gets a part of it: whoever begins
    large mails and never ends them must not keep out everybody else's."""

    NETWORKS = 4
    """How many networks it takes to fill it."""

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._share = octets // self.NETWORKS
        self._networks: Counter[str] = Counter()
        self.taken = 0

    def resize(self, held: int, wanted: int, network: str = "") -> bool:
        """A mail that holds `held` octets now needs `wanted`; False where there is no room, and nothing changes.
        `network`: empty for a server of ours, which has no limit of its own."""
        more = wanted - held
        if more > 0 and self.taken + more > self._octets:
            return False
        if network:
            if more > 0 and self._networks[network] + more > self._share:
                return False
            self._networks[network] += more
            if not self._networks[network]:
                del self._networks[network]
        self.taken += more
        return True
