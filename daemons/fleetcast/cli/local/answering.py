"""The port of a local fleet's gateway: the one that the examples use, or another that is free."""

from fleetcast.cli.output import Output
from fleetcast.cli.problems import Problem
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.local import LOOPBACK
from fleetcast.daemons.gateway import INSTALL, missing
from fleetcast.transport.listening import free_port


def port_of_gateway(out: Output, asked: int | None) -> int | None:
    """The port to use; None: no gateway runs, and why was said.

    Args:
        out: where that is said.
        asked: what was asked for; 0: a free one, None: the usual one, if it is free.

    Raises:
        Problem: the port that was asked for is taken, or a gateway was and cannot run.
    """
    if lacking := missing():
        said = f"no gateway: {' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} not installed; {INSTALL}"
        if asked is not None:
            raise Problem("missing", said, next_step=INSTALL)
        out.say(said)
        return None
    wanted = GatewaySettings().port if asked is None else asked
    try:
        return free_port(LOOPBACK, wanted)
    except OSError as error:
        why = f"port {wanted} of {LOOPBACK} cannot be listened on: {error.strerror}"
        if asked is not None:
            raise Problem(
                "port_taken",
                f"no gateway: {why}",
                next_step="fleetcast up --gateway-port 0    (takes a free one)",
            ) from error
        out.say(f"no gateway: {why}; --gateway-port 0 takes a free one")
        return None


def any_port_of_gateway() -> int | None:
    """The usual port, or a free one where that is taken; None: no gateway can run here."""
    if missing():
        return None
    try:
        return free_port(LOOPBACK, GatewaySettings().port)
    except OSError:
        return free_port(LOOPBACK, 0)
