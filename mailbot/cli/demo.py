"""`mailbot demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from mailbot import demo, resources, telemetry
from mailbot.cli import common


def register(command: typer.Typer) -> None:
    command.command("demo")(run)


def run(
    once: Annotated[bool, typer.Option("--once", help="End after the tour; status 0 only if every step held.")] = False,
) -> None:
    """The whole robot with invented members and a built-in mailbox: a tour, then a page to try it by hand."""
    telemetry.configure("warning", "text")
    own = common.options.config
    folder = own if (own / "mailbot.toml").exists() else resources.folder("config")
    if not common.run(demo.run(folder, once=once)):
        raise typer.Exit(1)
