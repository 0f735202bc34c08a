"""The octets between DATA and its end, without I/O: finds the end, keeps the beginning, counts the rest.

Strict on line ends: a message that another server could cut elsewhere ("SMTP smuggling") is refused as a whole. RFC
5321 section 2.3.8 allows CR and LF only as a pair, section 4.1.1.4 ends the message only with CRLF . CRLF.
"""

import re

HEADER_LIMIT = (
    64 * 1024
)  # octets; a longer header block is cut one octet past it, so that its reader sees it is too long
BODY_LIMIT = 64 * 1024  # octets; what a person wrote comes first, what is attached behind it
_END = b"\r\n.\r\n"
_SIGNED = re.compile(rb"\r\ndkim-signature[ \t]*:", re.IGNORECASE).search


class BareLineEndError(ValueError):
    """A CR, a LF or a NUL that stands alone."""


class MessageReader:
    """Feed it until it returns what follows the message; then read `content` and `size`.

    Memory: the header block, `body_limit` octets of the body (`signed_limit` where it carries a DKIM signature) and one
    chunk, however long the message or its lines are.
    """

    __slots__ = ("_body_limit", "_end", "_head", "_keeping", "_signed", "_signed_limit", "_window", "size")

    def __init__(self, body_limit: int = 0, signed_limit: int = 0) -> None:
        self.size = -2  # octets as sent; the CRLF of the DATA command below is not the message's
        self._body_limit = body_limit
        self._signed_limit = signed_limit
        self._head = bytearray()
        self._end = 0  # of what is kept, once the header block is whole
        self._keeping = True
        self._signed = False
        self._window = b"\r\n"  # it may be the first half of the end, and makes all lines alike

    def feed(self, chunk: bytes) -> bytes | None:
        """None while the end has not come, else the octets after it. Raises BareLineEndError."""
        window = self._window + chunk if self._window else chunk
        end = window.find(_END)
        if end >= 0:
            part = checked = window[: end + 2]
            rest: bytes | None = window[end + len(_END) :]
        else:
            keep = max(len(window) - len(_END) + 1, 0)
            if keep and window[keep - 1] == 13:  # never between CR and LF
                keep -= 1
            part, self._window, rest = window[:keep], window[keep:], None
            # The kept octets are looked at now, too: a sender that takes a bare LF for an end waits for an answer.
            checked = window[:-1] if window[-1] == 13 else window
        pairs = checked.count(b"\r\n")
        if checked.count(b"\r") != pairs or checked.count(b"\n") != pairs or b"\0" in checked:
            raise BareLineEndError
        self.size += len(part)
        if self._keeping:
            self._keep(part)
        return rest

    def _keep(self, part: bytes) -> None:
        start = max(len(self._head) - 3, 0)
        self._head += part
        if not self._end and (blank := self._head.find(b"\r\n\r\n", start)) >= 0:
            self._signed = bool(self._signed_limit and _SIGNED(self._head, 0, blank + 2))
            self._end = blank + 4 + max(self._body_limit, self._signed_limit if self._signed else 0)
        if self._end:
            self._keeping = len(self._head) < self._end
            del self._head[self._end :]
        elif len(self._head) > HEADER_LIMIT + 2:
            del self._head[HEADER_LIMIT + 3 :]
            self._keeping = False

    @property
    def whole(self) -> bool:
        """Whether `content` is the entire message."""
        return self._keeping

    @property
    def signed(self) -> bool:
        """Whether the body is kept for the sake of a signature."""
        return self._signed

    @property
    def kept(self) -> int:
        """Octets in memory."""
        return len(self._head)

    def forget(self) -> None:
        """Keeps nothing any more; goes on looking for the end."""
        self._keeping = False
        self._head.clear()

    @property
    def content(self) -> bytes:
        """The header block with its blank line if it has one, and the beginning of the body if that is wanted; dots
        unstuffed (RFC 5321 section 4.5.2)."""
        return bytes(self._head).replace(b"\r\n.", b"\r\n")[2:]
