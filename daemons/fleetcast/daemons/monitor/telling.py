"""Says what judges decide, and keeps the record of what was said.

One atomic batch in FC_REMEDY holds the facts (they reach FC_EVENTS as `fc.ev.…`), what is now said of the models, and
the state of their shard, by compare-and-swap. So a thing is said once, whoever says it and however often it is
replayed, and a monitor that lost its shard cannot say anything any more.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from fleetcast.bus import BatchMessage, Bus, Lease
from fleetcast.bus.errors import BusError, Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.bus.streams import REMEDY
from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.daemons.monitor.consequences import Retired, Said, Saying, changed, key_of, retired
from fleetcast.daemons.monitor.shards import shard_of
from fleetcast.daemons.monitor.verdicts import VerdictEvent
from fleetcast.events.envelope import Event
from fleetcast.events.names import REMEDY_PREFIX
from fleetcast.events.verdicts import ModelVerdicts, ShardState, shard_subject, verdicts_subject
from fleetcast.registry.book import Book
from fleetcast.registry.commands import stamp
from fleetcast.registry.rules import dump

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

BATCH_VERDICTS: Final = 100
"""In one batch: each brings a few messages, of which a batch has at most a thousand."""
WAITING_VERDICTS: Final = 5000
"""Of one shard, while the bus is away: then what is newest of every signal is kept."""

News = VerdictEvent | Retired


class Fenced(Exception):
    """Another monitor has the shard: nothing of what was decided here about it can be said."""


@dataclass(slots=True)
class _Word:
    """Our word for a shard: the lease that it rests on, the revision of the shard's state, and what was said."""

    lease: Lease
    revision: int
    models: dict[str, ModelVerdicts]
    waiting: list[tuple[str, News]] = field(default_factory=list)


