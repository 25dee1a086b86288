"""The command line: what a person or a script types. Belongs here: options, what is printed, exit codes, and the local
fleets of `up` and `demo`. Must not be here: decisions about models, slots or transfers; the layers below take those.

Importing this package costs nothing: every command imports what it needs in its own body, because `fleetcast --help`
must not pay for NATS, pydantic or libtorrent."""

OBJECTS_BETWEEN_LOOKS = 10_000
"""Of the garbage collector. What is imported is no garbage: with Python's 700, a fifth of what it costs to start a
daemon is spent on looking for some there."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    import gc
    import sys

    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    from fleetcast.cli.entry import run

    code = run(sys.argv[1:])
    gc.freeze()  # nor is it looked through at the end: the process is over, and its memory with it
    sys.exit(code)
