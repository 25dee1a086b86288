"""Parent of one rsync: ends all of rsync's processes when the daemon is gone.

rsync splits itself in two, and one half goes on writing when the other is killed (tried with 3.5.0). The guard leads
their process group and holds a pipe from the daemon: its end, by whatever cause, is the end of the group.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_with_the_daemon() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run *command* and return its exit code."""
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as e:
        sys.stderr.write(f"{command[0]}: {e.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
