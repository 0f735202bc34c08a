"""Mails with DKIM signatures, good and bad."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import cache

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SELECTOR = "s1"
SIGNED = (b"from", b"to", b"subject", b"date", b"message-id")

# 512 bits are fewer than the libraries still make; this key was made for these tests.
WEAK_PEM = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIIBOwIBAAJBAM8fTeCNFfS8PBuI0psg8+c5HoYAg4yBbBSQbaWQhPhxQostQ9wi
dKLiXbeQlokD0OUZ34Mqs+Y+6aTBIfAbUSsCAwEAAQJAJQYggqpVqWjYicd8djR+
xO9l8Gg5G62q50YmA3mA+3PZKwzMuGyqaZUeUhclJPTKoXKxw6tepg51nlaU6s6R
EQIhAOv84s4IfHuicJqiuty6wWLnUB9W3Nm8rEFtWWuG3bgjAiEA4K/E8pOoAiye
QWe151f/AJ1/6DLVxEdmIRBwJFd2z1kCIQDH3izxtzpHNDMOpRiCbiHv9F1lzZnL
SALUfxqm+Vi75QIhAKT5aiqSsDGogSqU88NBoULaYigj60GLCzoLz8tfTSVBAiBa
EGDl5Rhf9auPVkSIA86ueKs/TA5gMr342LXR40PXSA==
-----END RSA PRIVATE KEY-----
"""
WEAK_PUBLIC = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAM8fTeCNFfS8PBuI0psg8+c5HoYAg4yBbBSQbaWQhPhxQost"
    "Q9widKLiXbeQlokD0OUZ34Mqs+Y+6aTBIfAbUSsCAwEAAQ=="
)


LARGE_EXPONENT = 2049
"""Stands for a key of 2048 bits with an exponent of more than 32."""


@cache
def key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """One for all tests of the process."""
    if bits != LARGE_EXPONENT:
        return rsa.generate_private_key(65537, bits)
    made = key().private_numbers()
    order = (made.p - 1) * (made.q - 1)
    exponent = next(e for e in range(2**32 + 1, 2**33, 2) if math.gcd(e, order) == 1)
    d = pow(exponent, -1, order)
    dp, dq = d % (made.p - 1), d % (made.q - 1)
    public = rsa.RSAPublicNumbers(exponent, made.public_numbers.n)
    return rsa.RSAPrivateNumbers(made.p, made.q, d, dp, dq, made.iqmp, public).private_key()


def pem(bits: int = 2048) -> bytes:
    if bits == 512:
        return WEAK_PEM
    return key(bits).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def record(bits: int = 2048, tags: str = "") -> str:
    """The key's TXT record, in zone-file form, with further tags."""
    if bits == 512:
        return txt(f"v=DKIM1; k=rsa; p={WEAK_PUBLIC}")
    der = key(bits).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return txt(f"v=DKIM1; k=rsa; {tags}p={base64.b64encode(der).decode()}")


def txt(text: str) -> str:
    """TXT in zone-file form, in pieces of what one string may hold."""
    return "TXT " + " ".join(f'"{text[at : at + 255]}"' for at in range(0, max(len(text), 1), 255))


def signed(
    content: bytes,
    domain: str,
    *,
    selector: str = SELECTOR,
    headers: Sequence[bytes] = SIGNED,
    length: bool = False,
    algorithm: bytes = b"rsa-sha256",
    bits: int = 2048,
    canonical: tuple[bytes, bytes] = (b"relaxed", b"relaxed"),
) -> bytes:
    """The message with a signature on top."""
    verifier = dkim.DKIM(content, signature_algorithm=algorithm)
    field: bytes = verifier.sign(
        selector.encode(), domain.encode(), pem(bits), canonicalize=canonical, include_headers=headers, length=length
    )
    return field + content
