"""What every daemon shares: logs, notifications to systemd, heartbeats, signals and the order of shutdown. No rules of
any daemon.
"""

from fleetcast.daemons.runtime.lifecycle import Daemon, run_daemon
from fleetcast.daemons.runtime.logs import bind_correlation
from fleetcast.daemons.runtime.progress import Progress
from fleetcast.daemons.runtime.roots import Grace, Roots, Stage

__all__ = ["Daemon", "Grace", "Progress", "Roots", "Stage", "bind_correlation", "run_daemon"]
