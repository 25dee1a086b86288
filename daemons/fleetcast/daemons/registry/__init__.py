"""The registry daemon: decides transitions, drives rollouts, and answers questions from its read model.

`desk` answers requests, `watching` knows the nodes, `driver` takes the steps of rollouts, `adoption` brings in what was
there before; `projector` and `queries` keep and serve the read model. Decisions are made in `fleetcast.registry`.
"""

from fleetcast.daemons.registry.daemon import main

__all__ = ["main"]
