"""What SPF, DKIM and DMARC found out about a message, as values.

Standards: RFC 8601 section 2.7 (names of results), RFC 9989 (DMARC).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Result(StrEnum):
    """The end of one check. NONE also stands for a check that could not be made at all."""

    PASS = "pass"  # noqa: S105  # a result, not a password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Source(StrEnum):
    """Where the results come from."""

    CHECKED = "checked"  # by us
    REPORTED = "reported"  # by a server we were told to believe (RFC 8601)
    NOWHERE = "nowhere"  # nobody could tell
    FAULT = "fault"  # an error of ours
    GIVEN_UP = "given-up"  # look-ups failed until they no longer counted


@dataclass(frozen=True, slots=True)
class Authentication:
    """Who vouches for the From address. `spf`: of MAIL FROM. `dkim`: PASS only where a valid signature is aligned with
    From. `words`: for staff, one line of printable ASCII, at most 200 characters. `path`: SPF
    passed for a MAIL FROM aligned with From. `answered`: a name server answered one of the questions."""

    dmarc: Result = Result.NONE
    spf: Result = Result.NONE
    dkim: Result = Result.NONE
    source: Source = Source.NOWHERE
    words: str = ""
    path: bool = False
    answered: bool = False

    @property
    def undecided(self) -> bool:
        """A look-up failed that could have changed the verdict: the same mail may end otherwise a little later."""
        if self.dmarc in (Result.PASS, Result.FAIL) or (self.dmarc is Result.NONE and self.dkim is Result.PASS):
            return False
        return Result.TEMPERROR in (self.dmarc, self.spf, self.dkim)

    def settled(self) -> Authentication:
        """The same with every failed look-up taken as no result: for a mail that has waited long enough."""

        def known(result: Result) -> Result:
            return Result.NONE if result is Result.TEMPERROR else result

        dmarc, spf, dkim = known(self.dmarc), known(self.spf), known(self.dkim)
        return replace(self, dmarc=dmarc, spf=spf, dkim=dkim, source=Source.GIVEN_UP)
