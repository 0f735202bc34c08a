"""DKIM: signing outgoing mail, and the keys for it.

The frame (canonicalisation, hashing, header format) is dkimpy's; only its RSA step, written in Python, is replaced by
OpenSSL's, which is some twenty times faster. dkimpy offers no hook for that, so the two functions that use RSA are
rebuilt here over a private copy of their module's names; the module itself stays as it is.
Standards: RFC 6376, RFC 8301.
"""

import base64
from collections.abc import Sequence
from types import FunctionType
from typing import Any, Protocol

import dkim
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from dkim.canonicalization import CanonicalizationPolicy, Relaxed, correct_empty_body, strip_trailing_lines

KEY_BITS = 2048
MIN_KEY_BITS = 1024  # RFC 8301 section 3.2: shorter signatures must not be believed

# RFC 6376 section 5.4.2: naming a field once more than it occurs makes adding another one break the signature.
SIGNED_HEADERS: tuple[bytes, ...] = (
    b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"cc", b"auto-submitted", b"mime-version",
    b"content-type", b"content-transfer-encoding", b"list-unsubscribe",
)  # fmt: skip


class _Hash(Protocol):
    def digest(self) -> bytes: ...


_PADDING = PKCS1v15()
_PREHASHED = Prehashed(SHA256())


def _rsa_sign(hashed: _Hash, key: RSAPrivateKey) -> bytes:
    return key.sign(hashed.digest(), _PADDING, _PREHASHED)


class _Relaxed(Relaxed):  # type: ignore[misc]  # dkimpy has no types
    """dkimpy's relaxed canonicalisation, passed by where it would change nothing: most of our lines are such."""

    @staticmethod
    def canonicalize_headers(headers: Sequence[Sequence[bytes]]) -> list[tuple[bytes, bytes]]:
        canonical: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            text = value.strip()
            if b"\n" in text or b"\t" in text or b"  " in text:
                canonical += Relaxed.canonicalize_headers([(name, value)])
            else:
                canonical.append((name.lower().rstrip(), text + b"\r\n"))
        return canonical

    @staticmethod
    def canonicalize_body(body: bytes) -> bytes:
        if b" " in body or b"\t" in body:
            return bytes(Relaxed.canonicalize_body(body))
        return bytes(correct_empty_body(strip_trailing_lines(body)))


_POLICY = CanonicalizationPolicy(_Relaxed, _Relaxed)


class _Policies:
    """Stands where dkimpy looks up a canonicalisation by its c= value: it is always relaxed/relaxed here."""

    @staticmethod
    def from_c_value(_value: bytes) -> Any:
        return _POLICY


_NAMES: dict[str, Any] = vars(dkim) | {
    "RSASSA_PKCS1_v1_5_sign": _rsa_sign,
    "parse_pem_private_key": lambda key: key,
    "CanonicalizationPolicy": _Policies,
}


def _rebuilt(function: Any) -> Any:
    return FunctionType(function.__code__, _NAMES, function.__name__, function.__defaults__, function.__closure__)


_sign = _rebuilt(dkim.DKIM.sign)
_gen_header = _rebuilt(dkim.DKIM.gen_header)


class _Frame(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """One message in dkimpy's frame. `stamp` is the t= tag; without one the signature carries none."""

    stamp: bytes | None = None

    def gen_header(self, fields: list[tuple[bytes, bytes]], *args: Any, **named: Any) -> bytes:
        # dkimpy reads the clock here; time is an argument in this program.
        fields = [(tag, self.stamp if tag == b"t" and self.stamp else value) for tag, value in fields]
        header: bytes = _gen_header(self, [pair for pair in fields if self.stamp or pair[0] != b"t"], *args, **named)
        return header


class Signer:
    """Signs messages of one domain, relaxed/relaxed, rsa-sha256, without l= and x=. Safe to share between threads."""

    def __init__(self, domain: bytes, selector: bytes, key: RSAPrivateKey) -> None:
        self._domain = domain
        self._selector = selector
        self._key = key

    def sign(self, message: bytes, now: int | None = None) -> bytes:
        """`message` (CRLF, final: nothing may change it afterwards) with its DKIM-Signature on top.

        `now`, in milliseconds, becomes the t= tag. Raises `dkim.DKIMException` for a header line that is none.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        frame = _Frame()
        frame.headers, _ = dkim.rfc822_parse(head)
        frame.body = body
        if now is not None:
            frame.stamp = str(now // 1000).encode("ascii")
        present = [name.lower() for name, _ in frame.headers]
        names = [name for name in SIGNED_HEADERS for _ in range(present.count(name) + 1)]
        header: bytes = _sign(
            frame,
            self._selector,
            self._domain,
            self._key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=names,
        )
        return header + message


def generate_key() -> bytes:
    """A new RSA key as PKCS#8 PEM."""
    key = generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes) -> RSAPrivateKey:
    """The key in `pem`. Raises ValueError for anything but an RSA key that receivers accept."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # an encrypted key
        raise ValueError("the DKIM key must not be encrypted") from error
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError(f"the DKIM key must be RSA of at least {MIN_KEY_BITS} bits")
    return key


def dns_record(key: RSAPrivateKey) -> str:
    """The TXT record for `<selector>._domainkey.<domain>` (RFC 6376 section 3.6.1), in one piece."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode("ascii")
