"""Asks mirrors to send no more than a cap allows (`transport.pacing`): they hold a rate smoothly, and aria2 does not.

Every mirror has its part of the cap, and says how much it has sent; what one cannot use goes to the others. Where one
does not understand, nobody is asked, and aria2's own limiter alone holds the cap.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fleetcast.transport.pacing import LEAST_RATE, RATE, SENT, TOKEN
from fleetcast.transport.shares import Peak, Rate, demand, divide, is_worth_telling

ASK_SECONDS = 0.5
"""Distance of words to a mirror while its rate stays what it is."""
PATIENCE_SECONDS = 3.0
"""A mirror answers within milliseconds."""
AGAIN_SECONDS = 1.0
"""Distance of tries to reach one that did not, or that was busy."""
GOODBYE_SECONDS = 1.0
"""Longest that the end waits until mirrors are told that they need not keep to a rate any more."""
MOST_DIGITS = 18
"""Of a count of bytes: an exabyte is enough, and Python refuses to read numbers of thousands of digits."""
_MAX_HEAD_BYTES = 16 * 1024
_BUSY = {"429", "503"}


class NotUnderstood(Exception):
    """A mirror knows no rates: it is older, or foreign."""


class Busy(Exception):
    """A mirror has no room for us just now (RFC 9110, 15.6.4; RFC 6585, 4): it may know rates all the same."""


def parts(limit: int, told: Mapping[str, int], used: Mapping[str, float]) -> dict[str, int]:
    """Divide a cap among mirrors, in bytes per second; none where their parts would be too small to be obeyed.

    Args:
        told: their parts so far; 0 for who has none yet.
        used: what each sends at its best.
    """
    if not told or limit < LEAST_RATE * len(told):
        return dict.fromkeys(told, 0)
    return divide(limit, {mirror: demand(part, used[mirror]) for mirror, part in told.items()})


def request(base: str, token: str, rate: int) -> bytes:
    """Return the request for a rate, in bytes per second."""
    at = urlsplit(base)
    lines = (f"POST {at.path}/r/{token} HTTP/1.1", f"Host: {at.netloc}", f"{RATE}: {rate}", "Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def sent(head: bytes) -> int:
    """Read the head of an answer: how many bytes were sent so far.

    Raises:
        NotUnderstood: the mirror knows no rates.
        Busy: it may be asked again later.
    """
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    code, count = status.split(" ")[1:2], headers.get(SENT, "")
    if _BUSY.intersection(code):
        raise Busy
    if code != ["204"] or not (count.isascii() and count.isdigit()) or len(count) > MOST_DIGITS:
        raise NotUnderstood
    return int(count)


@dataclass(slots=True)
class _Mirror:
    """What is known of one: `rate` is what it is told, `obeys` whether it said so last, `left` whether it need only be
    told that it has none any more."""

    base: str
    rate: int = 0
    obeys: bool = False
    deaf: bool = False
    left: bool = False
    used: Rate = field(default_factory=Rate)
    peak: Peak = field(default_factory=Peak)
    peak_rate: float = 0.0
    heard: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    talk: asyncio.Task[None] | None = None

    def hear(self, count: int, now: float) -> None:
        """It has sent *count* bytes so far."""
        elapsed = now - self.heard if self.heard is not None else 0.0
        self.peak_rate = self.peak.sample(self.used.sample(count, elapsed), elapsed)
        self.heard = now


class Asking:
    """What the mirrors of one node are asked for.

    Attributes:
        header: what the requests of aria2 must have, so that mirrors know who they are for.
        news: set when a mirror obeys that did not, or the other way round.
    """

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self.header = f"{TOKEN}: {self._token}"
        self.news = asyncio.Event()
        self._mirrors: dict[str, _Mirror] = {}
        self._talks: set[asyncio.Task[None]] = set()

    def direct(self, limit: int, bases: Collection[str]) -> bool:
        """Let the mirrors at *bases* send *limit* bytes per second together, 0 for no cap; True: every one obeys.

        To be called again and again, since it is here that a cap is divided anew.
        """
        asked = [self._mirrors.setdefault(base, _Mirror(base)) for base in bases]
        self._leave(self._mirrors.keys() - set(bases))
        told = {mirror.base: mirror.rate for mirror in asked}
        deaf = not limit or any(mirror.deaf for mirror in asked)
        rates = parts(0 if deaf else limit, told, {mirror.base: mirror.peak_rate for mirror in asked})
        at_once = is_worth_telling(told, rates)
        for mirror in asked:
            mirror.left = False
            self._tell(mirror, rates[mirror.base], at_once=at_once)
        return bool(asked) and all(mirror.rate and mirror.obeys for mirror in asked)

    async def close(self) -> None:
        """Ask nobody any more."""
        self._leave(set(self._mirrors))
        talks = set(self._talks)
        if talks:
            await asyncio.wait(talks, timeout=GOODBYE_SECONDS)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    def _leave(self, bases: Collection[str]) -> None:
        """They are asked for nothing just now, and are told so: by themselves they would keep to the rate for long."""
        for base in bases:
            mirror = self._mirrors[base]
            mirror.left = True
            self._tell(mirror, 0, at_once=bool(mirror.rate))
            if mirror.talk is None or mirror.talk.done():
                del self._mirrors[base]

    def _tell(self, mirror: _Mirror, rate: int, *, at_once: bool) -> None:
        mirror.rate = rate
        if at_once:
            mirror.changed.set()
        if rate and not mirror.deaf and (mirror.talk is None or mirror.talk.done()):
            mirror.talk = asyncio.create_task(self._talk(mirror), name=f"rate of {mirror.base[:40]}")
            self._talks.add(mirror.talk)
            mirror.talk.add_done_callback(lambda talk: self._end(mirror, talk))

    def _end(self, mirror: _Mirror, talk: asyncio.Task[None]) -> None:
        self._talks.discard(talk)
        if mirror.left and mirror.talk is talk and self._mirrors.get(mirror.base) is mirror:
            del self._mirrors[mirror.base]

    async def _talk(self, mirror: _Mirror) -> None:
        """Tell a mirror its rate until it has none."""
        while mirror.obeys or not mirror.left:
            try:
                await self._converse(mirror)
                return
            except (NotUnderstood, ValueError):  # what is no address of anybody will not learn either
                mirror.deaf = True
                self._note(mirror, obeys=False)
                return
            except (Busy, OSError, EOFError, asyncio.LimitOverrunError):  # TimeoutError is an OSError
                self._note(mirror, obeys=False)
            if not mirror.left:
                await asyncio.sleep(AGAIN_SECONDS)

    def _note(self, mirror: _Mirror, *, obeys: bool) -> None:
        if mirror.obeys != obeys:
            mirror.obeys = obeys
            self.news.set()

    async def _converse(self, mirror: _Mirror) -> None:
        at = urlsplit(mirror.base)
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(at.hostname, at.port or 80, limit=_MAX_HEAD_BYTES)
        try:
            while True:
                mirror.changed.clear()
                rate = mirror.rate
                writer.write(request(mirror.base, self._token, rate))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    count = sent(await reader.readuntil(b"\r\n\r\n"))
                mirror.hear(count, asyncio.get_running_loop().time())
                self._note(mirror, obeys=True)
                if not rate and not mirror.changed.is_set():
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(mirror.changed.wait(), ASK_SECONDS)
        finally:
            writer.transport.abort()
