"""`emit`: one event into the spool of this node. Whatever happens, the job goes on."""

import functools
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Mapping

from fleetcast.client.folders import spool_folder, user_folder
from fleetcast.client.names import NAMES, is_durable, name_of
from fleetcast.client.node import default_node_id
from fleetcast.client.spool.writer import SpoolWriter
from fleetcast.client.ulid import new_ulid

WARNING_INTERVAL_SECONDS = 60.0
_MODES = ("online", "offline", "disabled")


def emit(type: str, /, **fields: object) -> str | None:  # noqa: A002 -- the word of CloudEvents
    """Emit an event: append it to the spool, from where the node's distributor sends it on.

    Never raises and needs no network. `node` is filled in; `path` is made absolute; numbers that JSON cannot hold
    become text. In distributed jobs only rank 0 (RANK, else SLURM_PROCID) emits, unless FLEETCAST_RANKS=all.

    Args:
        type: in any spelling: `model.promoted`, `MODEL_PROMOTED`.
        **fields: of the payload; docs/events.md lists them.

    Returns:
        The event's id, or None when nothing was emitted; a warning then says why, at most once a minute.
    """
    try:
        return _emitter().emit(type, fields)
    except Exception as error:  # nothing that can go wrong here may end a training run
        _warn(f"an event was lost: {_said(error)}")
        return None


def _said(error: Exception) -> str:
    try:
        return str(error) or error.__class__.__name__
    except Exception:  # the error may be the job's own, with whatever text method it has
        return error.__class__.__name__


class Emitter:
    """Where this process emits to: mode, rank, node and spool, from the environment as the first event finds it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._mode = environ.get("FLEETCAST_MODE", "online")
        if self._mode not in _MODES:
            _warn(f"FLEETCAST_MODE={self._mode} is none of {', '.join(_MODES)}; taken as online")
        self._node = environ.get("FLEETCAST_NODE_ID") or default_node_id()
        self._source = json.dumps(f"/fleet/{self._node}/{_job()}")
        is_silent = self._mode == "disabled" or not _is_rank_zero(environ)
        self._heads: dict[str, str] = {}
        self._writer = None if is_silent else SpoolWriter(self._folder(environ))

    def emit(self, spelling: str, fields: dict[str, object]) -> str | None:
        """Append one event; None when this process is not to emit.

        Raises:
            SpoolError: it could not be written.
            ValueError: it cannot be written as JSON, or is too large.
        """
        if self._writer is None:
            return None
        name = name_of(spelling) or _unknown(spelling)
        event_id = new_ulid()
        self._writer.append(self._record(event_id, name, fields), durable=is_durable(name))
        return event_id

    def _record(self, event_id: str, name: str, fields: dict[str, object]) -> bytes:
        path = fields.get("path")
        if isinstance(path, str | bytes | os.PathLike):
            # Only the job knows what its relative paths are relative to.
            fields["path"] = os.path.abspath(os.fsdecode(path))
        fields.setdefault("node", self._node)
        head = self._heads.get(name) or self._head(name)
        return (
            f'{{"specversion":"1.0","id":"{event_id}","correlationid":"{event_id}","time":"{_now()}",{head},'
            f'"datacontenttype":"application/json","data":{_encoded(fields)}}}'
        ).encode()

    def _head(self, name: str) -> str:
        """The attributes that are the same in every event called *name*."""
        head = f'"source":{self._source},"type":{json.dumps(name + ".v1")}'
        if name in NAMES:
            self._heads[name] = head
        return head

    def _folder(self, environ: Mapping[str, str]) -> str:
        offline = self._mode == "offline"
        folder = spool_folder(environ, offline=offline)
        if not offline and folder == user_folder(environ):
            _warn(f"no spool of this node can be written; events wait in {folder} until it is forwarded")
        return folder


_state: dict[str, Emitter] = {}


def _emitter() -> Emitter:
    return _state.get("emitter") or _state.setdefault("emitter", Emitter(os.environ))


def _is_rank_zero(environ: Mapping[str, str]) -> bool:
    rank = environ.get("RANK") or environ.get("SLURM_PROCID") or "0"
    return rank == "0" or environ.get("FLEETCAST_RANKS") == "all"


def _job() -> str:
    """What the process is called in `source`: its script's name."""
    script = os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", script)[:64].strip("-") or "python"


def _unknown(spelling: str) -> str:
    import difflib  # only a typing error pays for it

    close = difflib.get_close_matches(spelling.lower().replace("_", "."), NAMES, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(NAMES)}"
    _warn(f"no event is called {spelling[:80]!r}{hint} It is sent all the same, and will be refused with a reason")
    return spelling.removesuffix(".v1")


def _now() -> str:
    second, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second_text(second)}.{rest // 1000:06d}Z"


@functools.lru_cache(maxsize=1)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _plain(value: object) -> object:
    """What JSON has no word for: numbers of numpy and torch become Python's, sets lists, everything else text."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        return item()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)[:1000]


# A cycle ends in RecursionError as surely as in the check for it, which costs every event 0.3 us.
_ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":"), default=_plain)


def _encoded(fields: dict[str, object]) -> str:
    try:
        return _ENCODER.encode(fields)
    except (TypeError, ValueError, RecursionError):
        return _ENCODER.encode(_cleaned(fields, 30))


def _cleaned(value: object, depth: int) -> object:
    """*value* with text for NaN and the infinities, whose loss would hide a diverged run, and for keys."""
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): _cleaned(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each, depth - 1) for each in value]
    if isinstance(value, str | int | None):
        return value
    plain = value if isinstance(value, float) else _plain(value)
    return str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain


class _Warnings:
    """One warning a minute; the others are counted."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._next = 0.0
        self._silent = 0

    def __call__(self, text: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                self._silent += 1
                return
            self._next = now + WARNING_INTERVAL_SECONDS
            more, self._silent = self._silent, 0
        self._write(f"fleetcast: {text}" + (f" ({more} more since the last warning)" if more else ""))

    def _write(self, text: str) -> None:
        try:
            import logging  # 5 ms that a job without trouble does not pay

            logging.getLogger("fleetcast.client").warning(text)
        except Exception:  # noqa: S110 -- a broken handler of the job is not ours to report
            pass


_warn = _Warnings()


def _forget_in_child() -> None:
    """In a forked child: another rank, perhaps; and locks may be held by threads that it does not have."""
    global _warn  # noqa: PLW0603 -- one per process
    _warn = _Warnings()
    _state.clear()


os.register_at_fork(after_in_child=_forget_in_child)
