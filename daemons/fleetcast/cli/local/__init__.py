"""Fleets on this machine: a NATS server and nodes as child processes, for `up` and `demo`. Belongs here: folders,
settings files, starting and stopping in order. Must not be here: anything that a fleet on many machines needs too."""
