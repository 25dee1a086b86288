"""A network and a list of mounts of our own, in which the campaign lives: what it makes there, nobody else sees, and it
is gone with the last process, however that ends."""

import os
import shutil
import subprocess
import sys

INSIDE = "FLEETCAST_CLUSTER_INSIDE"
TOOLS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
}


def why_not() -> str:
    """Why this process cannot have network namespaces and disks; empty: it can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces and loop mounts: run it with sudo"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"there is no {', '.join(missing)}: apt install {' '.join(sorted({TOOLS[t] for t in missing}))}"
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


def enter(module: str, arguments: list[str]) -> None:
    """Begin this program anew inside, unless it is there already; does not return then."""
    if os.environ.get(INSIDE) == "1":
        _prepare()
        return
    words = ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, "-m", module, *arguments]
    os.execvpe("unshare", words, {**os.environ, INSIDE: "1"})  # no shell


def _prepare() -> None:
    # Names of network namespaces are mounts below /run/netns: a place of our own leaves no name behind.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
