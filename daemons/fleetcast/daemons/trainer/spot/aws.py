"""Notices of Amazon EC2, from the instance metadata service, version 2 (EC2 User Guide, "Spot Instance interruption
notices", "EC2 instance rebalance recommendations", "View scheduled events", and EC2 Auto Scaling User Guide, "Retrieve
the target lifecycle state"). 404 is the normal answer: there is no notice.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fleetcast.daemons.trainer.spot.asking import Answer, NoAnswer, ask
from fleetcast.daemons.trainer.spot.notices import Notice

BASE: Final = "http://169.254.169.254"
TOKEN_SECONDS: Final = 21600
NOTICE: Final = timedelta(minutes=2)
"""From the notice to the end, where the service names no time."""
REBALANCE: Final = timedelta(minutes=10)
"""A rebalance recommendation names no deadline, and the interruption may come with it, hours later, or never: for this
long the node takes no new runs, and those that it has go on."""
_ENDS = frozenset({"instance-retirement", "instance-stop", "system-reboot", "instance-reboot"})


class Aws:
    """One EC2 instance's notices."""

    name = "aws"

    def __init__(
        self, base: str = BASE, *, timeout_seconds: float = 2.0, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._base = base
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._token, self._token_until = "", 0.0

    async def look(self) -> list[Notice]:
        """The notices that stand now, see `Adapter.look`."""
        found = [await self._interruption(), await self._lifecycle(), await self._rebalance()]
        return [*(n for n in found if n is not None), *await self._maintenance()]

    async def _interruption(self) -> Notice | None:
        said = await self._json("spot/instance-action")
        if not isinstance(said, dict) or said.get("action") not in {"terminate", "stop", "hibernate"}:
            return None
        at = _moment(said.get("time")) or self._now() + NOTICE
        return Notice("aws.spot", at, detail=_detail(said))

    async def _lifecycle(self) -> Notice | None:
        answer = await self._get("autoscaling/target-lifecycle-state")
        if answer is None or answer.text not in {"Terminated", "Warmed:Terminated"}:
            return None
        return Notice("aws.autoscaling", self._now() + NOTICE, detail=answer.text)

    async def _rebalance(self) -> Notice | None:
        said = await self._json("events/recommendations/rebalance")
        if not isinstance(said, dict) or (at := _moment(said.get("noticeTime"))) is None:
            return None
        return Notice("aws.rebalance", at + REBALANCE, certain=False, detail=_detail(said))

    async def _maintenance(self) -> list[Notice]:
        said = await self._json("events/maintenance/scheduled")
        events = said if isinstance(said, list) else []
        found = []
        for event in events:
            if isinstance(event, dict) and event.get("State") == "active" and event.get("Code") in _ENDS:
                at = _moment(event.get("NotBefore"))
                if at is not None:
                    found.append(Notice("aws.maintenance", at, detail=_detail(event)))
        return found

    async def _json(self, path: str) -> Any:
        answer = await self._get(path)
        try:
            return None if answer is None else json.loads(answer.text)
        except ValueError:
            return None

    async def _get(self, path: str) -> Answer | None:
        """What the service says; None: nothing."""
        for _ in range(2):
            headers = {"X-aws-ec2-metadata-token": await self._fresh()}
            answer = await ask(
                self._base, f"/latest/meta-data/{path}", headers=headers, timeout_seconds=self._timeout_seconds
            )
            if answer.status != 401:
                break
            self._token = ""  # it was given back, or the instance was moved
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise NoAnswer(f"{self._base} answers {answer.status} to {path}")
        return answer

    async def _fresh(self) -> str:
        """The session's token, asked for again in good time."""
        if not self._token or time.monotonic() > self._token_until:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            answer = await ask(
                self._base, "/latest/api/token", headers=headers, method="PUT", timeout_seconds=self._timeout_seconds
            )
            if answer.status != 200 or not answer.text.isascii():
                raise NoAnswer(f"{self._base} gives no token: {answer.status}")
            self._token, self._token_until = answer.text, time.monotonic() + TOKEN_SECONDS / 2
        return self._token


def _moment(text: object) -> datetime | None:
    """`2026-09-18T08:22:00Z`, or `21 Jan 2026 09:00:43 GMT`; None: neither."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = datetime.strptime(text, "%d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError:
            return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _detail(said: object) -> str:
    return json.dumps(said, sort_keys=True)[:500]
