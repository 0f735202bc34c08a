"""The ring as a file: JSON, mode 0600, replaced as a whole."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from .ring import KID_LETTERS, Key, KeyRing, RingError, kid_of

_VERSION = 1


def load(path: Path) -> KeyRing:
    """The ring in the file. Raises RingError naming the file, what is wrong and how to mend it."""
    try:
        with open(path, "rb") as file:
            # the open file is asked, not the path: nobody can swap it between the check and the reading
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise RingError(f"key ring {path}: mode {mode:04o} lets others at the keys; run: chmod 600 {path}")
            text = file.read()
    except OSError as error:
        raise RingError(f"key ring {path}: {error.strerror or error}") from error
    try:
        return _from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RingError(f"key ring {path}: damaged ({type(error).__name__}: {_plain(error)}); restore it") from None
    except RingError as error:
        raise RingError(f"key ring {path}: {error}") from None


def save(path: Path, ring: KeyRing, *, new: bool = False) -> None:
    """Write the ring so that after a crash either the old or the new file is there, complete.

    `new`: refuse when the file exists, since writing over a ring loses everything sealed with it. Raises RingError.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(_to_json(ring), file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                os.link(name, path)  # fails where a file stands, also against a second process
            else:
                os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise RingError(f"key ring {path}: exists already and is not written over") from None
    except OSError as error:
        raise RingError(f"key ring {path}: {error.strerror or error}") from error


def _to_json(ring: KeyRing) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "index_key": _text(ring.index_key),
        "keys": [
            {
                "kid": KID_LETTERS[key.kid],
                "secret": _text(key.secret),
                "created_at": key.created_at,
                "active_from": key.active_from,
                "retired_at": key.retired_at,
                "compromised": key.compromised,
            }
            for key in ring.keys
        ],
    }


def _from_json(data: dict[str, Any]) -> KeyRing:
    if data["version"] != _VERSION:
        raise RingError(f"version {data['version']!r} is not known to this program")
    return KeyRing(tuple(_key(item) for item in data["keys"]), _bytes(data["index_key"]))


def _key(item: dict[str, Any]) -> Key:
    kid = kid_of(item["kid"])
    if kid is None:
        raise RingError(f"kid {item['kid']!r} is not one base32 character")
    times = (item["created_at"], item["active_from"])
    if not all(type(value) is int for value in times) or type(item["compromised"]) is not bool:
        raise TypeError(f"key {item['kid']} has a field of the wrong type")
    retired_at = item["retired_at"]
    if retired_at is not None and type(retired_at) is not int:
        raise TypeError(f"key {item['kid']} has a field of the wrong type")
    return Key(kid, _bytes(item["secret"]), *times, retired_at, item["compromised"])


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _plain(error: Exception) -> str:
    """The error without file content: a JSON or base64 error must not print key material."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} column {error.colno}"
    return "not base64" if isinstance(error, binascii.Error) else str(error)[:80]
