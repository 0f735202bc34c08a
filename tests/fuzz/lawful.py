"""What holds for every address, wherever it was read."""

from __future__ import annotations

import re
from email.utils import parseaddr

from aiosmtplib.email import quote_address

from mailbot.mail.address import Address, parse_path, stored


def lawful(address: Address) -> None:
    """Safe on the wire, in a header and in the database, and the same after each of them."""
    for spelling in (address.text, address.wire, address.rfc_wire):
        assert re.fullmatch(r"[!-~]{3,256}", spelling), spelling
        assert not set(spelling) & set("<>,;:\\()"), spelling
        # what the client library makes of it between the brackets of RCPT TO
        assert quote_address(spelling) == f"<{spelling}>", spelling
    # the bare text of irregular dots is for people and the database: nobody writes it on the wire
    assert parse_path(f"<{address.wire}>") == parse_path(f"<{address.rfc_wire}>") == address
    assert "=?" not in address.text
    assert parseaddr(address.text) == ("", address.text)
    assert stored(address.text) == address
    assert Address(address.local, address.domain.lower()) == address
    assert stored(address.key).key == address.key
    assert len(address.text) <= 254
