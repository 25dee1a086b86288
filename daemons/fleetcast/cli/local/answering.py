"""The port of a local fleet's gateway: the one that the examples use, or another that is free."""

import socket
from contextlib import closing

from fleetcast.cli.output import Output
from fleetcast.cli.problems import Problem
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.local import LOOPBACK
from fleetcast.daemons.gateway import INSTALL, missing


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
    found = _free(wanted)
    if found is None and asked is not None:
        raise Problem(
            "port_taken",
            f"port {asked} of {LOOPBACK} is taken, so that no gateway can listen there",
            next_step="fleetcast up --gateway-port 0    (takes a free one)",
        )
    if found is None:
        out.say(f"no gateway: port {wanted} of {LOOPBACK} is taken; --gateway-port 0 takes a free one")
    return found


def _free(port: int) -> int | None:
    """*port*, or a free one for 0; None: somebody has it."""
    with closing(socket.socket()) as probe:
        # As the gateway asks: connections of one that has just ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
