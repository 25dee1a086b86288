"""Who does a run: which nodes may (`eligibility.py`), who takes it (`claiming.py`), how long it is theirs
(`leasing.py`), and what becomes of a run whose node went silent (`takeover.py`). `rules.py` decides what a record
becomes, `store.py` writes it: every write is a compare-and-swap, so that of any number of trainers one wins.

Nothing here starts a process.
"""
