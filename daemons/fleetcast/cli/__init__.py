"""The command line: what a person or a script types. Belongs here: options, what is printed, exit codes, and the local
fleets of `up` and `demo`. Must not be here: decisions about models, slots or transfers; the layers below take those.

Importing this package costs nothing: every command imports what it needs in its own body, because `fleetcast --help`
must not pay for NATS, pydantic or libtorrent."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    import sys

    from fleetcast.cli.entry import run

    sys.exit(run(sys.argv[1:]))
