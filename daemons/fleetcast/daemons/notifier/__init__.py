"""The notifier daemon: tells people what happened, through channels that may be down, each thing once.

`topics` folds events into what can be told, `routing` says to whom, `rules` when and together with what, `compose` in
which words: pure, all four. `intake` and `sender` carry that out over `ledger`, where everything that is still owed is
kept; `channels` speak to Slack, mail, PagerDuty and others. Who raises incidents, and why, is decided elsewhere.
"""

from fleetcast.daemons.notifier.daemon import main

__all__ = ["main"]
