"""What the courier gets for each letter, and which mails have lost their reason."""

from dataclasses import replace

import pytest
from sqlalchemy import event, select, update

from mailbot import credentials
from mailbot.credentials import LinkPurpose
from mailbot.delivery.mails import Cancelled, ClaimedMail, NewMail
from mailbot.delivery.outbox import put
from mailbot.delivery.policy import Lane, MailState
from mailbot.registration import mailfacts, profile
from mailbot.registration.context import Context
from mailbot.store.tables import address, audit, link, member, outbox
from tests.support.factory import HOUR, NETWORK, NOW, PASSWORD, World

ADDRESS = "hanako@docomo.ne.jp"


async def facts(here: World, mails: list[ClaimedMail]) -> list[object]:
    async with here.ctx.store.read() as tx:
        return list(await mailfacts.mail_facts(here.ctx, tx, mails, here.now))


async def test_an_invitation_carries_the_link(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    (found,) = await facts(here, await here.mails())
    assert isinstance(found, dict)
    start, _, token = found["url"].rpartition("/")
    assert start == "http://127.0.0.1:8080/yokokou/r"
    assert credentials.read(here.ctx.ring, LinkPurpose.REGISTRATION, "yokokou", token) == link_id
    code = credentials.short_code(here.ctx.ring, LinkPurpose.REGISTRATION, "yokokou", link_id, 0, 0)
    assert found == {"url": found["url"], "expires_at": NOW + 3 * HOUR, "code": code}


async def test_a_completion_mail_needs_nothing(here: World) -> None:
    await here.register(await here.join("yokokou"), "hanako")
    assert await facts(here, await here.mails("completion")) == [{}]


async def test_an_address_proof_names_the_member(here: World) -> None:
    who = await here.join("yokokou", nickname="はな")
    await here.register(who, "hanako", address="new@private.example")
    (found,) = await facts(here, await here.mails("address-proof"))
    assert isinstance(found, dict)
    assert found["nickname"] == "はな"
    assert "/yokokou/a/" in str(found["url"])


async def test_the_old_address_is_told_though_it_is_the_members_no_more(here: World) -> None:
    who = await here.join("yokokou", nickname="はな")
    await here.register(who, "hanako", address="new@private.example")
    proof = (await here.mails("address-proof"))[0].link_id
    assert proof is not None
    assert await profile.prove_address(here.ctx, who.society, proof, here.now)
    mails = await here.mails("address-changed")
    assert [one.recipient for one in mails] == [ADDRESS]
    assert await facts(here, mails) == [{"changed_at": NOW, "nickname": "はな"}]
    assert await facts(here, await here.mails("completion")) == [Cancelled("address-removed")]


@pytest.mark.parametrize("state", ["used", "revoked", "expired", "unknown"])
async def test_a_mail_whose_link_is_dead_is_cancelled(here: World, state: str) -> None:
    await here.link("yokokou", ADDRESS)
    mails = await here.mails()
    async with here.ctx.store.begin() as tx:
        if state == "unknown":
            await tx.execute(link.delete())
        elif state == "expired":
            here.now += 3 * HOUR
        else:
            await tx.execute(update(link).values({f"{'spent' if state == 'used' else 'revoked'}_at": NOW}))
    assert await facts(here, mails) == [Cancelled(f"link-{state}")]


async def test_a_mail_whose_reason_is_gone_is_cancelled(here: World) -> None:
    await here.register(await here.join("yokokou"), "hanako")
    (mail,) = await here.mails("completion")
    assert await facts(here, [replace(mail, society="nowhere")]) == [Cancelled("society-gone")]
    assert await facts(here, [replace(mail, letter="no-such")]) == [Cancelled("letter-gone")]
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(address).values(address="other@docomo.ne.jp"))
    assert await facts(here, [mail]) == [Cancelled("address-removed")]
    async with here.ctx.store.begin() as tx:
        await tx.execute(member.delete())
    assert await facts(here, [mail]) == [Cancelled("member-gone")]


async def test_a_link_of_a_compromised_key_is_never_mailed(here: World) -> None:
    await here.link("yokokou", ADDRESS)
    old = here.ctx
    here.ctx = Context(old.settings, old.ring.rotate_compromised(NOW), old.passwords, old.store)
    assert await facts(here, await here.mails()) == [Cancelled("key-refused")]


async def test_the_answer_mark_comes_through(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    async with here.ctx.store.begin() as tx:
        mail = NewMail("yokokou", "invitation", Lane.LINK, ADDRESS, link_id=link_id, facts={"answer": 1})
        await put(tx, [mail], NOW + 1, "host.example")
    answers = [one.get("answer") for one in await facts(here, await here.mails()) if isinstance(one, dict)]
    assert answers == [None, 1]


async def test_four_statements_for_any_number_of_mails_in_order(here: World) -> None:
    people = [await here.join("yokokou", nickname=f"人{n}") for n in range(4)]
    for n, who in enumerate(people):
        await here.register(who, f"member-no-{n}", f"m{n}@docomo.ne.jp", address=f"n{n}@docomo.ne.jp")
    mails = await here.mails("address-proof")
    sent: list[str] = []
    event.listen(
        here.ctx.store.engine.sync_engine, "before_cursor_execute", lambda _c, _u, statement, *_: sent.append(statement)
    )
    found = await facts(here, mails)
    assert len([one for one in sent if one.startswith("SELECT")]) == 4
    order = [who.id for who in people]
    assert [one["nickname"] for one in found if isinstance(one, dict)] == [
        f"人{order.index(mail.member_id or 0)}" for mail in mails
    ]


async def test_nothing_secret_lies_in_the_outbox(here: World) -> None:
    who = await here.join("shochiku", nickname="はな")
    await here.register(who, who.login_id, address="new@private.example")
    form = {"login_id": who.login_id, "nickname": "はな", "address_1": ADDRESS, "address_2": "b@private.example"}
    await profile.update(here.ctx, who.society, who.id, {**form, "password": PASSWORD}, NETWORK, here.now)
    secrets = [who.login_id, who.password, PASSWORD, "はな"]
    for row in await here.rows(select(outbox)):
        assert not any(secret in str(tuple(row)) for secret in secrets)


async def test_a_completion_mail_that_failed_is_put_before_staff(here: World) -> None:
    who = await here.join("yokokou")
    await here.register(who, "hanako")
    (mail,) = await here.mails("completion")
    async with here.ctx.store.begin() as tx:
        await mailfacts.mail_settled(here.ctx, tx, [(mail, MailState.DELIVERED), (mail, MailState.QUEUED)], NOW)
        await mailfacts.mail_settled(here.ctx, tx, [(mail, MailState.FAILED)], NOW)
    events = await here.rows(select(audit.c.event, audit.c.member_id).order_by(audit.c.number))
    assert events == [("registered", who.id), ("completion-undelivered", who.id)]
