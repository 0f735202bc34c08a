"""Society + letter + facts -> the final message, unsigned.

A letter is a folder of templates, `mail/<letter>/{subject,body}.txt`; a society overrides any file by the same path
under `societies/<id>/`. Templates branch on facts of the society only and insert facts of the member plainly, so each
letter of each society is rendered once, at the start, to a byte skeleton: sending fills the gaps. Whatever is wrong
with a template is found then: `Letters.problems()` names the file and what to change, and a robot with problems does
not start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailbot.config import Society
from mailbot.letters import lint
from mailbot.letters.compile import Compiled, compile_letter, environment
from mailbot.letters.facts import LetterError, show
from mailbot.letters.kinds import LETTERS, Fact, FactKind, LetterKind, letters_of, society_facts
from mailbot.mail.address import Address
from mailbot.mail.compose import base64_lines, date_field, field, is_message_id, sender_field, text_field

__all__ = ["LETTERS", "Fact", "FactKind", "LetterError", "LetterKind", "Letters", "letters_of", "society_facts"]

# Base64: 8bit may be changed on the way, which breaks the signature, and quoted-printable breaks URLs.
_MIME = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"

_LONGEST: dict[str, Any] = {
    "recipient": Address("h" * 40, "docomo.ne.jp"),
    "message_id": f"<{'m' * 60}@mail.example>",
    "date_ms": 1_795_156_920_000,
    "in_reply_to": f"<{'i' * 180}@mail.example>",
}


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """A letter of a society, encoded as far as it can be."""

    kind: LetterKind
    home: str
    sender: bytes
    tail: bytes
    texts: tuple[bytes, ...]
    gaps: tuple[tuple[str, Fact], ...]

    def body(self, facts: Mapping[str, str | int]) -> bytes:
        """UTF-8, CRLF (RFC 2045 section 6.8: base64 encodes text in its canonical form)."""
        parts = [self.texts[0]]
        for (name, fact), text in zip(self.gaps, self.texts[1:], strict=True):
            shown = show(name, fact, facts.get(name), self.home).replace("\n", "\r\n")
            parts += (shown.encode("utf-8"), text)
        return b"".join(parts)


class Letters:
    """All letters of all societies, compiled. `folders`: roots of templates, the one that overrides first."""

    def __init__(self, societies: Mapping[str, Society], folders: Sequence[Path], web_url: str, host: str) -> None:
        self._skeletons: dict[tuple[str, str], _Skeleton] = {}
        problems: list[tuple[str, str]] = []
        for society in societies.values():
            own = [folder / "societies" / society.id / "mail" for folder in folders]
            templates = environment([*own, *(folder / "mail" for folder in folders)])
            home = f"{web_url}/{society.id}/"
            for letter, kind in letters_of(society).items():
                known = society_facts(society, web_url, kind.help)
                wanted = frozenset(name for name, fact in kind.facts.items() if fact.when(society))
                compiled, found = compile_letter(templates, society.id, letter, known)
                if not found:
                    found = self._add(society, letter, compiled, wanted, home, host)
                problems += ((society.id, text) for text in found)
        self._problems = problems

    def _add(
        self, society: Society, letter: str, compiled: Compiled, wanted: frozenset[str], home: str, host: str
    ) -> list[str]:
        """Keeps the letter, if nothing is wrong with it."""
        kind, (subject_file, body_file) = LETTERS[letter], compiled.files
        found = [f"{subject_file}: in {society.id}: {text}" for text in lint.subject(compiled.subject)]
        found += [f"{body_file}: in {society.id}: {text}" for text in lint.body(compiled, kind, wanted, home)]
        if found:
            return found
        try:
            self._skeletons[society.id, letter] = _skeleton(society, kind, compiled, home, host)
            longest = self.render(society.id, letter, lint.samples(kind, home), **_LONGEST)
        except ValueError as error:
            found = [f"society {society.id}, letter {letter}: {error}"]
        else:
            found = [f"{body_file}: in {society.id}: {text}" for text in lint.mail(len(longest))]
        if found:
            self._skeletons.pop((society.id, letter), None)
        return found

    def problems(self, society_id: str | None = None) -> list[str]:
        """A sentence each, file first, with society, line and what to do; empty when every letter can be sent."""
        found = (text for society, text in self._problems if society_id in (None, society))
        return list(dict.fromkeys(found))  # a fault in a shared template shows in every society: say it once

    def render(
        self,
        society_id: str,
        letter: str,
        facts: Mapping[str, str | int],
        *,
        recipient: Address,
        message_id: str,
        date_ms: int,
        in_reply_to: str | None,
    ) -> bytes:
        """The message, RFC 5322 with CRLF, ASCII only, unsigned.

        `facts`: strings, or milliseconds since the epoch for times; unknown ones are passed over. `answer` = 1 marks
        the reply to a mail whose Message-ID was of no use; of a mail that came in only its Message-ID ever returns.
        Raises LetterError for an unknown letter and a missing or impossible fact, ValueError for an impossible header.
        """
        skeleton = self._skeletons.get((society_id, letter))
        if skeleton is None:
            raise LetterError(f"no letter {letter} of society {society_id}")
        if not is_message_id(message_id):
            raise ValueError("Message-ID: expected <left@right>")
        headers = [
            skeleton.sender,
            field("To", recipient.text),
            date_field(date_ms),
            field("Message-ID", message_id),
        ]
        # RFC 3834 section 5: auto-replied answers a message, auto-generated must not be put on an answer
        answers = skeleton.kind.answer and (in_reply_to is not None or bool(facts.get("answer")))
        if answers and in_reply_to is not None and is_message_id(in_reply_to):
            # RFC 5322 section 3.6.4; one identifier has no place to fold, and an encoded one is none
            headers += (field("In-Reply-To", in_reply_to), field("References", in_reply_to))
        headers += (
            skeleton.tail,
            b"Auto-Submitted: auto-replied\r\n\r\n" if answers else b"Auto-Submitted: auto-generated\r\n\r\n",
            base64_lines(skeleton.body(facts)),
        )
        return b"".join(headers)


def _skeleton(society: Society, kind: LetterKind, compiled: Compiled, home: str, host: str) -> _Skeleton:
    addresses = society.addresses
    name, address = addresses.sender_name or society.name, addresses.robot
    if kind.help_desk and addresses.help is not None:
        name, address = society.help_sender, addresses.help
    return _Skeleton(
        kind,
        home,
        sender_field(name, address),
        text_field("Subject", compiled.subject)
        + _MIME
        # our own mark, by which a loop is seen, and the one that Exchange's absence notes heed
        + field("X-Robot-Id", host)
        + field("X-Auto-Response-Suppress", "All"),
        tuple(text.replace("\n", "\r\n").encode("utf-8") for text in compiled.texts),
        tuple((name, kind.facts[name]) for name in compiled.gaps),
    )
