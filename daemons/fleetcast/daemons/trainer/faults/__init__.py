"""Faults of runs: what kind of fault it was, what is done about it, and when a node or a run may use its GPU again.

Pure: `signatures` (the table, `signatures.toml`), `classify`, `policy`, `guidance`, `quarantine`, `returning` and
`judging`. Shells: `kernel` (the kernel's messages), `probe` with `probe_child` (does the GPU work?), `book`
(quarantined nodes), `desk` (an end becomes a judgement), `fallback` (what a run's log says), `ward` (ends quarantines,
and finds GPUs for runs that fell back). Nothing here starts, stops or claims a run.
"""
