"""docs/refusals.md against the reasons and the replies of the program."""

import ast

from mailbot.intake.screening import Action, Reason
from mailbot.mail import status
from mailbot.mail.status import Status
from tests.support.documents import REPOSITORY, table

ENDS = {action.value for action in Action} | {"later", "none", "discard or later", "refuse or discard"}


def test_every_reason_is_explained() -> None:
    rows = table("refusals.md", "Reasons")
    assert [(name, words) for name, _, words in rows] == [(reason.value, reason.explanation) for reason in Reason]
    assert {end for _, end, _ in rows} <= ENDS


def test_every_reason_is_given_somewhere() -> None:
    used = set()
    room = REPOSITORY / "mailbot"
    for path in [*(room / "intake").rglob("*.py"), room / "registration" / "bounces.py"]:
        tree = ast.parse(path.read_text("utf-8"))
        declared = {id(node) for table in ast.walk(tree) if isinstance(table, ast.AnnAssign) for node in _keys(table)}
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and id(node) not in declared and _is_reason(node)
        }
    assert {reason.name for reason in Reason} - used == set()


def _keys(table: ast.AnnAssign) -> list[ast.AST]:
    """The keys of EXPLANATIONS, which give no mail its end."""
    if isinstance(table.target, ast.Name) and table.target.id == "EXPLANATIONS":
        return list(ast.walk(table))
    return []


def _is_reason(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "Reason"


def test_every_reply_that_is_given_is_listed() -> None:
    replies = {name: str(value) for name, value in vars(status).items() if isinstance(value, Status)}
    given = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for path in (REPOSITORY / "mailbot").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load)
    }
    expected = [reply for name, reply in replies.items() if name in given]
    assert [reply for reply, _ in table("refusals.md", "SMTP replies")] == expected
