"""Everything secret: key ring, one-time links, PINs and temporary passwords, password hashes, sealing, and the rules
that chosen passwords and login IDs must meet. Pure of any database: rows' values come in, bytes and texts go out.
"""

from .codes import CODE_LENGTH, code_text, is_code, read_code, short_code
from .links import LinkPurpose, LinkState, decode_id, encode_id, mint, read, state
from .passwords import ARGON2ID, MAX_BYTES, Passwords, PasswordTooLong
from .ring import Key, KeyRefused, KeyRing, RingError, SealBroken, kid_of, kids_of, sealed_kid
from .ringfile import load, save
from .rules import (
    Code,
    Context,
    Fact,
    Problem,
    birth_date_forms,
    describe,
    describe_login_id,
    fold,
    login_id_problems,
    login_id_text,
    normalised,
    problems,
    sentence,
)
from .temporary import ALPHABETS, Format, digits, login_id, password, pin, reading, same, screen_key

__all__ = [
    "ALPHABETS",
    "ARGON2ID",
    "CODE_LENGTH",
    "MAX_BYTES",
    "Code",
    "Context",
    "Fact",
    "Format",
    "Key",
    "KeyRefused",
    "KeyRing",
    "LinkPurpose",
    "LinkState",
    "PasswordTooLong",
    "Passwords",
    "Problem",
    "RingError",
    "SealBroken",
    "birth_date_forms",
    "code_text",
    "decode_id",
    "describe",
    "describe_login_id",
    "digits",
    "encode_id",
    "fold",
    "is_code",
    "kid_of",
    "kids_of",
    "load",
    "login_id",
    "login_id_problems",
    "login_id_text",
    "mint",
    "normalised",
    "password",
    "pin",
    "problems",
    "read",
    "read_code",
    "reading",
    "same",
    "save",
    "screen_key",
    "sealed_kid",
    "sentence",
    "short_code",
    "state",
]
