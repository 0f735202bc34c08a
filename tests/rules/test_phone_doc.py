"""docs/phone.md against the sentences staff can see."""

import ast
import re

from mailbot.intake.screening import Reason
from mailbot.office.reasons import REASONS
from tests.support.documents import REPOSITORY, table

JAPANESE = re.compile("[ぁ-ん一-龠]")


def _sentences() -> set[str]:
    """What `replies` says of a mail that went out: every Japanese text in it."""
    tree = ast.parse((REPOSITORY / "mailbot" / "office" / "replies.py").read_text("utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if JAPANESE.search(text)}


def test_every_reason_has_words_and_stands_in_the_table() -> None:
    assert list(REASONS) == list(Reason)
    silent = [tuple(words) for reason, words in REASONS.items() if reason is not Reason.ACCEPTED]
    assert table("phone.md", "返信しない理由") == silent


def test_every_end_of_a_mail_stands_in_the_table_and_no_other() -> None:
    sentences = _sentences()
    assert len(sentences) > 30
    listed = [words for row in table("phone.md", "メールの行方") for words in row[0].split("／")]
    assert [one for one in sorted(sentences) if not any(words in one for words in listed)] == []
    assert [words for words in listed if not any(words in one for one in sentences)] == []
