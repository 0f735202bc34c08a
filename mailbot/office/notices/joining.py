"""The parts of a batch become one file."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Sequence

from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import ArrayObject, ByteStringObject, NameObject

STRIDE = 250
"""Sheets between two words on how far it is."""


def joined(
    made: Sequence[tuple[bytes, list[int]]], back: bytes | None, progress: Callable[[str, int, int], None]
) -> bytes:
    """One file of all parts. On A4 the back of the first leaf is the same for all, and each sheet begins on a front."""
    writer = PdfWriter()
    last = PdfReader(io.BytesIO(back)).pages[0] if back is not None else None
    total = sum(len(ends) for _, ends in made)
    done = 0
    for pdf, ends in made:
        reader = PdfReader(io.BytesIO(pdf))
        if not done:
            _marks(writer, reader)
        begin = 0
        for end in ends:
            pages = [*reader.pages[begin:end]]
            writer.add_page(_bare(pages[0]))
            if last is not None:
                writer.add_page(_bare(last))
            for page in pages[1:]:
                writer.add_page(_bare(page))
            if last is not None and len(pages) % 2 == 0:
                writer.add_blank_page(last.mediabox.width, last.mediabox.height)
            begin = end
            done += 1
            if done % STRIDE == 0:
                progress("まとめています", done, total)
    writer.metadata = None
    out = io.BytesIO()
    writer.write(out)
    progress("まとめています", total, total)
    return out.getvalue()


def _bare(page: PageObject) -> PageObject:
    """A page without what ties it to the reading order of its own part."""
    for key in ("/StructParents", "/Tabs"):
        page.pop(NameObject(key), None)
    return page


def _marks(writer: PdfWriter, reader: PdfReader) -> None:
    """What makes the file PDF/A-2b (ISO 19005-2 sections 6.1.3, 6.2.3 and 6.6.2): its id, colours and description."""
    root = reader.root_object
    for key in ("/Metadata", "/OutputIntents", "/Lang", "/ViewerPreferences"):
        if key in root:
            writer.root_object[NameObject(key)] = root[key].clone(writer)
    unique = ByteStringObject(secrets.token_bytes(16))
    writer._ID = ArrayObject([unique, unique])
    writer.pdf_header = "%PDF-1.7"
