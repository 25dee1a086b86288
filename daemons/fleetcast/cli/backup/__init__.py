"""`fleetcast backup`: the streams of a fleet as one sealed file, and back into an empty cluster.

`sealing` knows keys and bytes, `archive` the file, `manifest` what is said of it, `rules` what is kept and what is
refused: none of them knows NATS. `taking`, `restoring` and `drilling` join them to a cluster; `commands` talk.
"""
