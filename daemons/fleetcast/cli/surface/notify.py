"""Commands about the messages that people get."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "On call"

ChannelName = Annotated[str | None, typer.Argument(metavar="[CHANNEL]", help="This one only.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    notify = typer.Typer(help="See whether people are told: channels, what waits, what could not be delivered.")
    app.add_typer(notify, name="notify", rich_help_panel=PANEL)

    @command(notify, "status")
    def status(call: Call, channel: ChannelName = None) -> Exit:
        """Show every channel: what waits, how it goes, and what was given up; exit 1 when one fails."""
        from fleetcast.cli.notices import status as run

        return run(call, channel)

    @command(notify, "test")
    def test(call: Call, channel: ChannelName = None) -> Exit:
        """Send a test message through a channel, or through all of them, past whatever waits; exit 1 when one fails or
        there is none."""
        from fleetcast.cli.notices import test as run

        return run(call, channel)
