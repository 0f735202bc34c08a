"""DKIM: signing outgoing mail, and the keys for it.

A mail carries an RSA signature, which everybody can verify, and where the site has the key an Ed25519 one as well; who
does not know that algorithm ignores it (RFC 8463 section 5). The frame (canonicalisation, hashing, header format) is
dkimpy's; only its RSA step, written in Python, is replaced by OpenSSL's, which is some twenty times faster. dkimpy
offers no hook for that, so the two functions that use RSA are rebuilt here over a private copy of their module's names;
the module itself stays as it is.
Standards: RFC 6376, RFC 8301, RFC 8463.
"""

import base64
import re
from collections.abc import Sequence
from types import FunctionType
from typing import Any, Protocol

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
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
    b"content-type", b"content-transfer-encoding", b"list-unsubscribe", b"in-reply-to", b"references",
)  # fmt: skip


Key = RSAPrivateKey | Ed25519PrivateKey

_FROM_DOMAIN = re.compile(rb"@([A-Za-z0-9.-]+)>?\s*\Z")


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
    """Signs messages relaxed/relaxed, without l= and x=, once with each key. Safe to share between threads."""

    def __init__(self, keys: Sequence[tuple[bytes, Key]]) -> None:
        """`keys`: selector and key; the first one's signature stands on top."""
        self._keys = [
            (selector, b"rsa-sha256", key)
            if isinstance(key, RSAPrivateKey)
            else (selector, b"ed25519-sha256", base64.b64encode(key.private_bytes_raw()))
            for selector, key in keys
        ]

    def sign(self, message: bytes, now: int | None = None) -> bytes:
        """`message` (CRLF, final: nothing may change it afterwards) with its DKIM-Signatures on top.

        d= is the domain of the From address, whoever of a society writes: so DMARC finds it aligned (RFC 9989 section
        4.4.1). `now`, in milliseconds, becomes the t= tag. Raises `dkim.DKIMException` for a header line that is none,
        ValueError for a message without one From address.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        frame = _Frame()
        frame.headers, _ = dkim.rfc822_parse(head)
        frame.body = body
        if now is not None:
            frame.stamp = str(now // 1000).encode("ascii")
        present = [name.lower() for name, _ in frame.headers]
        names = [name for name in SIGNED_HEADERS for _ in range(present.count(name) + 1)]
        domain = _from_domain(frame.headers)
        signatures: list[bytes] = [
            _sign(
                frame,
                selector,
                domain,
                key,
                signature_algorithm=algorithm,
                canonicalize=(b"relaxed", b"relaxed"),
                include_headers=names,
            )
            for selector, algorithm, key in self._keys
        ]
        return b"".join(signatures) + message


def _from_domain(headers: Sequence[Sequence[bytes]]) -> bytes:
    senders = [value for name, value in headers if name.lower() == b"from"]
    found = _FROM_DOMAIN.search(senders[0]) if len(senders) == 1 else None
    if found is None:
        raise ValueError("a message to sign needs one From field with one address")
    return found[1].lower()


def generate_key(*, ed25519: bool = False) -> bytes:
    """A new key as PKCS#8 PEM: RSA, unless Ed25519 is asked for."""
    key: Key = (
        Ed25519PrivateKey.generate() if ed25519 else generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes) -> Key:
    """The key in `pem`. Raises ValueError for anything but a key that receivers accept."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # an encrypted key
        raise ValueError("the DKIM key must not be encrypted") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError(f"the DKIM key must be Ed25519, or RSA of at least {MIN_KEY_BITS} bits")
    return key


def dns_record(key: Key) -> str:
    """The TXT record for `<selector>._domainkey.<domain>` (RFC 6376 section 3.6.1), in one piece."""
    if isinstance(key, Ed25519PrivateKey):  # RFC 8463 section 4: the bare 32 octets
        return "v=DKIM1; k=ed25519; p=" + base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode("ascii")


def next_selector(selector: str) -> str:
    """The name of the key that follows: mailbot1 -> mailbot2."""
    stem = selector.rstrip("0123456789")
    return f"{stem}{int(selector[len(stem) :] or 1) + 1}"
