"""What aria2 is told to do for one transfer, and what it says about it: one download per file."""

import asyncio
import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetcast.config.settings import Aria2Settings
from fleetcast.events.content import Content
from fleetcast.transport.aria2 import options
from fleetcast.transport.aria2.child import CallRefused, Child, ChildGone, Nursery
from fleetcast.transport.aria2.control import pieces_of
from fleetcast.transport.aria2.files import WorkFolder
from fleetcast.transport.aria2.ledger import Ledger
from fleetcast.transport.aria2.metalink import metalink
from fleetcast.transport.aria2.mirrors import Mirror
from fleetcast.transport.errors import TransferFailed

STOP_SECONDS = 2.0
"""Time for aria2 to let go of a download; it takes one turn of its loop."""
_KEYS = ["status", "bitfield", "completedLength", "errorCode", "errorMessage"]
_STOP_LOOK_SECONDS = 0.01


@dataclass(slots=True, eq=False)
class Download:
    """A file that aria2 fetches: `mirrors` are those it may ask now, `asked` all that it could ask so far."""

    index: int
    gid: str
    mirrors: tuple[Mirror, ...]
    asked: set[Mirror]
    completed: int
    claimed: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Seen:
    """A download as aria2 describes it.

    Attributes:
        pieces: finished since the last look.
        received: bytes received since then.
        speeds: bytes per second by mirror.
        state: `active`, `waiting`, `complete`, `error` or `removed`.
        code: aria2's number of the error (its manual, "Exit status").
    """

    download: Download
    pieces: tuple[int, ...]
    received: int
    speeds: Mapping[Mirror, int]
    state: str
    code: int
    message: str

    @property
    def ended(self) -> bool:
        """Whether aria2 does no more for it."""
        return self.state in {"complete", "error", "removed"}


class Downloads:
    """The downloads of one transfer, by file."""

    def __init__(
        self, nursery: Nursery, content: Content, ledger: Ledger, work: WorkFolder, settings: Aria2Settings
    ) -> None:
        self._nursery, self._content, self._ledger = nursery, content, ledger
        self._work, self._settings = work, settings
        self._child: Child | None = None
        self.running: dict[int, Download] = {}

    async def start(self, index: int, mirrors: Sequence[Mirror], per_host: int) -> None:
        """Fetch what is missing of a file.

        Raises:
            ChildGone: aria2 died.
            TransferFailed: it cannot be started, or does not take the order.
        """
        self._child = child = await self._nursery.child()
        file, ledger = self._content.files[index], self._ledger
        await asyncio.to_thread(self._work.order, index, ledger.control(index))
        urls = [self._url(mirror, index) for mirror in mirrors]
        document = base64.b64encode(metalink(str(index), file.size, ledger.piece_length, urls)).decode()
        order = options.download(self._settings, folder=str(self._work.path), per_host=per_host)
        try:
            gids = await child.call("aria2.addMetalink", document, dict(order))
        except CallRefused as e:
            raise TransferFailed(f"aria2 does not take the download: {e}") from e
        self.running[index] = Download(
            index, gids[0], tuple(mirrors), set(mirrors), completed=ledger.proven_bytes_of(index)
        )

    async def tell(self, mirrors: Sequence[Mirror]) -> None:
        """Let every download ask these mirrors, and no others.

        Raises:
            ChildGone: aria2 died.
        """
        for download in list(self.running.values()):
            if not mirrors or set(download.mirrors) == set(mirrors) or self._child is None:
                continue
            # aria2 lists a URL once for each connection, and takes out one of them per word.
            often = self._settings.max_sources * self._settings.connections_per_source
            old = [self._url(m, download.index) for m in download.mirrors if m not in mirrors] * often
            new = [self._url(m, download.index) for m in mirrors if m not in download.mirrors]
            with contextlib.suppress(CallRefused):  # it has just ended
                await self._child.call("aria2.changeUri", download.gid, 1, old, new)
            download.mirrors = tuple(mirrors)
            download.asked.update(mirrors)

    async def look(self) -> list[Seen]:
        """Ask how things stand.

        Raises:
            ChildGone: aria2 died.
        """
        downloads = list(self.running.values())
        if not downloads or self._child is None:
            return []
        status = [("aria2.tellStatus", (d.gid, _KEYS)) for d in downloads]
        servers = [("aria2.getServers", (d.gid,)) for d in downloads]
        answers = await self._child.calls([*status, *servers])
        both = zip(downloads, answers[: len(downloads)], answers[len(downloads) :], strict=True)
        return [self._seen(d, status or {"status": "removed"}, servers) for d, status, servers in both]

    async def stop(self, index: int) -> Seen | None:
        """End a download and return its last state; None when it was not running.

        Raises:
            ChildGone: aria2 died.
        """
        download = self.running.get(index)
        if download is None or self._child is None:
            return None
        with contextlib.suppress(CallRefused):
            await self._child.call("aria2.forceRemove", download.gid)
        seen = await self._end_of(download, self._child)
        await self.drop(index)
        return seen

    async def drop(self, index: int) -> None:
        """Forget a download that has ended.

        Raises:
            ChildGone: aria2 died.
        """
        download = self.running.pop(index, None)
        if download is not None and self._child is not None:
            with contextlib.suppress(CallRefused):
                await self._child.call("aria2.removeDownloadResult", download.gid)
        await asyncio.to_thread(self._work.forget, index)

    async def lose(self) -> None:
        """The child died or hangs: its downloads are gone."""
        self.running.clear()
        child, self._child = self._child, None
        if child is not None:
            await self._nursery.lose(child)

    async def _end_of(self, download: Download, child: Child) -> Seen:
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while True:
            try:
                status = await child.call("aria2.tellStatus", download.gid, _KEYS)
            except CallRefused:
                status = {"status": "removed"}
            seen = self._seen(download, status, None)
            if seen.ended:
                return seen
            if asyncio.get_running_loop().time() > deadline:
                raise ChildGone("it does not let go of a download")
            await asyncio.sleep(_STOP_LOOK_SECONDS)

    def _seen(self, download: Download, status: Mapping[str, Any], servers: Any) -> Seen:
        index, count = download.index, self._ledger.count(download.index)
        whole = status["status"] == "complete"
        finished = set(range(count)) if whole else set(pieces_of(bytes.fromhex(status.get("bitfield", "")), count))
        new = finished - download.claimed
        download.claimed |= new
        completed = self._ledger.size(index) if whole else int(status.get("completedLength", download.completed))
        received, download.completed = max(0, completed - download.completed), max(completed, download.completed)
        return Seen(
            download=download,
            pieces=tuple(sorted(new)),
            received=received,
            speeds=self._speeds(download, servers),
            state=status["status"],
            code=int(status.get("errorCode", 0)),
            message=status.get("errorMessage", ""),
        )

    def _speeds(self, download: Download, servers: Any) -> dict[Mirror, int]:
        by_url = {self._url(mirror, download.index): mirror for mirror in download.asked}
        speeds: dict[Mirror, int] = {}
        for server in servers[0]["servers"] if servers else ():
            mirror = by_url.get(server["uri"])
            if mirror is not None:
                speeds[mirror] = speeds.get(mirror, 0) + int(server["downloadSpeed"])
        return speeds

    def _url(self, mirror: Mirror, index: int) -> str:
        return mirror.url(self._content.artifact, self._content.files[index].path)
