"""The private keys that sign our mail: one file a selector, `dkim-<selector>.pem`, in `dkim.folder`."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mailbot.config import Settings
from mailbot.mail.dkim import Key, Signer, generate_key, load_key
from mailbot.private import StartProblem, read_private, write_private


def open_signer(settings: Settings) -> Signer:
    """Signs with the keys whose selectors the configuration names. Raises StartProblem, also where one is missing."""
    if missing := missing_keys(settings):
        raise StartProblem(missing)
    keys: list[tuple[bytes, Key]] = []
    for selector, kind in signing(settings):
        path = settings.site.dkim.file(selector)
        key = read_key(path)
        if not isinstance(key, kind):
            raise StartProblem([f"{path}: not the kind of key that the configuration wants under this name"])
        keys.append((selector.encode(), key))
    return Signer(keys)


def signing(settings: Settings) -> list[tuple[str, type[Key]]]:
    """Selectors that sign, and the kind of key each wants."""
    section = settings.site.dkim
    wanted: list[tuple[str, type[Key]]] = [
        (section.selector, RSAPrivateKey),
        (section.ed25519_selector, Ed25519PrivateKey),
    ]
    return [(selector, kind) for selector, kind in wanted if selector]


def missing_keys(settings: Settings) -> list[str]:
    """What to do about each signing key that is not there. Another key under a selector that is published already would
    break every signature, so none is made by the way."""
    files = [settings.site.dkim.file(selector) for selector, _ in signing(settings)]
    return [
        f"{path}: this DKIM key is missing: copy it from the machine that has it; where there never was one, "
        "`mailbot keys dkim --make` makes it"
        for path in files
        if not path.exists()
    ]


def make_keys(settings: Settings) -> None:
    """Makes the signing keys that are not there."""
    for selector, kind in signing(settings):
        path = settings.site.dkim.file(selector)
        if not path.exists():
            write_private(path, generate_key(ed25519=kind is Ed25519PrivateKey))


def lying_keys(settings: Settings) -> list[str]:
    """Selectors of all keys in the folder; a new installation has none."""
    return sorted(path.stem.removeprefix("dkim-") for path in settings.site.dkim.folder.glob("dkim-*.pem"))


def dkim_keys(settings: Settings) -> dict[str, Key]:
    """Selector -> key, of all that lie in the folder: those that sign first, then the next and the former ones."""
    lying = lying_keys(settings)
    first = [selector for selector, _ in signing(settings) if selector in lying]
    return {selector: read_key(settings.site.dkim.file(selector)) for selector in dict.fromkeys([*first, *lying])}


def read_key(path: Path) -> Key:
    """The DKIM key in a file. Raises StartProblem."""
    try:
        return load_key(read_private(path))
    except ValueError as error:
        raise StartProblem([f"{path}: not a private key in PEM form that DKIM can use"]) from error
