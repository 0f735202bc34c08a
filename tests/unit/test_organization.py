"""Who owns a domain, by its name alone."""

import pytest

from mailbot.mail.organization import organization_of


@pytest.mark.parametrize(
    ("domain", "owner"),
    [
        ("kenpo.example", "kenpo.example"),
        ("a.b.kenpo.example", "kenpo.example"),
        ("docomo.ne.jp", "docomo.ne.jp"),
        ("a.docomo.ne.jp", "docomo.ne.jp"),
        ("kenpo.or.jp", "kenpo.or.jp"),
        ("or.jp", "or.jp"),
        ("mail.kaisha.co.uk", "kaisha.co.uk"),
        ("a.kaisha.jp", "kaisha.jp"),
        ("a.co.example", "co.example"),
        ("example", "example"),
        ("", ""),
    ],
)
def test_organization(domain: str, owner: str) -> None:
    assert organization_of(domain) == owner
