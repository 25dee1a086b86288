"""Lanes: what starts training. Definitions from TOML, the bucket that counts samples, the ledger of each lane, and the
job that is queued when a run is due. What a run does once a node has it is no part of this."""
