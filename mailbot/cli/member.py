"""`mailbot member`: look members up and mend an address. What else is done for one member is in `memberwork`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import app
from mailbot.cli import common, memberwork
from mailbot.credentials import decode_id, encode_id
from mailbot.office import members
from mailbot.office.members import Card, masked
from mailbot.registration.members import MemberRecord

Name = Annotated[str, typer.Argument(help="The society's id.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show names, numbers and dates; recorded in the audit.")]


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Members: find one, see what happened, help on the phone, export.")
    work = (memberwork.renotify, memberwork.unlock, memberwork.reset, memberwork.export)
    for function in (find, show, memberwork.timeline, address, *work):
        group.command()(function)
    command.add_typer(group, name="member")


def find(
    society: Name,
    text: Annotated[str, typer.Argument(help="All of a name, kana, symbol-number, login ID, printed ID or address.")],
    json: common.Json = False,
) -> None:
    """Members to whom the text belongs, whatever its width and blanks."""

    async def work() -> list[MemberRecord]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            return await members.find(ctx, tx, app.society_of(ctx.settings, society), text)

    rows = [
        {
            "member": encode_id(one.id),
            "name": masked(one.person.name, 1),
            "kana": masked(one.person.kana, 1),
            "relation": one.person.relation or None,
            "state": one.state,
            "login id": one.login_id,
            "protected": one.protected,
            "left on": one.left_on,
            "registered_at": one.registered_at,
        }
        for one in common.run(work())
    ]
    common.show(rows, json, empty="Nobody found: the text has to be the whole name, number, ID or address.")


def _person(one: MemberRecord, reveal: bool) -> list[tuple[str, Any]]:
    person = one.person
    facts = [
        ("name", person.name, 1),
        ("kana", person.kana, 1),
        ("symbol", person.symbol, 0),
        ("number", person.number, 0),
        ("birth date", person.birth_date, 0),
        ("address on file", person.address, 1),
        ("postal code", person.postal_code, 0),
        ("postal address", person.postal_address, 0),
    ]
    shown = [(name, (value if reveal else masked(value, keep)) or None) for name, value, keep in facts]
    return [*shown, ("relation", person.relation or None)]


UNREACHED = " (mail does not reach it: it proves nobody)"


def _facts(found: Card, reveal: bool) -> list[tuple[str, Any]]:
    one = found.member
    return [
        ("member", encode_id(one.id)),
        ("society", one.society),
        ("state", one.state),
        *_person(one, reveal),
        ("nickname", one.nickname or None),
        ("login id", one.login_id),
        ("protected", one.protected),
        ("left on", one.left_on),
        ("registered_at", one.registered_at),
        ("last_login_at", one.last_login_at),
        ("password_expires_at", one.password_expires_at),
        ("addresses", [f"{n}: {text}{UNREACHED if n in one.unreachable else ''}" for n, text in one.addresses]),
    ]


def _lists(found: Card) -> dict[str, list[dict[str, Any]]]:
    letters = [
        {
            "login id": letter.login_id,
            "state": letter.state,
            "wrong tries": letter.failures,
            "paused_until_at": letter.paused_until,
            "expires_at": letter.expires_at,
            "created_at": letter.created_at,
        }
        for letter in found.member.letters
    ]
    links = [
        {
            "purpose": link.purpose,
            "to": link.address,
            "state": link.state,
            "created_at": link.created_at,
            "expires_at": link.expires_at,
        }
        for link in found.links
    ]
    mails = [
        {
            "mail": encode_id(mail.id),
            "letter": mail.letter,
            "to": mail.recipient,
            "state": mail.state,
            "reason": mail.reason,
            "created_at": mail.created_at,
        }
        for mail in found.mails
    ]
    return {"letters": letters, "links": links, "mails": mails}


def show(
    society: Name,
    member: Annotated[str, typer.Argument(help="The member's id, from `member find`.")],
    reveal: Reveal = False,
    json: common.Json = False,
) -> None:
    """One member: state, addresses, letters, links and mails. Secrets are never shown."""
    member_id = decode_id(member)

    async def work() -> Card:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            found = None
            if member_id is not None:
                found = await members.card(ctx, chosen, member_id, actor=common.actor(), now=now, reveal=reveal)
            if found is None:
                raise common.Failed(f"no member {member}; `mailbot member find {society} …` shows them")
            return found

    found = common.run(work())
    lists = _lists(found)
    if json:
        common.fields([*_facts(found, reveal), *lists.items()], True)
        return
    common.fields(_facts(found, reveal), False)
    for title, rows in lists.items():
        print()
        common.show(rows, False, title=title, empty=f"No {title}.")


def address(
    society: Name,
    member: Annotated[str, typer.Argument(help="The member's id, from `member find`.")],
    new: Annotated[str, typer.Argument(help="The address the member can read.")],
    slot: Annotated[int, typer.Option(min=1, max=3, help="Which of the member's addresses.")] = 1,
) -> None:
    """For who lost the registered address, after checking the person: mail the new one a link that makes it count."""
    member_id = decode_id(member)

    async def work() -> str:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society)
            if member_id is None:
                raise common.Failed(f"no member {member}; `mailbot member find {society} …` shows them")
            if slot > chosen.profile.addresses:
                raise common.Failed(f"--slot {slot}: members of {society} have {chosen.profile.addresses} address(es)")
            done = await members.correct_address(
                ctx, chosen, member_id, new, slot=slot, actor=common.actor(), now=now
            )
        if isinstance(done, str):
            raise common.Failed(done)
        return done.text

    print(f"{common.run(work())} counts once its owner has followed the link mailed to it.")
