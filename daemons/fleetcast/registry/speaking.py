"""In whose name a process speaks: inside a lane's run in that of the run, under the claim by which its node has it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from fleetcast.client.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Speaker:
    """A run that a lane started, and the number of its claim."""

    run: str
    claim: int


def speaker(environ: Mapping[str, str] | None = None) -> Speaker | None:
    """Who speaks in this process, by the environment that the trainer gave to the job; None: nobody's run does. As
    `fleetcast.client.emit` has it."""
    own = Assignment(os.environ if environ is None else environ)
    return Speaker(own.run, own.claim) if own.run is not None and own.claim is not None else None


def claim_for(run: str | None, own: Speaker | None) -> tuple[str | None, int | None]:
    """Run and claim of what is said about *run* (None: nobody said one): the claim is the own run's alone."""
    if own is None or run not in {None, own.run}:
        return run, None
    return own.run, own.claim
