"""`mailbot serve`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
import uvloop

from mailbot import app, telemetry
from mailbot.cli import common
from mailbot.config import ConfigError
from mailbot.private import StartProblem


def register(command: typer.Typer) -> None:
    command.command()(serve)


def serve(
    role: Annotated[
        list[app.Role] | None, typer.Option(help="Run only this role (repeat for more); needs PostgreSQL.")
    ] = None,
) -> None:
    """Run the robot: all roles, or the ones named. SIGTERM drains and ends, SIGHUP re-reads all files."""
    try:
        log = common.settings().site.log
        telemetry.configure(log.level, log.format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.serve(common.options.config, role or list(app.Role)))
    except* (ConfigError, StartProblem) as errors:
        raise common.fail(errors.exceptions[0]) from None
    except* OSError as errors:
        raise common.fail(errors.exceptions[0]) from None
