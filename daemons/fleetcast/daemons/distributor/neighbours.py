"""Neighbours: tells the swarm who joined, and hears who else did; heartbeats repair what messages missed."""

import asyncio
import contextlib
import random
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from fleetcast.bus import Entry, Message
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.distributor import rollcall
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.rules import answers, dials, of_interest
from fleetcast.daemons.distributor.swarm import source
from fleetcast.events.payloads import Origin
from fleetcast.events.state import NodeStatus, PeerNotice, peer_subject
from fleetcast.transport.protocol import Source

log = structlog.get_logger("fleetcast.distributor.neighbours")

NOTICES = "fc.peer.*"
ANSWERS = "fc.peer.*.{node}"
MAX_WAITING = 4096
"""Notices that wait to be taken."""


class Neighbours:
    """Keeps the swarm book and the transport's sources up to date."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._statuses: dict[str, NodeStatus] = {}
        self._joined: dict[str, bool] = {}
        self._heard: asyncio.Queue[Message] = asyncio.Queue(MAX_WAITING)
        self.on_joiner: Callable[[str, str], None] = lambda _artifact, _node: None
        """Told (artifact, node) when another node begins to fetch."""

    @property
    def statuses(self) -> tuple[NodeStatus, ...]:
        """The last heartbeat of every node, this one included."""
        return tuple(self._statuses.values())

    @property
    def nodes(self) -> frozenset[str]:
        """All nodes whose distributor was heard of within the life of the bucket."""
        return frozenset(self._statuses)

    async def announce(self, artifact: str, *, complete: bool) -> None:
        """Tell the others that this node is in the swarm, or holds it all."""
        self._joined[artifact] = complete
        await self._parts.bus.send(peer_subject(artifact), self._notice(artifact, complete))

    def note_origin(self, artifact: str, origin: Origin) -> None:
        """An origin holds what it offers, where its last heartbeat says that it serves it; an offer may be old."""
        heard = self._statuses.get(origin.node)
        endpoints = heard.endpoints if heard else origin.endpoints
        self._parts.swarm.note(artifact, origin.node, endpoints, complete=True)
        self._parts.swarm.set_origin(artifact, origin.node)

    async def leave(self, artifact: str) -> None:
        """Tell the others that this node is no source of the artifact any more."""
        self._joined.pop(artifact, None)
        await self._parts.bus.send(peer_subject(artifact), self._notice(artifact, complete=False, left=True))

    def _notice(self, artifact: str, complete: bool, *, left: bool = False, answer: bool = False) -> bytes:
        return (
            PeerNotice(
                artifact=artifact,
                node=self._parts.node,
                endpoints=self._parts.endpoints,
                complete=complete,
                left=left,
                answer=answer,
            )
            .model_dump_json()
            .encode()
        )

    def hear(self, message: Message) -> None:
        """Queue a notice from the bus; beyond the limit it is dropped, and the next heartbeat repairs that."""
        with contextlib.suppress(asyncio.QueueFull):
            self._heard.put_nowait(message)

    async def take(self, message: Message) -> None:
        """Take a notice."""
        try:
            notice = PeerNotice.model_validate_json(message.data)
        except ValidationError as invalid:
            log.warning("peer.notice_invalid", subject=message.subject, errors=invalid.error_count())
            return
        if notice.node == self._parts.node:
            return
        is_new = self._parts.swarm.take_notice(notice)
        if not notice.complete and not notice.left and not notice.answer:
            self.on_joiner(notice.artifact, notice.node)
        complete = self._joined.get(notice.artifact)
        if complete is None or notice.left:
            return
        if not complete and self._dials(notice) and (is_new or notice.answer):
            if self._parts.swarm.spares(notice.artifact, notice.node):
                return
            await self._hand_over(notice.artifact, source(notice.node, notice.endpoints, complete=notice.complete))
        elif not notice.answer and not notice.complete:
            await self._answer(notice, complete)

    def _dials(self, notice: PeerNotice) -> bool:
        """Whether this node, which fetches, opens the connection; who answers waits to be dialled."""
        return notice.answer or dials(self._parts.node, notice.node, other_complete=notice.complete)

    async def _answer(self, notice: PeerNotice, complete: bool) -> None:
        if answers(self._parts.swarm.members(notice.artifact), _draw()):
            reply = self._notice(notice.artifact, complete, answer=True)
            await self._parts.bus.send(f"{peer_subject(notice.artifact)}.{notice.node}", reply)

    async def take_heartbeat(self, entry: Entry) -> None:
        """Take a node's heartbeat, or learn that it expired (empty data)."""
        node = entry.subject.rsplit(".", 2)[-2]
        if not entry.data:
            self._statuses.pop(node, None)
            self._parts.swarm.forget_node(node)
            return
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            return  # written by a newer version: not ours to judge
        if status.daemon != "distributor":
            return
        status = of_interest(status, self._parts.carries)
        self._statuses[status.node] = status
        if status.node == self._parts.node:
            return
        if status.endpoints.bt is not None:
            self._parts.bittorrent.know(status.node, status.endpoints.bt)
        for artifact in self._parts.swarm.take_heartbeat(status):
            # Who fetches dials; a node that has everything and dialled would be asked for all of it (ADR 0012).
            if self._joined.get(artifact) is False:
                complete = status.node in self._parts.swarm.holders(artifact)
                await self._hand_over(artifact, source(status.node, status.endpoints, complete=complete))

    async def _hand_over(self, artifact: str, found: Source) -> None:
        """Tell whichever transport fetches the artifact."""
        for transport in self._parts.transports.values():
            await transport.add_sources(artifact, (found,))

    async def listen(self) -> None:
        """Hear notices and answers until cancelled."""
        bus = self._parts.bus
        stops = [
            await bus.listen(NOTICES, self.hear),
            await bus.listen(ANSWERS.format(node=self._parts.node), self.hear),
        ]
        try:
            while True:
                await self.take(await self._heard.get())
        finally:
            for stop in stops:
                await stop()

    async def watch_heartbeats(self) -> None:
        """Take in the heartbeats of all nodes until cancelled."""
        async for entry in rollcall.heartbeats(self._parts.bus):
            await self.take_heartbeat(entry)

    async def is_known(self, node: str) -> bool:
        """Whether a distributor of this name was heard of within the life of the bucket; in a large fleet the last
        look at all heartbeats may be older than its first.

        Raises:
            TransportFailed: the bus does not answer.
        """
        if node in self._statuses:
            return True
        return await self._parts.bus.kv_get(NODES_BUCKET, f"{node}.distributor") is not None


def _draw() -> float:
    return random.random()  # noqa: S311 - thins out answers, protects nothing
