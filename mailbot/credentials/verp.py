"""The tag of an envelope sender: which of our mails a report is about, provable without a database.

`<bounce>+<tag>@<domain>`; the tag is 26 characters of lower base32: 13 for the mail's id, 1 for the key, 12 for 60 bits
of HMAC-SHA256 over society and id. Only servers on the mail's way, and whoever received it, have seen it.
"""

from __future__ import annotations

import base64
import hmac

from .links import ID_CHARS, decode_id, encode_id
from .ring import KID_LETTERS, KeyRing, kid_of

MAC_CHARS = 12
TAG_CHARS = ID_CHARS + 1 + MAC_CHARS
PURPOSE = "verp"


def tag(ring: KeyRing, society: str, mail_id: int, now: int) -> str:
    """The tag of a mail that leaves now: one HMAC."""
    kid = ring.active(now).kid
    return encode_id(mail_id) + KID_LETTERS[kid] + _mac(ring, society, mail_id, kid)


def tagged(ring: KeyRing, society: str, bounce: str, mail_id: int, now: int) -> str:
    """The envelope sender of a mail: the society's bounce address with the mail's tag."""
    local, _, domain = bounce.rpartition("@")
    return f"{local}+{tag(ring, society, mail_id, now)}@{domain}"


def read_tag(ring: KeyRing, society: str, text: str) -> int | None:
    """The mail's id where the tag is one of ours for this society, in any letter case. Never raises."""
    text = text.lower()
    if len(text) != TAG_CHARS or not text.isascii():
        return None
    mail_id, kid = decode_id(text[:ID_CHARS]), kid_of(text[ID_CHARS])
    if mail_id is None or kid is None or ring.key(kid) is None:
        return None
    return mail_id if hmac.compare_digest(text[ID_CHARS + 1 :], _mac(ring, society, mail_id, kid)) else None


def _mac(ring: KeyRing, society: str, mail_id: int, kid: int) -> str:
    digest = ring.derive(kid, PURPOSE, society, mail_id, 0, "tag")
    return base64.b32encode(digest[:10])[:MAC_CHARS].decode().lower()
