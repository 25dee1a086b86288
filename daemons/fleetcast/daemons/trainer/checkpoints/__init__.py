"""Checkpoints of lanes' runs: which are durable, which one a run goes on from, which are kept, and how they come to
another node.

`durable`, `retention` and `cadence` decide over values and what lies on the disk; `keeper` writes what they decide,
under the run's claim; `watch` looks at one run; `courier` and `parcel` bring a checkpoint elsewhere. How a run is
started or ended has no place here.
"""
