"""The monitor: judges how the versions that are served perform, and asks for a remedy when they do not do well.

Decided in values: `policy` says by what, `watch` and `detector` count, `deciding` and `attribution` find what it means,
`judge` is one model's whole, `consequences` is what follows. Done around it: `flow` reads FC_PERF and replays it,
`judging` gives it to the judges, `shards` shares the models among monitors, `telling` says what was decided, `minutes`
keeps the counts, `refusing` tells what was not counted, `surroundings` knows slots and nodes, `queries` answers. What
is done about it (rollbacks, incidents) belongs to the remedy daemon.
"""

from fleetcast.daemons.monitor.daemon import main

__all__ = ["main"]
