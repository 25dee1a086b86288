"""Supervision: the process of a training run, kept by a small supervisor process that outlives the daemon.

The supervisor process is `child.py`, with what it needs in `cage.py`, `folder.py`, `job.py`, `output.py`,
`processes.py` and `spec.py`: standard library only, because one of them lives beside every run. What the daemon does
lies in `supervisors.py` (start, adopt), `handle.py` (wait, stop) and `service.py` (logs for whoever asks). Nothing here
knows what a run is for, whose it is, or what is done about its end.
"""
