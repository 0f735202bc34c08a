"""The `mailbot` command. One file a command group; each is thin: parse, call, print."""

from __future__ import annotations

import typer

from mailbot.cli import (
    alarm,
    audit,
    check,
    common,
    database,
    demo,
    imap,
    keys,
    member,
    notice,
    purge,
    queue,
    revoke,
    roster,
    serve,
    society,
    suppression,
)
from mailbot.cli import help as help_desk


def _main(config: common.Config = common.DEFAULT_CONFIG) -> None:
    """An e-mail-driven registration robot for health-insurance societies."""
    common.options.config = config


def build() -> typer.Typer:
    """The command with all its groups."""
    command = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    command.callback()(_main)
    groups = (
        serve, demo, check, database, keys, society, roster, member, notice,
        help_desk, imap, queue, suppression, revoke, purge, audit, alarm,
    )  # fmt: skip
    for group in groups:
        group.register(command)
    return command


def main() -> None:
    """Entry point of the program."""
    build()(prog_name="mailbot")
