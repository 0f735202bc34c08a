"""All tables. Society stands in every key; ids are random 63-bit integers; times are milliseconds since 1970 UTC.

Columns named `sealed…` hold AEAD ciphertext, `…_index` and `…_key` blobs hold keyed hashes: the database alone tells
no name, birth date, number, token, PIN or temporary password.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _society() -> Column[str]:
    return Column("society", String(31), nullable=False)


def _id(name: str = "id") -> Column[int]:
    return Column(name, BigInteger, nullable=False, autoincrement=False)


def _time(name: str, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


meta = Table(
    "meta",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
    comment="Facts about the database itself: fingerprint of the key ring it belongs to.",
)

society_state = Table(
    "society_state",
    metadata,
    Column("society", String(31), primary_key=True),
    _time("paused_at"),
    Column("paused_reason", Text),
    _time("mails_held_at"),
    Column("mails_held_reason", Text),
    comment="Emergency stops: of answers and forms, or of outgoing mails alone. Row '': every society.",
)

member = Table(
    "member",
    metadata,
    _society(),
    _id(),
    Column("person_key", LargeBinary, nullable=False, comment="keyed hash of symbol, number, birth date, kana"),
    Column("household", LargeBinary, comment="keyed hash of the household"),
    Column("sealed", LargeBinary, nullable=False, comment="roster facts (JSON)"),
    Column("row_digest", LargeBinary, nullable=False, comment="keyed hash of the roster row: changed or not"),
    Column("name_index", LargeBinary, comment="keyed hash of the folded name"),
    Column("kana_index", LargeBinary),
    Column("number_index", LargeBinary, comment="keyed hash of symbol-number"),
    Column("file_address_index", LargeBinary, comment="keyed hash of the address on file"),
    Column("protected", Boolean, nullable=False, server_default=text("false")),
    Column("left_on", String(10), comment="ISO date in Japan"),
    Column("state", String(12), nullable=False, comment="invited | registered"),
    Column("login_id", String(320), comment="as typed; none where symbol and number make it"),
    Column("login_key", String(320), comment="folded, or a keyed hash: unique in the society"),
    Column("password_hash", Text),
    _time("password_set_at"),
    Column("sealed_nickname", LargeBinary),
    Column("choices", Text, nullable=False, server_default="{}", comment="JSON: wanted mails, disclosure"),
    _time("registered_at"),
    _time("login_opens_at"),
    _time("last_login_at"),
    _time("previous_login_at"),
    Column("login_kind", String(8), nullable=False, server_default="chosen", comment="chosen | formula | address"),
    Column("pin_failures", Integer, nullable=False, server_default="0", comment="wrong PINs since the last right one"),
    _time("credentials_mailed_at"),
    _time("created_at", nullable=False),
    Column("batch", BigInteger, comment="roster batch that wrote it last"),
    PrimaryKeyConstraint("society", "id"),
    Index("uq_member_person", "society", "person_key", unique=True),
    Index("uq_member_login", "society", "login_key", unique=True),
    Index("ix_member_household", "society", "household"),
    Index("ix_member_name", "society", "name_index"),
    Index("ix_member_kana", "society", "kana_index"),
    Index("ix_member_number", "society", "number_index"),
    Index("ix_member_file_address", "society", "file_address_index"),
    Index("ix_member_password_set", "society", "password_set_at"),
    Index("ix_member_state", "society", "state"),
    Index("ix_member_left_on", "society", "left_on"),
    Index(
        "ix_member_credentials_due",
        "society",
        "created_at",
        sqlite_where=text("state = 'invited' AND credentials_mailed_at IS NULL AND file_address_index IS NOT NULL"),
        postgresql_where=text("state = 'invited' AND credentials_mailed_at IS NULL AND file_address_index IS NOT NULL"),
    ),
)

temporary = Table(
    "temporary",
    metadata,
    _society(),
    _id(),
    _id("member_id"),
    Column("login_key", LargeBinary, nullable=False, comment="keyed hash of the folded temporary ID"),
    Column("sealed_login_id", LargeBinary, nullable=False),
    Column("sealed_password", LargeBinary, comment="only where the roster brought it; else derived"),
    Column("kid", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("format", String(16), nullable=False),
    Column("state", String(10), nullable=False, comment="live | used | revoked | dead"),
    Column("failures", Integer, nullable=False, server_default="0"),
    _time("paused_until"),
    _time("expires_at"),
    _time("created_at", nullable=False),
    _time("ended_at"),
    PrimaryKeyConstraint("society", "id"),
    ForeignKeyConstraint(["society", "member_id"], ["member.society", "member.id"], ondelete="CASCADE"),
    Index(
        "uq_temporary_login",
        "society",
        "login_key",
        unique=True,
        sqlite_where=text("state = 'live'"),
        postgresql_where=text("state = 'live'"),
    ),
    Index("ix_temporary_member", "society", "member_id"),
    comment="First credentials on paper.",
)

address = Table(
    "address",
    metadata,
    _society(),
    _id("member_id"),
    Column("slot", Integer, nullable=False, comment="1 to 3"),
    Column("address", String(320), nullable=False),
    Column("address_key", String(320), nullable=False, comment="canonical form"),
    Column("pin", Boolean, nullable=False, server_default=text("false"), comment="PIN mails go here"),
    _time("proved_at", nullable=False),
    PrimaryKeyConstraint("society", "member_id", "slot"),
    ForeignKeyConstraint(["society", "member_id"], ["member.society", "member.id"], ondelete="CASCADE"),
    Index("ix_address_key", "society", "address_key"),
    comment="Addresses a member proved to own.",
)

link = Table(
    "link",
    metadata,
    _society(),
    _id(),
    Column("purpose", String(20), nullable=False, comment="registration | reissue | address-proof | mailed-link"),
    Column("address", String(320), nullable=False),
    Column("address_key", String(320), nullable=False),
    Column("member_id", BigInteger, comment="whom it serves; none for a registration"),
    Column("slot", Integer, comment="address-proof: which of the member's addresses"),
    Column("journey_id", BigInteger, comment="mailed-link: the journey it goes on with"),
    Column("kid", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("format", String(16), comment="reissue: format of the temporary password"),
    Column("asks", String(10), comment="reissue: birth-date where the mailbox alone is not enough"),
    Column("failures", Integer, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("spent_at"),
    _time("revoked_at"),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_link_address", "society", "purpose", "address_key", "expires_at"),
    Index("ix_link_member", "society", "member_id"),
    Index("ix_link_expires", "expires_at"),
)

journey = Table(
    "journey",
    metadata,
    _society(),
    _id(),
    Column("name", String(40), nullable=False),
    Column("steps", Text, nullable=False, comment="JSON list it began with"),
    Column("position", Integer, nullable=False),
    Column("link_id", BigInteger),
    Column("address", String(320), comment="the invited address"),
    Column("member_id", BigInteger),
    Column("proof_hash", LargeBinary, comment="sha256 of the cookie of the browser that passed the proof"),
    Column("sealed", LargeBinary, comment="answers so far (JSON)"),
    Column("kid", Integer, nullable=False, server_default="0", comment="key the on-screen key is derived with"),
    Column("failures", Integer, nullable=False, server_default="0", comment="wrong keys or passwords behind its link"),
    _time("started_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("done_at"),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_journey_link", "society", "link_id"),
    Index("ix_journey_member", "society", "member_id"),
    Index("ix_journey_expires", "expires_at"),
)

consent = Table(
    "consent",
    metadata,
    _society(),
    _id("member_id"),
    Column("text_id", String(32), nullable=False),
    Column("version", String(20), nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="sha256 of the text as shown"),
    _time("agreed_at", nullable=False),
    PrimaryKeyConstraint("society", "member_id", "text_id", "version"),
    ForeignKeyConstraint(["society", "member_id"], ["member.society", "member.id"], ondelete="CASCADE"),
    comment="What a member agreed to, which version, and when.",
)

pin_login = Table(
    "pin_login",
    metadata,
    _society(),
    _id(),
    _id("member_id"),
    Column("proof_hash", LargeBinary, nullable=False, comment="sha256 of the cookie of the browser that logged in"),
    Column("kid", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0", comment="a new PIN after the old one died"),
    Column("digits", Integer, nullable=False),
    Column("scope", String(20), nullable=False, comment="of the session it leads to"),
    Column("failures", Integer, nullable=False, server_default="0", comment="wrong tries at this PIN"),
    Column("sends", Integer, nullable=False, server_default="1"),
    _time("sent_at", nullable=False),
    _time("created_at", nullable=False),
    _time("pin_expires_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("ended_at"),
    PrimaryKeyConstraint("society", "id"),
    ForeignKeyConstraint(["society", "member_id"], ["member.society", "member.id"], ondelete="CASCADE"),
    Index("ix_pin_login_member", "society", "member_id"),
    Index("ix_pin_login_expires", "expires_at"),
    comment="Logins that wait for their PIN.",
)

help_request = Table(
    "help_request",
    metadata,
    _society(),
    _id(),
    _time("received_at", nullable=False),
    Column("address", String(320), nullable=False),
    Column("address_key", String(320), nullable=False),
    Column("sealed", LargeBinary, nullable=False, comment="subject and beginning of the text (JSON)"),
    Column("outbox_id", BigInteger, comment="the acknowledgement"),
    Column("state", String(8), nullable=False, comment="open | done"),
    _time("done_at"),
    Column("done_by", String(80)),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_help_request_state", "society", "state", "received_at"),
    Index("ix_help_request_address", "society", "address_key"),
    Index("ix_help_request_done", "done_at"),
    comment="Mails to a society's help address.",
)

notice_batch = Table(
    "notice_batch",
    metadata,
    _society(),
    _id(),
    _time("at", nullable=False),
    Column("actor", String(80), nullable=False),
    Column("paper", String(8), nullable=False),
    Column("per", String(10), nullable=False),
    Column("sheets", Integer, nullable=False),
    Column("file_digest", LargeBinary, nullable=False, comment="sha256 of the PDF"),
    Column("state", String(8), nullable=False, comment="making | printed"),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_notice_batch_at", "society", "at"),
    comment="Printed notices: one row a run.",
)

notice_letter = Table(
    "notice_letter",
    metadata,
    _society(),
    _id("batch_id"),
    Column("sheet", Integer, nullable=False, comment="counted from 1, in the order of the file"),
    _id("member_id"),
    _id("temporary_id"),
    Column("generation", Integer, nullable=False),
    Column("tag", String(16), comment="in the registration address of this sheet, where the society wants one"),
    PrimaryKeyConstraint("society", "batch_id", "sheet", "member_id"),
    ForeignKeyConstraint(["society", "batch_id"], ["notice_batch.society", "notice_batch.id"], ondelete="CASCADE"),
    Index("ix_notice_letter_member", "society", "member_id"),
    Index("ix_notice_letter_temporary", "society", "temporary_id"),
    comment="Which letter stood on which sheet: the manifest.",
)

session = Table(
    "session",
    metadata,
    _society(),
    Column("token_hash", LargeBinary, nullable=False, comment="sha256 of the cookie"),
    _id("member_id"),
    Column("scope", String(20), nullable=False, comment="member | expired-password"),
    _time("created_at", nullable=False),
    _time("seen_at", nullable=False),
    _time("expires_at", nullable=False),
    PrimaryKeyConstraint("society", "token_hash"),
    ForeignKeyConstraint(["society", "member_id"], ["member.society", "member.id"], ondelete="CASCADE"),
    Index("ix_session_member", "society", "member_id"),
    Index("ix_session_expires", "expires_at"),
)

inbox = Table(
    "inbox",
    metadata,
    _society(),
    Column("inbox_key", LargeBinary, nullable=False, comment="tells a repeated delivery"),
    Column("source", String(8), nullable=False, comment="smtp | imap"),
    Column("purpose", String(14), nullable=False),
    _time("received_at", nullable=False),
    Column("address", String(320), comment="reverse-path"),
    Column("address_key", String(320)),
    Column("from_address", String(320)),
    Column("peer", String(45), nullable=False),
    Column("size", Integer, nullable=False),
    Column("action", String(8), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("outbox_id", BigInteger),
    Column("tag", String(16), comment="what stood behind + in our address, where a printed notice may have put it"),
    PrimaryKeyConstraint("society", "inbox_key"),
    Index("ix_inbox_address", "society", "address_key"),
    Index("ix_inbox_tag", "society", "tag"),
    Index("ix_inbox_received", "received_at"),
    comment="Facts of every mail that was answered 2xx.",
)

outbox = Table(
    "outbox",
    metadata,
    _society(),
    _id(),
    Column("letter", String(24), nullable=False),
    Column("lane", Integer, nullable=False, comment="0 PIN, 1 link, 2 reissue, 3 completion, 4 bulk"),
    Column("recipient", String(320), nullable=False),
    Column("member_id", BigInteger),
    Column("link_id", BigInteger),
    Column("facts", Text, nullable=False, comment="JSON, nothing secret and nothing personal"),
    Column("message_id", String(120), nullable=False),
    Column("in_reply_to", Text),
    Column("dedupe_key", String(120)),
    Column("state", String(10), nullable=False, comment="queued | held | delivered | failed | expired | cancelled"),
    Column("reason", String(60)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("next_attempt_at", nullable=False),
    _time("deadline_at"),
    _time("settled_at"),
    PrimaryKeyConstraint("society", "id"),
    Index(
        "ix_outbox_due",
        "lane",
        "next_attempt_at",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index("uq_outbox_dedupe", "society", "dedupe_key", unique=True),
    Index("ix_outbox_member", "society", "member_id"),
    Index("ix_outbox_recipient", "society", "recipient"),
    Index("ix_outbox_settled", "settled_at"),
)

attempt = Table(
    "attempt",
    metadata,
    _society(),
    _id("outbox_id"),
    Column("number", Integer, nullable=False),
    _time("at", nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("relay_reply", Text, nullable=False, comment="the relay's own words"),
    PrimaryKeyConstraint("society", "outbox_id", "number"),
    ForeignKeyConstraint(["society", "outbox_id"], ["outbox.society", "outbox.id"], ondelete="CASCADE"),
)

budget = Table(
    "budget",
    metadata,
    Column("society", String(31), nullable=False),
    Column("scope", String(16), nullable=False, comment="address | domain | network | society | web | login | captcha"),
    Column("subject", String(320), nullable=False),
    _time("minute_at", nullable=False),
    Column("minute_count", Integer, nullable=False),
    _time("hour_at", nullable=False),
    Column("hour_count", Integer, nullable=False),
    _time("day_at", nullable=False),
    Column("day_count", Integer, nullable=False),
    PrimaryKeyConstraint("society", "scope", "subject"),
    Index("ix_budget_day", "day_at"),
    comment="Counters of windows that began at …_at.",
)

captcha_used = Table(
    "captcha_used",
    metadata,
    _society(),
    _id(),
    _time("expires_at", nullable=False),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_captcha_used_expires", "expires_at"),
    comment="Challenges that were answered, right or wrong: none counts twice.",
)

alarm = Table(
    "alarm",
    metadata,
    _society(),
    Column("kind", String(40), nullable=False),
    Column("text", Text, nullable=False),
    Column("count", Integer, nullable=False),
    _time("first_at", nullable=False),
    _time("last_at", nullable=False),
    PrimaryKeyConstraint("society", "kind"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(40), nullable=False),
    _time("until", nullable=False),
)

roster_batch = Table(
    "roster_batch",
    metadata,
    _society(),
    _id(),
    _time("at", nullable=False),
    Column("actor", String(80), nullable=False),
    Column("file_digest", LargeBinary, nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("state", String(8), nullable=False, comment="staged | going | live | undone"),
    Column("joined", Integer, nullable=False, server_default="0"),
    Column("changed", Integer, nullable=False, server_default="0"),
    Column("left", Integer, nullable=False, server_default="0"),
    Column("same", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("society", "id"),
    Index("ix_roster_batch_at", "society", "at"),
)

roster_stage = Table(
    "roster_stage",
    metadata,
    _society(),
    _id("batch_id"),
    Column("line", Integer, nullable=False),
    Column("member_id", BigInteger, nullable=False),
    Column("person_key", LargeBinary, nullable=False),
    Column("household", LargeBinary),
    Column("sealed", LargeBinary, nullable=False),
    Column("row_digest", LargeBinary, nullable=False),
    Column("name_index", LargeBinary),
    Column("kana_index", LargeBinary),
    Column("number_index", LargeBinary),
    Column("file_address_index", LargeBinary),
    Column("protected", Boolean, nullable=False),
    Column("left_on", String(10)),
    Column("sealed_nickname", LargeBinary),
    Column("temporary_id", BigInteger),
    Column("temporary_login_key", LargeBinary),
    Column("sealed_login_id", LargeBinary),
    Column("sealed_password", LargeBinary),
    Column("kid", Integer),
    Column("format", String(16)),
    Column("verdict", String(8), comment="joined | changed | same"),
    PrimaryKeyConstraint("society", "batch_id", "line"),
    Index("ix_roster_stage_person", "society", "batch_id", "person_key"),
)

roster_change = Table(
    "roster_change",
    metadata,
    _society(),
    _id("batch_id"),
    _id("member_id"),
    Column("kind", String(8), nullable=False, comment="joined | changed | left"),
    Column("sealed_before", LargeBinary),
    Column("digest_before", LargeBinary),
    Column("left_on_before", String(10)),
    Column("protected_before", Boolean),
    PrimaryKeyConstraint("society", "batch_id", "member_id"),
    comment="What a batch changed, for diff and undo.",
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _time("at", nullable=False),
    Column("actor", String(80), nullable=False),
    Column("event", String(40), nullable=False),
    Column("society", String(31), nullable=False),
    Column("member_id", BigInteger),
    Column("facts", Text, nullable=False, comment="JSON, no secrets, no addresses"),
    Column("digest", LargeBinary, nullable=False, comment="sha256 over the digest before and this row"),
    Index("ix_audit_member", "society", "member_id"),
    Index("ix_audit_at", "at"),
)
