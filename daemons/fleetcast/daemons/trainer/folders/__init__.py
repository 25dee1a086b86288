"""The folders of runs on a node: how long they are kept once their runs have ended, and their removal.

`rules.py` decides and is pure, `removal.py` takes folders away, `pruning.py` does it now and then and answers what is
asked, in the form of `commands.py`. Processes of runs are not looked after here (`leftovers.py`).
"""
