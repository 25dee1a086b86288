"""From what a command was told to the fleet that it means: settings, and a connection to NATS."""

import getpass
import logging
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleetcast.bus import Bus, connect, tracing
from fleetcast.cli.call import Call
from fleetcast.cli.local.ups import RunningUp, running_ups
from fleetcast.cli.problems import usage
from fleetcast.client.node import default_node_id
from fleetcast.config.loader import Loaded, load
from fleetcast.config.settings import Settings, TracingSettings

_NO_NAME = re.compile(r"[^A-Za-z0-9._@+-]")
"""What a name of a person cannot have inside a source, whose parts slashes tell apart."""


@dataclass(frozen=True)
class Target:
    """The fleet that a command is about.

    Attributes:
        loaded: settings and where each came from.
        up: the `fleetcast up` that was found, when nothing else said which fleet is meant.
    """

    loaded: Loaded
    up: RunningUp | None = None

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    @property
    def node(self) -> str:
        """The node that this command speaks for."""
        return self.settings.node.id or default_node_id()

    @property
    def source(self) -> str:
        """Who this command speaks for: CloudEvents source of what it publishes, actor of what it asks the registry."""
        return f"/fleet/{self.node}/cli/{person()}"


def person() -> str:
    """Whoever types the command, as the operating system calls them; nobody proves it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that nobody gave a name.
        name = f"uid-{os.getuid()}"
    return _NO_NAME.sub("_", name)[:100]


def target(call: Call) -> Target:
    """Settings by the usual rules. Where no file was read, a running `up` is meant when nothing says where NATS is, or
    what is said is its address: then its settings hold, with its first node as this one.

    Raises:
        ConfigError: the settings are wrong.
        Problem: several `up` are running, and nothing says which is meant.
    """
    flags: dict[str, object] = {"bus.url": call.server}
    loaded = load(call.config, env=environment(call), flags=flags)
    up = _running_up(loaded) if loaded.file is None else None
    return Target(load(up.config, env=environment(call), flags=flags), up) if up else Target(loaded)


def _running_up(loaded: Loaded) -> RunningUp | None:
    running = running_ups()
    if loaded.origins["bus.url"].kind != "default":
        return next((up for up in running if up.url == loaded.settings.bus.url), None)
    if len(running) > 1:
        configs = "  or  ".join(f"--config {up.config}" for up in running)
        raise usage("several `fleetcast up` are running", why="which one is meant cannot be told", next_step=configs)
    return running[0] if running else None


def environment(call: Call) -> dict[str, str]:
    """The process's environment, with the context that was chosen on the command line."""
    return dict(os.environ) | ({"NATS_CONTEXT": call.context} if call.context else {})


def _says_nothing(loaded: Loaded) -> bool:
    """Whether neither a file, nor a variable, nor a flag, nor a context has said where NATS is."""
    return loaded.file is None and loaded.origins["bus.url"].kind == "default"


@asynccontextmanager
async def connected(aim: Target) -> AsyncIterator[Bus]:
    """A connection for one command: it fails at once instead of waiting for a server to appear.

    Raises:
        BusUnavailable: nobody answers.
    """
    quiet_logs()
    async with connect(aim.settings.bus, node=aim.node, daemon="cli", wait=False) as bus:
        yield bus


@asynccontextmanager
async def traced(aim: Target) -> AsyncIterator[Bus]:
    """As `connected`, for a command that begins something: a trace begins with what it publishes, where traces are
    wanted and can be sent from here. What is left of it is sent once the connection is closed."""
    wanted = TracingSettings() if tracing.problem(aim.settings.tracing) else aim.settings.tracing
    with tracing.exporting(wanted, daemon="cli", node=aim.node):
        async with connected(aim) as bus:
            yield bus


def quiet_logs() -> None:
    """Keep the layers below from logging into a command's output: what goes wrong comes as an error."""
    # Python warns of every encrypted connection that a server ends: that it ended is said otherwise.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def absolute(path: Path) -> Path:
    """*path* seen from the working directory, without following links: the origin judges links itself."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links, absolute() keeps `..`
