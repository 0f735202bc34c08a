"""The relays that the configuration names: opened, and one standing in for the other.

Mail goes to the first relay that works. One that cannot be reached, does not let us in or breaks off again and again is
left alone for a growing pause, then one mail finds out whether it is back. A mail moves on to the next relay only while
no relay has its content: after the final dot nobody else may have it, so that nothing is doubled.
"""

from __future__ import annotations

import asyncio
import netrc
import ssl
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from mailbot.config.relays import RelayUrl, relay_url
from mailbot.config.site import RelaySection
from mailbot.delivery.relay import CaptureRelay, Relay, SmtpRelay, host_time
from mailbot.delivery.server import Server
from mailbot.mail.address import LEGACY_DOMAINS, Address
from mailbot.mail.status import BEFORE_MAIL, Effect, Outcome, Stage
from mailbot.telemetry import RESTING, emit

STRIKES = 3
"""Broken sessions one after the other that make a relay a failed one."""
LONGEST_REST = 300.0
"""Seconds."""
REACH_SECONDS = 10.0
"""Longest wait for one answer of a relay where another can stand in: a PIN cannot wait for half a minute."""


class RelayProblem(Exception):
    """The relays cannot be used as they are configured; `words` say what to do."""


@dataclass
class _Post:
    """One relay and what is known of it. `rest_until`: loop time before which it is left alone."""

    relay: SmtpRelay
    strikes: int = 0
    failures: int = 0
    rest_until: float = 0.0


class Relays:
    """Several relays, in order of preference. Lifetime: one process, one event loop."""

    def __init__(self, relays: Sequence[SmtpRelay]) -> None:
        self._posts = [_Post(relay) for relay in relays]

    async def send(
        self,
        sender: str,
        recipient: Address,
        message: bytes,
        *,
        seconds: float,
        deadline_ms: int | None = None,
        envelope_id: str = "",
    ) -> Outcome:
        """See `Relay.send`. `trouble` of the outcome names relays that failed on the way."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        awake = [post for post in self._posts if post.rest_until <= clock()]
        troubles: list[str] = []
        outcome: Outcome | None = None
        for post in awake or self._posts:  # where all rest, the courier's own pause is over, and each gets its chance
            if outcome is not None and clock() >= end:
                break
            if post.failures:
                post.rest_until = clock() + REACH_SECONDS  # this mail finds out, the others go elsewhere meanwhile
            outcome = await post.relay.send(
                sender,
                recipient,
                message,
                seconds=end - clock(),
                deadline_ms=deadline_ms,
                envelope_id=envelope_id,
            )
            if not self._failed(post, outcome, clock()):
                break
            troubles.append(f"{post.relay.name}: {words(outcome)}")
        assert outcome is not None
        return replace(outcome, trouble="; ".join(troubles)) if troubles else outcome

    def _failed(self, post: _Post, outcome: Outcome, now: float) -> bool:
        """Whether the next relay is to be tried with the same mail: none of it has been taken."""
        match outcome.effect:
            case Effect.OUR_FAULT if outcome.stage in BEFORE_MAIL or outcome.stage is Stage.MAIL:
                pass
            case Effect.OUR_FAULT:  # perhaps a far server's words that it passed on: the next may, and it stays
                post.strikes += 1
                if post.strikes < STRIKES:
                    return True
            case Effect.SESSION:
                post.strikes += 1
                if post.strikes < STRIKES:
                    return False
            case _:
                if post.failures:
                    emit("relay.back", relay=post.relay.name)
                    RESTING.labels(post.relay.name).set(0)
                post.strikes = post.failures = 0
                post.rest_until = 0.0
                return False
        post.failures += 1
        rest = min(LONGEST_REST, 2.0 ** min(post.failures, 9))
        post.rest_until = now + rest
        RESTING.labels(post.relay.name).set(1)
        emit("relay.failed", relay=post.relay.name, seconds=round(rest), error=words(outcome))
        return True

    async def close(self) -> None:
        for post in self._posts:
            await post.relay.close()


def words(outcome: Outcome) -> str:
    """What staff may read of a failed session: the relay's text only where it cannot name a member."""
    status = outcome.status
    return str(status) if outcome.stage in BEFORE_MAIL else f"{status.code} {status.enhanced}".strip()


def _password(file: Path, url: RelayUrl) -> str:
    if file == Path():
        raise RelayProblem(f"relay {url.name}: a login name needs a password: name its file in relay.netrc")
    try:
        if file.stat().st_mode & 0o077:
            raise RelayProblem(f"{file}: others can read this secret: run `chmod 600 {file}`")
        found = netrc.netrc(str(file)).hosts.get(url.host)
    except OSError as error:
        raise RelayProblem(f"{file}: cannot be read: {error.strerror}") from error
    except netrc.NetrcParseError as error:
        expected = "expected `machine HOST login USER password WORD`"
        raise RelayProblem(f"{file}: line {error.lineno} is no netrc: {expected}") from error
    if found is None or found[0] != url.user or not found[2]:
        raise RelayProblem(f"{file}: has no line `machine {url.host} login {url.user} password …`")
    return found[2]


def servers(section: RelaySection, helo: str) -> list[Server]:
    """The servers in order of preference, none for `capture:`. Raises RelayProblem."""
    if section.url == "capture:":
        return []
    try:
        context = ssl.create_default_context(cafile=section.ca_file if section.ca_file != Path() else None)
    except (OSError, ssl.SSLError) as error:
        raise RelayProblem(f"{section.ca_file}: no certificates (PEM) that can be read: {error}") from error
    urls = [relay_url(text) for text in (section.url, *section.fallback)]
    return [Server(url, helo, context, _password(section.netrc, url) if url.user else "") for url in urls]


def open_relay(
    section: RelaySection,
    helo: str,
    *,
    legacy_domains: Set[str] = LEGACY_DOMAINS,
    now: Callable[[], int] = host_time,
) -> Relay:
    """The relay that `[relay]` names. Connects with the first mail. Raises RelayProblem."""
    found = servers(section, helo)
    seconds = float(section.timeout_seconds)
    if len(found) > 1:
        seconds = min(seconds, REACH_SECONDS)
    relays = [SmtpRelay(server, section.connections, seconds, legacy_domains, now) for server in found]
    if not relays:
        return CaptureRelay(now)
    return relays[0] if len(relays) == 1 else Relays(relays)
