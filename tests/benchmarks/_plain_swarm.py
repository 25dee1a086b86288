"""A member of a swarm made of libtorrent's defaults; its arguments are those of `main`.

It takes part once it reads a line, and writes its moments to the file that FC_DONE names.
"""

import json
import os
import sys
import time
from pathlib import Path

import libtorrent as lt

POLL_SECONDS = 0.05


def main(torrent: str, folder: str, address: str, port: str, peers: str) -> None:
    """Join, and stay."""
    session = lt.session({"listen_interfaces": f"{address}:{port}"})
    info = lt.torrent_info(torrent)
    say("ready")
    sys.stdin.readline()
    handle = session.add_torrent({"ti": info, "save_path": folder})
    for peer in peers.split(","):
        if peer != address:
            handle.connect_peer((peer, int(port)))
    watch(handle, Path(os.environ["FC_DONE"]), info.total_size())


def watch(handle: lt.torrent_handle, done: Path, size: int) -> None:
    """Note the moments until everything is here."""
    moments: dict[str, float] = {}
    while True:
        status = handle.status()
        if status.total_payload_download:
            moments.setdefault("first_byte", time.time())
        if status.total_wanted_done >= 0.99 * size:
            moments.setdefault("nearly", time.time())
        if status.is_seeding and "proven" not in moments:
            moments["proven"] = time.time()
            new = done.with_suffix(".new")
            new.write_text(json.dumps(moments))
            new.rename(done)
            say("seeding")
        time.sleep(POLL_SECONDS)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
