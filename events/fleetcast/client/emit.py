"""`emit`: one event into the spool of this node. Whatever happens, the job goes on."""

import os
import time
from collections.abc import Mapping

from fleetcast.client import notices
from fleetcast.client.assignment import Assignment
from fleetcast.client.done import EFFECTS, Effect
from fleetcast.client.folders import spool_folder, user_folder
from fleetcast.client.names import NAMES, is_durable, is_of_a_run, name_of
from fleetcast.client.patience import PatientSync
from fleetcast.client.place import job_name, mode_of, node_of, speaks
from fleetcast.client.spool.errors import SpoolFull
from fleetcast.client.spool.writer import SpoolWriter
from fleetcast.client.ulid import new_ulid
from fleetcast.client.wording import encoded, quoted

REST_SECONDS = 1.0
"""After a full spool or disk, how long cheap events are not even tried: a job that says something with every step
would otherwise make and delete a file with every step."""


def emit(type: str, /, **fields: object) -> str | None:  # noqa: A002 -- the word of CloudEvents
    """Emit an event: append it to the spool, from where the node's distributor sends it on.

    Never raises and needs no network. `node` is filled in, and in a job that a lane started `run_id` and `claim`;
    `path` is made absolute; numbers that JSON cannot hold become text. In distributed jobs only rank 0 emits, unless
    FLEETCAST_RANKS=all. An event that others build on is on the disk when this returns, or the disk took more than a
    second.

    Args:
        type: in any spelling: `model.promoted`, `MODEL_PROMOTED`.
        **fields: of the payload; docs/events.md lists them.

    Returns:
        The event's id, or None when nothing was emitted; a line on stderr then says why, at most once a minute.
    """
    try:
        return emitter().emit(type, fields)
    except Exception as error:  # nothing that can go wrong here may end a training run
        notices.loss(notices.said(error))
        return None


class Kind:
    """What is the same in every event of one name.

    Attributes:
        head: its attributes, as JSON.
        durable: whether it is on the disk before `emit` returns.
        of_a_run: whether it says which run it comes from, and under which claim.
        counts: whether it is had once, under the claim that holds the run.
    """

    __slots__ = ("counts", "durable", "head", "of_a_run")

    def __init__(self, name: str, source: str) -> None:
        self.head = f'"source":{source},"type":{quoted(name + ".v1")},"datacontenttype":"application/json"'
        self.durable = is_durable(name)
        self.of_a_run = is_of_a_run(name)
        self.counts = name in EFFECTS


class Emitter:
    """Where this process emits to: mode, rank, node and spool, from the environment as the first event finds it.

    Attributes:
        silent: whether this process is one that emits nothing.
        node: the node that it runs on.
        effects: what was said for a lane's run that counts once, whether it could be written or not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._mode = mode_of(environ)
        self.node = node_of(environ)
        self.silent = self._mode == "disabled" or not speaks(environ)
        self._source = quoted(f"/fleet/{self.node}/{job_name()}")
        self.effects: list[Effect] = []
        self._kinds: dict[str, Kind] = {}
        assignment = Assignment(environ)
        self._run, self._claim = assignment.run, assignment.claim
        self._sync = PatientSync()
        self._writer = None if self.silent else SpoolWriter(self._folder(environ), sync=self._sync)
        self._second = (0, "")
        self._rests_until = 0.0

    def emit(self, spelling: str, fields: dict[str, object]) -> str | None:
        """Append one event; None when this process is not to emit.

        Raises:
            SpoolError: it could not be written.
            ValueError: it cannot be written as JSON, or is too large.
        """
        if self._writer is None:
            return None
        kind = self._kinds.get(spelling) or self._kind(spelling)
        path = fields.get("path")
        if path is not None and isinstance(path, str | bytes | os.PathLike):
            # Only the job knows what its relative paths are relative to.
            fields["path"] = os.path.abspath(os.fsdecode(path))
        if "node" not in fields:
            fields["node"] = self.node
        # What a stalled former owner says must be told apart from what the owner says, however the job says it.
        if self._claim and kind.of_a_run and fields.setdefault("run_id", self._run) == self._run:
            fields.setdefault("claim", self._claim)
        now = time.time_ns()
        event_id = new_ulid(now // 1_000_000)
        if kind.counts and self._claim and fields.get("run_id") == self._run:
            self.effects.append(Effect(event_id, fields))
        record = (
            f'{{"specversion":"1.0","id":"{event_id}","correlationid":"{event_id}","time":"{self._text(now)}",'
            f'{kind.head},"data":{encoded(fields)}}}'
        )
        self._append(self._writer, record.encode(), kind)
        return event_id

    def _append(self, writer: SpoolWriter, record: bytes, kind: Kind) -> None:
        if self._rests_until and not kind.durable and time.monotonic() < self._rests_until:
            raise SpoolFull(f"{writer.folder}: it is full")
        try:
            writer.append(record, durable=kind.durable)
        except SpoolFull:
            self._rests_until = time.monotonic() + REST_SECONDS
            raise
        self._rests_until = 0.0

    def _kind(self, spelling: str) -> Kind:
        name = name_of(spelling)
        if name is None:
            return Kind(_unknown(spelling), self._source)
        return self._kinds.setdefault(spelling, Kind(name, self._source))

    def _text(self, now: int) -> str:
        """The moment *now*, nanoseconds since the epoch, as RFC 3339."""
        second, rest = divmod(now, 1_000_000_000)
        known = self._second
        if second != known[0]:
            # One value, replaced whole: threads never see a number with another one's text.
            known = self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{known[1]}.{rest // 1000:06d}Z"

    def _folder(self, environ: Mapping[str, str]) -> str:
        offline = self._mode == "offline"
        folder = spool_folder(environ, offline=offline)
        if not offline and folder == user_folder(environ):
            notices.warn(
                f"no spool of this node can be written; events wait in {folder} until it is forwarded: fleetcast sync"
            )
        return folder

    def after_fork(self) -> None:
        """In the child: give up what belongs to the parent."""
        self._sync.after_fork()


_state: dict[str, Emitter] = {}


def emitter() -> Emitter:
    """The emitter of this process.

    Raises:
        SpoolError: no spool can be written.
    """
    return _state.get("emitter") or _state.setdefault("emitter", Emitter(os.environ))


def _unknown(spelling: str) -> str:
    import difflib  # only a typing error pays for it

    close = difflib.get_close_matches(spelling.lower().replace("_", "."), NAMES, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(NAMES)}"
    notices.warn(
        f"no event is called {spelling[:80]!r}{hint} It is sent all the same, and will be refused with a reason"
    )
    return spelling.removesuffix(".v1")


def _forget_in_child() -> None:
    """In a forked child: another rank, perhaps; and locks may be held by threads that it does not have."""
    parents = _state.pop("emitter", None)
    if parents is not None:
        parents.after_fork()


os.register_at_fork(after_in_child=_forget_in_child)
