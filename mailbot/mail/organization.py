"""Which domains belong to one owner, told from their names alone: two labels, or three below a suffix such as co.jp.

For counting, and for whom not to believe: what the DNS says of it (DMARC, RFC 9989 section 4.10) is in the hands of the
domain's owner, who could make any of his names an organization of its own. Where the rule knows a suffix too few, such
as tokyo.jp, strangers to each other share one share.
"""

from __future__ import annotations

_SECOND_LEVEL = frozenset({
    "ac", "ad", "co", "com", "ed", "edu", "go", "gob", "gov", "gr", "lg", "ne", "net", "or", "org",
})  # fmt: skip
"""What registries of countries sell names below of, at .jp first."""


def organization_of(domain: str) -> str:
    """The domain somebody registered. `domain`: lower case, A-labels, no final dot."""
    labels = domain.split(".")
    country = len(labels[-1]) == 2 and len(labels) > 2 and labels[-2] in _SECOND_LEVEL
    return ".".join(labels[-3 if country else -2 :])