class Teller:
    """Says what judges decide, for the shards whose word is ours.

    Args:
        owner: node, daemon and the life of this process, for people.
        holds: whether the lease of a shard is good now, as far as our clock tells.
        fenced: called with a shard that turned out to be another's.
        told: called with every fact that was stored.

    Attributes:
        void: things that were decided and not said, because their shard was lost.
    """

    def __init__(
        self,
        bus: Bus,
        clock: ServerClock,
        *,
        owner: str,
        holds: Callable[[int], bool],
        fenced: Callable[[int], None] = lambda shard: None,
        told: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._bus = bus
        self._book = Book(bus, REMEDY, REMEDY_PREFIX, clock=clock.now)
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self._clock = clock
        self._owner = owner
        self._holds = holds
        self._fenced = fenced
        self._told = told
        self._words: dict[int, _Word] = {}
        self._something = asyncio.Event()
        self.void = 0

    # -- whose word counts

    async def take_over(self, leases: Mapping[int, Lease]) -> dict[int, dict[str, ModelVerdicts]]:
        """Make ours the word that counts for shards; what was said of their models, by shard. A shard that somebody
        with a newer lease has is left out, and given up.

        Raises:
            Conflict: somebody takes one right now.
            TransportFailed: the bus does not answer.
        """
        words: dict[int, _Word] = {}
        for shard, lease in leases.items():
            found = await self._book.find(shard_subject(shard), ShardState)
            if found.value is not None and found.value.fence > lease.fence:
                log.warning("shard.fenced", shard=shard, fence=lease.fence, owner=found.value.owner)
                self._fenced(shard)
                continue
            taken = BatchMessage(shard_subject(shard), dump(self._state(shard, lease)), found.sequence)
            words[shard] = _Word(lease, await self._bus.batch([taken]), {})
        # Read when nobody else can say anything any more.
        for said in await self._book.all((verdicts_subject("*"),), ModelVerdicts):
            if (word := words.get(shard_of(said.model))) is not None:
                word.models[said.model] = said
        self._words |= words
        return {shard: dict(word.models) for shard, word in words.items()}

    def lose(self, shard: int) -> None:
        """Our word for a shard counts no more: what waits to be said is void."""
        word = self._words.pop(shard, None)
        if word is not None and word.waiting:
            self.void += len(word.waiting)
            log.warning("verdicts.void", shard=shard, count=len(word.waiting))

    def said(self, model: str) -> ModelVerdicts | None:
        """What was last said of a model whose word is ours; None: nothing, or it is not."""
        word = self._words.get(shard_of(model))
        return word.models.get(model) if word else None

    def _state(self, shard: int, lease: Lease) -> ShardState:
        return ShardState(shard=shard, owner=self._owner, fence=lease.fence, at=stamp(self._clock.now()))

    # -- what is said

    def tell(self, model: str, news: Iterable[News]) -> None:
        """Say these soon; where the word is not ours they are void."""
        given = [(model, each) for each in news]
        word = self._words.get(shard_of(model))
        if word is None:
            self.void += len(given)
            return
        word.waiting += given
        if len(word.waiting) > WAITING_VERDICTS:
            word.waiting = _newest(word.waiting)
        if word.waiting:
            self._something.set()

    async def run(self) -> None:
        """Say what there is to say until cancelled."""
        failures = 0
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                for shard in [shard for shard, word in self._words.items() if word.waiting]:
                    await self._say(shard)
                failures = 0
            except BusError as away:
                failures += 1
                log.info("verdicts.waiting", reason=str(away), failures=failures)
            if any(word.waiting for word in self._words.values()):
                self._something.set()
                await asyncio.sleep(CONFLICT.delay(failures) if failures else 0)

    async def _say(self, shard: int) -> None:
        """Store one batch.

        Raises:
            BusError: not now; nothing was said, or the next try finds that it was.
        """
        word = self._words.get(shard)
        if word is None:
            return
        taken = word.waiting[:BATCH_VERDICTS]
        made = self._made(word, taken)
        facts = [fact for said in made for fact in said.facts]
        models = {said.after.model: said.after for said in made}
        try:
            if made:
                await self._store(shard, word, facts, models)
        except Fenced as fenced:
            log.warning("shard.fenced", shard=shard, fence=word.lease.fence, reason=str(fenced))
            self.lose(shard)
            self._fenced(shard)
            return
        word.models |= models
        # What came meanwhile stands behind it; where it was thinned out, what is said again is no news.
        word.waiting = [each for each in word.waiting if not any(each is done for done in taken)]
        for fact in facts:
            self._told(fact)

    def _made(self, word: _Word, taken: Sequence[tuple[str, News]]) -> list[Said]:
        """What is said of each, one after the other; what is no news is left out."""
        saying = Saying(self._source, self._clock.now(), word.lease.fence)
        models = dict(word.models)
        made = []
        for model, news in taken:
            known = models.get(model) or ModelVerdicts(model=model, at=stamp(saying.at))
            said = retired(known, news, saying) if isinstance(news, Retired) else changed(known, news, saying)
            if said.after is not known:
                models[model] = said.after
                made.append(said)
        return made

    async def _store(self, shard: int, word: _Word, facts: Sequence[Event], models: dict[str, ModelVerdicts]) -> None:
        # Our own clock first: a process that was stopped in between must not even try.
        if not self._holds(shard):
            raise Fenced("the lease was not renewed in time")
        messages = [
            *(self._book.fact_message(fact) for fact in facts),
            *(BatchMessage(verdicts_subject(model), dump(said)) for model, said in models.items()),
            BatchMessage(shard_subject(shard), dump(self._state(shard, word.lease)), word.revision),
        ]
        try:
            word.revision = await self._bus.batch(messages)
        except (Conflict, TransportFailed):
            await self._look_again(shard, word)
            raise

    async def _look_again(self, shard: int, word: _Word) -> None:
        """After a batch that was refused, or whose answer was lost: learn what is there.

        Raises:
            Fenced: another's word counts.
            TransportFailed: the bus does not answer.
        """
        found = await self._book.find(shard_subject(shard), ShardState)
        if found.value is None or found.value.fence != word.lease.fence:
            raise Fenced(f"it belongs to {found.value.owner}" if found.value else "its state is gone")
        every = await self._book.all((verdicts_subject("*"),), ModelVerdicts)
        word.models = {each.model: each for each in every if shard_of(each.model) == shard}
        word.revision = found.sequence


def _newest(waiting: Sequence[tuple[str, News]]) -> list[tuple[str, News]]:
    """Of every signal what is newest, in the order in which it came."""
    last = {
        (model, news.version if isinstance(news, Retired) else key_of(news)): place
        for place, (model, news) in enumerate(waiting)
    }
    return [waiting[place] for place in sorted(last.values())]
