"""Every letter of every society as sent, with fixed ids and times, beside its body as plain text.

After a change of templates look at what `python -m tests.golden.update` rewrites: `git diff tests/golden`.
"""

from __future__ import annotations

import tomllib
from email import message_from_bytes, policy
from pathlib import Path

from mailbot.config import Society
from mailbot.config.carriers import shipped
from mailbot.letters import Letters, letters_of
from mailbot.mail.address import Address

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
WEB_URL = "https://kenpo.example"
HOST = "mail.kenpo.example"
NOW = 1_795_156_920_000  # Friday 2026-11-20 12:42 in Japan
RECIPIENT = Address("hanako", "mail.example")
MESSAGE_ID = f"<aaaaaaaaaaaab.1@{HOST}>"
INCOMING = "<phone-1@mail.example>"
TOKEN = "abcdefghijklmnopqrstuvwxyz234567ab"
FACTS: dict[str, str | int] = {
    "expires_at": NOW + 3 * 3_600_000,
    "changed_at": NOW,
    "requested_at": NOW,
    "expires_on": NOW + 30 * 86_400_000,
    "nickname": "はなこ",
    "login_id": "hanako-k",
    "temporary_password": "QwErTyUi",
    "pin": "123 456",
    "code": "k7mp 3wxq",
    "carrier": "ドコモ",
    "steps": "\n".join(shipped().all["docomo"].steps),
}
PATHS = {
    "invitation": "r",
    "reissue": "p",
    "reissue-stale": "p",
    "address-proof": "a",
    "mailed-link": "c",
    "confirm-by-mail": "c",
}


def societies() -> dict[str, Society]:
    """The societies that come with mailbot."""
    files = sorted((ROOT / "config" / "societies").glob("*.toml"))
    return {f.stem: Society.model_validate({**tomllib.loads(f.read_text("utf-8")), "id": f.stem}) for f in files}


def letters() -> Letters:
    """Their letters, from the templates that come with mailbot."""
    return Letters(societies(), [ROOT / "templates"], WEB_URL, HOST)


def facts(society: str, letter: str) -> dict[str, str | int]:
    """Facts as the courier would hand them over."""
    if letter in PATHS:
        return {**FACTS, "url": f"{WEB_URL}/{society}/{PATHS[letter]}/{TOKEN}"}
    return dict(FACTS)


def mails() -> dict[Path, bytes]:
    """File -> content, both the mails (`.eml`) and their bodies (`.txt`)."""
    made = letters()
    files: dict[Path, bytes] = {}
    for society, policy_file in societies().items():
        for letter, kind in letters_of(policy_file).items():
            mail = made.render(
                society,
                letter,
                facts(society, letter),
                recipient=RECIPIENT,
                message_id=MESSAGE_ID,
                date_ms=NOW,
                in_reply_to=INCOMING if kind.answer else None,
            )
            body: str = message_from_bytes(mail, policy=policy.default).get_content()
            files[FOLDER / society / f"{letter}.eml"] = mail
            files[FOLDER / society / f"{letter}.txt"] = body.replace("\r\n", "\n").encode("utf-8")
    return files


def main() -> None:
    """Writes all files anew and drops those of letters and societies that are gone."""
    files = mails()
    for old in [*FOLDER.glob("*/*.eml"), *FOLDER.glob("*/*.txt")]:
        if old not in files:
            old.unlink()
    for file, content in files.items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)


if __name__ == "__main__":
    main()
