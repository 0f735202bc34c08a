"""Fixtures that start real servers, and the rule that nothing is skipped where it counts."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings
from playwright.async_api import Browser

from tests.support.chromium import chromium
from tests.support.postfix import Postfix, postfix
from tests.support.postgres import Postgres, postgres
from tests.support.sink import Sink, sink

# The same examples on each run, and no clock: a slow machine is not a wrong program.
settings.register_profile("mailbot", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("mailbot")

_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for the whole worker."""
    with postgres() as running:
        yield running


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database that lives as long as the test."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
async def smtp_sink() -> AsyncIterator[Sink]:
    """An SMTP server in the test's own loop that keeps what it gets."""
    async with sink() as running:
        yield running


@pytest.fixture
def postfix_relay(smtp_sink: Sink) -> Iterator[Postfix]:
    """A Postfix that relays everything to `smtp_sink`."""
    with postfix(relay_port=smtp_sink.port) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium, fresh for the test."""
    async with chromium() as running:
        yield running


def _left_out(config: pytest.Config) -> list[str]:
    """One line for each test that did not really run."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return []
    lines = []
    for outcome in ("skipped", "xfailed", "xpassed"):
        for report in reporter.stats.get(outcome, []):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else outcome
            lines.append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _CI and _left_out(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := _left_out(config):
        terminalreporter.section("not tested on this machine" + (", so the run fails" if _CI else ""))
        for line in sorted(set(lines)):
            terminalreporter.line(line)
