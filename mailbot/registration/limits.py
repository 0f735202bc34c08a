"""Which budgets a submitted form uses, from the installation's numbers."""

from __future__ import annotations

from collections.abc import Sequence

from mailbot.config import Site, Society
from mailbot.mail.address import Address
from mailbot.ratelimit import Hit, Limits

EVERYWHERE = "address-all"
"""Scope of answers to one address by all societies together; its rows belong to no society."""


def web(site: Site, society: Society, network: str) -> Hit:
    """Any form from one network."""
    return Hit(society.id, "web", network, Limits(minute=site.budgets.web_requests_per_minute))


def address(site: Site, society: Society, typed: Address) -> Hit:
    """Automatic mail to one address: the same row as for blank mails."""
    b = site.budgets
    limits = Limits(b.address_per_minute, b.address_per_hour, b.address_per_day)
    return Hit(society.id, "address", typed.key, limits)


NEW_ADDRESSES_A_DAY = 20
"""Forms of one member that mail to addresses nobody proved yet."""


def new_addresses(site: Site, society: Society, typed: Sequence[Address], member_id: int) -> list[Hit]:
    """Mails to addresses a member typed: each has its own budget, and the member one for all, so that who is let in
    cannot mail to as many strangers as there are addresses."""
    mine = Hit(society.id, "member-mail", str(member_id), Limits(day=NEW_ADDRESSES_A_DAY))
    return [*(address(site, society, one) for one in typed), *([mine] if typed else [])]


def invitations(site: Site, society: Society, typed: Address, network: str) -> list[Hit]:
    """A web entry; the address's row comes first: it is the lock for its link.

    Domain and society are counted apart from mails: a form costs a stranger nothing, and must not close the way in.
    """
    domain = Hit(society.id, "web-domain", typed.domain, Limits(hour=site.budgets.domain_per_hour))
    return [address(site, society, typed), domain, web(site, society, network)]


def printed_credentials(site: Site, society: Society, network: str, strict: bool) -> list[Hit]:
    """Guesses at credentials on paper, by network and in the whole society; half of it where no mail came first."""
    share = 2 if strict else 1
    scope = "temporary-page" if strict else "temporary"
    return [
        web(site, society, network),
        Hit(society.id, scope, network, Limits(hour=max(1, 10 * site.budgets.login_failures_per_hour // share))),
        Hit(society.id, scope, "", Limits(hour=max(1, 10 * site.budgets.society_per_hour_min // share))),
    ]


WRONG_DETAILS_A_DAY = 5
"""Guesses at the birth date of one symbol and number."""


def insurance_details(site: Site, society: Society, network: str, target: str, by_page: bool) -> list[Hit]:
    """Guesses at who somebody is, as `printed_credentials`, and besides by the symbol and number typed (`target`)."""
    share = 2 if by_page else 1
    scope = "details-page" if by_page else "details"
    return [
        web(site, society, network),
        Hit(society.id, scope, network, Limits(hour=max(1, 10 * site.budgets.login_failures_per_hour // share))),
        Hit(society.id, scope, "", Limits(hour=max(1, 10 * site.budgets.society_per_hour_min // share))),
        details_target(society, target),
    ]


def details_target(society: Society, target: str) -> Hit:
    """Guesses at the person behind one symbol and number."""
    return Hit(society.id, "details-target", target, Limits(day=WRONG_DETAILS_A_DAY))


def wish(site: Site, society: Society, typed: Address, what: str) -> Hit:
    """Wishes of one kind (a new password, the login ID) for one address, known or not."""
    b = site.budgets
    return Hit(society.id, what, typed.key, Limits(b.address_per_minute, b.address_per_hour, b.address_per_day))


CODES_A_DAY = 50
"""Wrong short codes typed with one mail address, known or not, before the answer is to wait."""


def codes(site: Site, society: Society, typed: Address, network: str) -> tuple[Hit, Hit]:
    """Tries at the short codes of an address, and from a network. The address's row is the lock that lets them in one
    by one."""
    hour = 6 * site.budgets.link_failures_per_10_minutes
    return (
        Hit(society.id, "code", typed.key, Limits(day=CODES_A_DAY)),
        Hit(society.id, "code-network", network, Limits(hour=hour)),
    )
