"""From single results to what is known about the author: RFC 9989 section 5.3, and its limits where we see half."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mailbot.dns import Lookups
from mailbot.intake.authentication import signatures, spf
from mailbot.intake.authentication.dmarc import Aligned, Author
from mailbot.mail import authresults
from mailbot.mail.address import Address
from mailbot.mail.authentication import Authentication, Result, Source
from mailbot.mail.authresults import Profile
from mailbot.mail.envelope import Envelope

MOST_WORDS = 200
MOST_DOMAIN = 48  # characters of a domain in `words`


@dataclass(frozen=True, slots=True)
class Belief:
    """Whose Authentication-Results are believed, and how they are written."""

    authserv_id: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Proof:
    """One result and the domain it is about."""

    result: Result
    domain: str


def checked(envelope: Envelope, author: Address, lookups: Lookups) -> Authentication:
    """For a mail from its sender's own server: everything is asked by us. What the author's own name servers say comes
    first, so that no other ones can use up the time and the number of questions."""
    domain = Author(author.domain, lookups.txt)
    signed = _signatures(envelope, domain, lookups)
    sender = envelope.reverse_path
    result = spf.check(lookups, envelope.peer, sender.text if sender else "", envelope.helo)
    # RFC 9989 section 4.4.2: only MAIL FROM counts, so the name in HELO, asked about for the null sender, does not
    found = _judged(domain, _Proof(result, sender.domain if sender else ""), signed)
    return replace(found, source=Source.CHECKED, words=_words(found, sender, author))


def reported(envelope: Envelope, author: Address, belief: Belief | None, lookups: Lookups) -> Authentication:
    """For a mail that came through a server of ours or a mailbox: what that server wrote, if it is to be believed, and
    the signatures of a whole mail. SPF cannot be asked: nobody knows who connected to that server."""
    several = envelope.origin != "imap"  # a mailbox's provider writes one; what else is there came with the mail
    stated = (
        authresults.believed(envelope.content, belief.authserv_id, belief.profile, several=several) if belief else None
    )
    domain = Author(author.domain, lookups.txt) if stated is not None or envelope.whole else None
    signed = _signatures(envelope, domain, lookups) if domain is not None else []
    if domain is None or (stated is None and not signed):
        return Authentication(words="nobody vouches for it")
    sender = envelope.reverse_path
    mail_from = sender.domain if sender else ""
    spf_said, dmarc_said = Result.NONE, None
    for one in stated or ():
        result = authresults.result_of(one)
        if one.method == "spf" and one.domain and one.domain == mail_from and spf_said is Result.NONE:
            spf_said = result
        elif one.method == "dkim" and one.domain:
            signed.append(_Proof(result if result is Result.PASS else Result.FAIL, one.domain))
        elif one.method == "dmarc" and one.domain == author.domain and dmarc_said is None:
            dmarc_said = result
    found = _judged(domain, _Proof(spf_said, mail_from), signed)
    if found.dmarc is not Result.PASS:
        if dmarc_said is not None:
            found = replace(found, dmarc=dmarc_said)
        elif found.dmarc is Result.FAIL and spf_said is Result.NONE:
            found = replace(found, dmarc=Result.NONE)  # SPF, which nobody asked, might have passed
    source = Source.REPORTED if stated is not None else Source.CHECKED
    by = f" by {belief.authserv_id}" if belief and stated is not None else ""
    return replace(found, source=source, words=(_words(found, sender, author) + by)[:MOST_WORDS])


def _signatures(envelope: Envelope, author: Author, lookups: Lookups) -> list[_Proof]:
    """Those whose domain might vouch for the author."""
    if not envelope.whole:
        return []
    found = signatures.check(envelope.content, lookups, author.may_align)
    return [_Proof(result, domain) for domain, result in found]


def _judged(author: Author, mail_from: _Proof, signed: Iterable[_Proof]) -> Authentication:
    """The three results. A failed look-up is TEMPERROR only where its end could have been a PASS."""
    own = _best(author, [*signed], "adkim")
    sent = _best(author, [mail_from] if mail_from.domain else [], "aspf")
    if Result.PASS in (own, sent):
        dmarc = Result.PASS if author.record else Result.TEMPERROR if author.unknown else Result.NONE
    elif author.unknown:
        dmarc = Result.TEMPERROR
    elif author.record is None:
        dmarc = Result.NONE
    else:
        dmarc = Result.TEMPERROR if Result.TEMPERROR in (own, sent) else Result.FAIL
    return Authentication(dmarc=dmarc, spf=mail_from.result, dkim=own, path=sent is Result.PASS)


def _best(author: Author, proofs: list[_Proof], mode: str) -> Result:
    """PASS where an aligned domain proved itself, TEMPERROR where it might have, FAIL where it did not, else NONE."""
    ends = set()
    for one in proofs:
        if one.result not in (Result.PASS, Result.TEMPERROR):
            ends.add(Result.FAIL if one.domain == author.domain else Result.NONE)
            continue
        aligned = author.aligned(one.domain, mode)
        if aligned is Aligned.YES:
            ends.add(one.result)
        elif aligned is Aligned.UNKNOWN:
            ends.add(Result.TEMPERROR)
    return next((end for end in (Result.PASS, Result.TEMPERROR, Result.FAIL) if end in ends), Result.NONE)


def _words(found: Authentication, sender: Address | None, author: Address) -> str:
    about, own = (sender.domain if sender else "no sender")[:MOST_DOMAIN], author.domain[:MOST_DOMAIN]
    return f"spf={found.spf} ({about}) dkim={found.dkim} dmarc={found.dmarc} ({own})"
