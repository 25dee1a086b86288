"""Put on a daemon's PYTHONPATH by a test: breaks it in the one way that FAULT_VARIANT names (`variants.broken`)."""

import os
from collections.abc import Callable
from typing import Any


def _asks_the_mute_alone() -> None:
    """Of all sources only the one called "mute" is dialled, and nobody else is let in."""
    from fleetcast.transport.bittorrent import profile, transport
    from fleetcast.transport.bittorrent.dialling import Dialling

    profile.NETWORK["enable_incoming_tcp"] = False
    vars(transport)["dialling"] = lambda sources, **_: Dialling(tuple(s for s in sources if s.node == "mute"))


def _asks_without_end() -> None:
    """Whoever sends quickly is asked for megabytes in advance."""
    from fleetcast.transport.bittorrent import profile

    profile.SWARM["max_allowed_in_request_queue"] = 4000


def _believes_what_it_is_sent() -> None:
    """No byte that arrives is compared with what it should be."""
    from fleetcast.transport.aria2.fetching import Fetch
    from fleetcast.transport.bittorrent import profile
    from fleetcast.transport.pieces import PieceVerifier

    def believe(self: Any, pieces: Any) -> list[tuple[int, int]]:
        for file, piece in pieces:
            self._note(file, piece, self._content.files[file], right=True)
        return []

    async def accept(self: Any, mirror: Any, _: Any) -> None:
        self.book.accept(mirror)

    profile.SWARM["disable_hash_checks"] = True
    PieceVerifier.verify = believe  # type: ignore[method-assign]
    Fetch._probe = accept  # type: ignore[assignment, method-assign]


def _climbs_in_vain() -> None:
    """A full disk is taken for a fault of the sources."""
    from fleetcast.transport.bittorrent import fetching
    from fleetcast.transport.errors import TransferFailed

    vars(fetching)["StoreFull"] = TransferFailed


def _forgets() -> None:
    """What aria2 has brought is forgotten when it dies, and nobody looks for it on the disk."""
    from fleetcast.transport.aria2.downloads import Downloads
    from fleetcast.transport.aria2.fetching import Fetch

    lose = Downloads.lose

    async def nothing(_: Any) -> None:
        return

    async def forgetful(self: Any) -> None:
        await lose(self)
        for file, missing in enumerate(self._ledger.missing):
            missing.update(range(self._ledger.count(file)))

    Downloads.lose = forgetful  # type: ignore[method-assign]
    Fetch._salvage = nothing  # type: ignore[assignment, method-assign]


def _hears_no_rollouts() -> None:
    """What a rollout waits for is nobody's goal."""
    from fleetcast.daemons.distributor.rollouts import RolloutBook

    def deaf(self: Any, state: Any) -> None:
        return

    RolloutBook.take = deaf  # type: ignore[method-assign]


def _holds_every_order_for_news() -> None:
    """What was offered before an order was decided is taken for superseded by it."""
    from fleetcast.daemons.distributor import rules

    vars(rules)["_is_superseded"] = lambda offer, slot, *_: bool(slot) and 0 < offer.sequence < slot.cause.sequence


def _holds_on() -> None:
    """What nobody wants any more is fetched to its end."""
    from fleetcast.daemons.distributor.transfers import Transfers

    pursue = Transfers.pursue

    def holding_on(self: Any, wanted: dict[str, Any]) -> None:
        begun = {artifact: self._wanted[artifact] for artifact in self._running if artifact in self._wanted}
        pursue(self, {**begun, **wanted})

    Transfers.pursue = holding_on  # type: ignore[method-assign]


def _keeps_what_a_liar_sent() -> None:
    """Whoever sent wrong bytes is banned; what else it sent stays, and so does everybody who gets the blame for it."""
    from fleetcast.transport.bittorrent import bans, pardons, purging

    vars(purging)["worth_it"] = lambda _: False
    vars(pardons)["DOUBT_SECONDS"] = vars(bans)["DOUBT_SECONDS"] = -1.0


def _minds_one_thing() -> None:
    """What was wanted first is forgotten as soon as something else is wanted too."""
    from fleetcast.daemons.distributor.transfers import Transfers

    pursue, forgotten = Transfers.pursue, set[str]()

    def single_minded(self: Any, wanted: dict[str, Any]) -> None:
        forgotten.update(sorted(wanted, key=lambda artifact: str(wanted[artifact][1].name))[:-1])
        pursue(self, {artifact: goal for artifact, goal in wanted.items() if artifact not in forgotten})

    Transfers.pursue = single_minded  # type: ignore[method-assign]


def _rests_on() -> None:
    """A transport that rests does so to the end, whoever comes back meanwhile."""
    import asyncio

    from fleetcast.daemons.distributor.climbing import Climber

    async def deaf(_: Any, seconds: float, _answering: int) -> None:
        await asyncio.sleep(seconds)

    Climber._rest = deaf  # type: ignore[assignment, method-assign]


_VARIANTS: dict[str, Callable[[], None]] = {
    "asks the mute alone": _asks_the_mute_alone,
    "asks without end": _asks_without_end,
    "believes what it is sent": _believes_what_it_is_sent,
    "climbs in vain": _climbs_in_vain,
    "forgets": _forgets,
    "hears no rollouts": _hears_no_rollouts,
    "holds every order for news": _holds_every_order_for_news,
    "holds on": _holds_on,
    "keeps what a liar sent": _keeps_what_a_liar_sent,
    "minds one thing": _minds_one_thing,
    "rests on": _rests_on,
}
if variant := os.environ.get("FAULT_VARIANT"):
    _VARIANTS[variant]()
