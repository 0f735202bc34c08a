"""Event vocabulary -> log lines and counters; redaction lives here.

Rooms say what happened with `emit("smtp.refused", reason=…)`. Each event is a row of docs/events.md. Values are
escaped, cut, and mail addresses lose their local part before anything is written: a log may be read by people who may
not know who is a member.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
_EVENTS = Counter("mailbot_events_total", "Events by name and reason", ["event", "reason"], registry=REGISTRY)
SECONDS = Histogram(
    "mailbot_seconds",
    "Time of the steps of a mail's way",
    ["step"],
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
QUEUE = Gauge("mailbot_queue_mails", "Mails in the outbox", ["society", "lane", "state"], registry=REGISTRY)
QUEUE_AGE = Gauge("mailbot_queue_oldest_seconds", "Age of the oldest queued mail", ["lane"], registry=REGISTRY)
RELAYED = Counter(
    "mailbot_relay_mails_total", "Attempts to hand a mail to a relay", ["relay", "outcome"], registry=REGISTRY
)
RESTING = Gauge("mailbot_relay_resting", "1 while a relay is left alone after it failed", ["relay"], registry=REGISTRY)
LOOKUPS = Counter(
    "mailbot_dns_lookups_total", "Questions to the DNS about senders, cached ones too", ["outcome"], registry=REGISTRY
)
ALARMS = Gauge("mailbot_alarms", "Alarms raised in the last day", ["kind"], registry=REGISTRY)
MAILBOX_UP = Gauge("mailbot_imap_up", "Whether this process watches the mailbox", ["mailbox"], registry=REGISTRY)
MAILBOX_WAITING = Gauge(
    "mailbot_imap_waiting_mails", "Mails of the mailbox that are tried again later", ["mailbox"], registry=REGISTRY
)

MAX_VALUE = 200
_ADDRESS = re.compile(r"[^\s<>@,;:\"']{1,64}@((?:[\w-]{1,63}\.)+[\w-]{2,63})")
_TOKEN = re.compile(r"\b([a-z2-7]{6})[a-z2-7]{28}\b")
_QUIET = frozenset(
    {"mail.authenticated", "mail.received", "mail.settled", "smtp.accepted", "smtp.connected", "web.request"}
)
"""Counted always, logged only at debug level: one line a mail would cost more than the mail."""

_log = structlog.get_logger("mailbot")
_level = logging.INFO
_counters: dict[tuple[str, str], Any] = {}


def configure(level: str, form: str) -> None:
    """Sets up the process's log on standard error: `form` is "json" or "text"."""
    global _level
    _level = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_people,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    """For what the libraries log."""

    def format(self, record: logging.LogRecord) -> str:
        return _masked(super().format(record))


def _without_people(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A trace keeps its lines, but a database's words about a row may hold the row's address."""
    if "exception" in event:
        event["exception"] = _masked(event["exception"])
    return event


def _masked(text: str) -> str:
    return _TOKEN.sub(r"\1…", _ADDRESS.sub(r"***@\1", text))


def redact(value: object) -> object:
    """What may stand in a log: no local parts, no tokens, no control characters, at most 200 characters."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = _masked(str(value))
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def emit(event: str, **facts: object) -> None:
    """Counts an event and logs it. `reason=` becomes a metric label; `error=` an exception is logged with its trace."""
    label = (event, str(facts.get("reason") or ""))
    counter = _counters.get(label)
    if counter is None:
        counter = _counters[label] = _EVENTS.labels(*label)
    counter.inc()
    error = facts.pop("error", None)
    quiet = event in _QUIET
    if quiet and _level > logging.DEBUG:
        return
    shown = {name: redact(value) for name, value in facts.items()}
    if isinstance(error, BaseException):
        _log.error(event, **shown, exc_info=error)
    elif error is not None:
        _log.error(event, **shown, error=redact(error))
    elif quiet:
        _log.debug(event, **shown)
    else:
        _log.info(event, **shown)
