"""Short codes: what a mail carries beside its URL, for who cannot open one. Typed together with the mail address.

Eight of 31 letters, 39 bits, derived from the link's row and never stored; ten wrong tries end the code of a link.
"""

from __future__ import annotations

from .links import LinkPurpose
from .ring import KeyRing
from .temporary import Format, password, same, typed

FORMAT = Format("easy", 8)
CODE_LENGTH = FORMAT.length
_HALF = CODE_LENGTH // 2
_MARKS = "「」『』()[].,。、'\""


def short_code(ring: KeyRing, purpose: LinkPurpose, society: str, link_id: int, kid: int, generation: int) -> str:
    """The code of a link row in two groups, `k7mp 3wxq`. Raises KeyRefused as the link's token does."""
    code = password(ring, kid, society, link_id, generation, FORMAT, f"short-code/{purpose}")
    return f"{code[:_HALF]} {code[_HALF:]}"


def code_text(given: str) -> str:
    """What was typed, without what a mail has around a code: a copied line begins with a word and a colon."""
    return typed(given).rpartition(":")[2].strip(_MARKS)


def read_code(given: str) -> str:
    """The eight letters that were typed; full-width forms, capitals, blanks and hyphens are forgiven. Empty where it
    cannot be a code at all."""
    plain = code_text(given)
    return plain if FORMAT.fits(plain) else ""


def is_code(given: str, expected: str) -> bool:
    """Whether `given` is this code, compared in constant time."""
    return same(given, expected, any_case=True)
