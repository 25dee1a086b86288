"""`run`: one training run, from its registration to its end.

with run("hex8_2p", config={"lr": 0.1}) as r:
    for epoch in range(10):
        for batch in r.steps(loader):
            ...
        r.log_epoch(epoch, loss=loss)
    r.promote("model.pt", version="43")
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from fleetcast.client import done, notices
from fleetcast.client.assignment import Assignment, Cadence
from fleetcast.client.emit import emit, emitter
from fleetcast.client.figures import Figures, figures
from fleetcast.client.files import described
from fleetcast.client.git import commit_of
from fleetcast.client.meter import Meter
from fleetcast.client.node import is_name
from fleetcast.client.ulid import new_ulid

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Concatenate, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

METRICS_SECONDS = 10.0
"""Distance of what `log_metrics` sends; what is said between is kept until the next, the epoch, or the end."""
REASON_CHARACTERS = 2000


def _harmless(method: "Callable[Concatenate[Run, P], str | None]") -> "Callable[Concatenate[Run, P], str | None]":
    """*method*, of which nothing is ever raised: not even that its arguments do not fit, after fifteen hours. Where the
    run is not to speak it is not even tried: it might wait for a GPU."""

    @functools.wraps(method)
    def tried(self: "Run", /, *args: "P.args", **kwargs: "P.kwargs") -> "str | None":
        if not self.speaks:
            return None
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            notices.loss(f"{method.__name__}: {notices.said(error)}")
            return None

    return tried


def run(*lane: str, **said: object) -> "Run":
    """A training run, to be used with `with`: it is registered on entry, and its end is told on exit.

    Args:
        lane: the line of data that it consumes; not needed in a job that a lane started.
        model: the line of versions that it makes, where that is not called as the lane.
        run_id: its name; default: FLEETCAST_RUN_ID, else a new one. A run that goes on is registered again.
        config: hyperparameters, and whatever else the job was started with.
        data: where its samples come from: maps with `data_set`, and `filter`, `range`, `samples`.
        git_commit: of its code; default: what is checked out where the script lies.
        experiment_id, environment, reproducibility_hash, device: see `run.started` in docs/events.md.

    Never raises: a run that cannot be registered is still a run that says nothing.
    """
    try:
        return Run(*lane, **said)  # type: ignore[arg-type]
    except Exception as error:
        notices.loss(f"run: {notices.said(error)}")
        return Run("")


class Run:
    """A run as its job sees it; made by `run`.

    Every method may be called from any thread, never raises, and does nothing in a process that is not to speak (other
    ranks, FLEETCAST_MODE=disabled) or that was forked from the one that began the run.

    Attributes:
        id: the run's name; other ranks have another one, unless FLEETCAST_RUN_ID says it to all.
        lane, model: what it consumes and makes.
        epoch: the last epoch that was logged; None: none was.
        claim: under which its node has it; None: no lane started it.
        resume_from: checkpoint to go on from; None: from scratch.
        checkpoint_dir: where checkpoints are to be written; `checkpoints` where no lane says.
        device: what to compute on, `cuda:0`, `rocm:0` or `cpu`; None: nobody said.
        cadence_seconds: advised distance of two checkpoints.
    """

    def __init__(
        self, lane: str | None = None, /, *, model: str | None = None, run_id: str | None = None, **facts: object
    ) -> None:
        own = Assignment(os.environ)
        # Whoever gave the run its name in the environment has registered it, and watches how it ends.
        self._given = own.run if run_id is None else None
        if lane is None and own.lane is None:
            raise ValueError("it says no lane, and no lane started it")
        self.lane = str(own.lane if self._given and own.lane else lane or "")
        self.model = str(model or (self._given and own.model) or self.lane)
        self.id = str(run_id or self._given or f"{self.lane[:21]}-{new_ulid().lower()}")
        self.epoch: int | None = None
        self.claim = own.claim if self._given else None
        self.resume_from, self.checkpoint_dir = own.resume_from, own.checkpoint_dir
        self.device, self.cadence_seconds = own.device, own.cadence_seconds
        self._assignment, self._cadence = own, Cadence(own.cadence_seconds)
        self._facts = facts
        self._meter = Meter()
        self._lock = threading.RLock()
        self._newest: dict[str, object] = {}
        self._sent_at = time.monotonic()
        self._last = Figures()
        self._process: int | None = None
        self._ended = False

    def __enter__(self) -> "Run":
        return self.start()

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        # What the job raised goes on; it is told first.
        outcome, reason = _outcome(error)
        self.finish(outcome, reason)

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that tells about the run."""
        if self._process is None:
            notices.warn(f"run {self.id} has not begun: use `with run(…) as r`, or call r.start()")
        return self._process == os.getpid()

    def start(self) -> "Run":
        """Begin and register; what `with` does. Whoever calls it calls `finish` in the end."""
        try:
            self._process = 0 if emitter().silent else os.getpid()
        except Exception as error:
            # It may be writable later; until then every event is tried, and counted as lost.
            self._process = os.getpid()
            notices.warn(f"run {self.id}: {notices.said(error)}")
        self._meter = Meter()
        self._cadence = Cadence(self.cadence_seconds)
        # Who started a lane's run knows neither its code nor its configuration: they are told under its claim.
        if self._process and (self._given is None or self.claim):
            self._register()
        return self

    @_harmless
    def _register(self) -> str | None:
        for what, name in (("lane", self.lane), ("model", self.model), ("run", self.id)):
            if not is_name(name):
                notices.warn(
                    f"{name[:80]!r} cannot be a {what} (a-z 0-9 _ -, at most 48): what it says will be refused"
                )
        facts = {name: value for name, value in self._facts.items() if value not in (None, ())}
        facts.setdefault("host", os.uname().nodename[:200] or None)
        if self.device:
            facts.setdefault("device", self.device)
        if "git_commit" not in facts:
            facts["git_commit"] = commit_of(_code_folder())
        return self._say("run.started", lane=self.lane, model=self.model, **facts)

    # -- what the run says

    @_harmless
    def log_epoch(
        self,
        /,
        epoch: int | None = None,
        metrics: Mapping[str, object] | None = None,
        *,
        samples: int | None = None,
        **more: object,
    ) -> str | None:
        """An epoch ended, with its *metrics*, given as a map, by name, or both.

        Args:
            epoch: counts from 0; default: the one after the last.
            samples: that it consumed.
        """
        with self._lock:
            number = (0 if self.epoch is None else self.epoch + 1) if epoch is None else int(epoch)
            found = self._take({**(metrics or {}), **more})
            self.epoch, self._last = number, found
            cost = self._meter.epoch()
        return self._say("run.epoch.logged", epoch=number, samples=samples, **found.fields(), **cost)

    @_harmless
    def log_metrics(
        self, /, metrics: Mapping[str, object] | None = None, *, step: int | None = None, **more: object
    ) -> str | None:
        """How it goes within an epoch. Cheap enough for every step: sent at most every 10 seconds, the newest value of
        each; a tensor on a GPU is not waited for before that."""
        with self._lock:
            if step is not None:
                self._meter.step = int(step)
            for name, value in {**(metrics or {}), **more}.items():
                detach = getattr(value, "detach", None)
                self._newest[name] = detach() if callable(detach) else value
            if not self.metrics_due:
                return None
            found = self._take({})
            return self._say("run.metrics.logged", step=self._meter.step, epoch=self.epoch, **found.fields())

    @property
    def metrics_due(self) -> bool:
        """Whether the next `log_metrics` would be sent: for metrics that take time to gather."""
        return time.monotonic() >= self._sent_at + METRICS_SECONDS

    @_harmless
    def checkpoint(
        self,
        path: "str | os.PathLike[str]",
        *,
        epoch: int | None = None,
        step: int | None = None,
        seconds: float | None = None,
        sha256: str | None = None,
    ) -> str | None:
        """The run can go on from *path*, a file or a folder that is complete.

        Args:
            epoch: that it was taken after; default: the last one that was logged.
            step: that it was taken after; default: the last one that ended.
            seconds: that the save took; default: since `should_checkpoint` said that it is due, where it did.
            sha256: of the file; computed here when it is small.
        """
        due = self._cadence.saved()
        took = due if seconds is None else float(seconds)
        size, digest = described(path)
        number = self.epoch if epoch is None else int(epoch)
        return self._say(
            "run.checkpoint.saved",
            path=path,
            epoch=number or 0,
            step=(self._meter.step or None) if step is None else int(step),
            size=size,
            sha256=sha256 or digest,
            metrics=self._last.finite or None,
            save_seconds=None if took is None else round(took, 6),
        )

    @_harmless
    def export(
        self,
        path: "str | os.PathLike[str]",
        *,
        samples_new: int,
        samples_total: int | None = None,
        lane: str | None = None,
        dataset_id: str | None = None,
    ) -> str | None:
        """New training data is in *path*.

        Args:
            samples_new: samples that were not in the export before.
            samples_total: samples in the file; default: all are new.
            lane: that they are for; default: the run's.
            dataset_id: version of the data set; default: made by the node's distributor.
        """
        return self._say(
            "export.completed",
            path=path,
            lane=lane or self.lane,
            samples_new=samples_new,
            samples_total=samples_new if samples_total is None else samples_total,
            dataset_id=dataset_id,
            epoch=self.epoch,
        )

    @_harmless
    def promote(
        self,
        path: "str | os.PathLike[str]",
        version: object,
        *,
        metrics: Mapping[str, object] | None = None,
        model: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> str | None:
        """Ask that *path*, a file or the folder of a bundle, be served as *version*.

        Args:
            metrics: default: those of the last epoch.
            model: that it is a version of; default: the run's.
            metadata: anything else.
        """
        found = self._last if metrics is None else figures(dict(metrics))
        return self._say(
            "model.promoted",
            path=path,
            model=model or self.model,
            version=str(version),
            epoch=self.epoch,
            metrics=found.finite or None,
            metadata=dict(metadata) if metadata else None,
        )

    @_harmless
    def finish(self, /, outcome: str = "succeeded", reason: str | None = None, **metrics: object) -> str | None:
        """The run ended; said once. `with` says it where the job has not.

        Args:
            outcome: `succeeded`, `failed`, `preempted` or `cancelled`.
            reason: why, where it did not succeed.
            **metrics: final ones; default: those of the last epoch.
        """
        with self._lock:
            if self._ended or self._given is not None:
                return None
            self._ended = True
            found = self._take(metrics)
            final = found if found.finite or found.nonfinite else self._last
        return self._say(
            "run.finished",
            outcome=outcome,
            reason=reason[:REASON_CHARACTERS] if reason else None,
            **final.fields(),
        )

    @_harmless
    def done(self) -> str | None:
        """Everything that a lane's run is for has been done and said: the last word of a job that came to its end.

        Without it, a job that is asked to end (its machine is taken away, a GPU is there again) goes on from its newest
        checkpoint wherever it had come to: status 0 does not tell whether it had finished or only saved. What it said
        in this process is named with it, and has to be accepted first.
        """
        if self.claim and self._assignment.done_file:
            try:
                done.write(self._assignment.done_file, self.claim, emitter().effects)
            except OSError as error:
                notices.warn(f"run {self.id} cannot say that it is done: {error}")
        return None

    # -- what the job was given

    @property
    def data(self) -> tuple[str, ...]:
        """Paths of the files to train on; empty where no lane gave any."""
        return self._assignment.data

    @property
    def torch_device(self) -> str | None:
        """`device` in the words of torch, which calls GPUs of AMD `cuda` as well."""
        return self.device.replace("rocm", "cuda") if self.device else None

    @property
    def stop_requested(self) -> bool:
        """Whether the job is asked to save and end. Cheap enough for every step, in every process of the job."""
        return self._assignment.stop_requested

    @property
    def seconds_left(self) -> float | None:
        """Until the job is ended by force, once it was asked to end; None: nobody said when."""
        return self._assignment.seconds_left

    def should_checkpoint(self) -> bool:
        """Whether to save now: once every `cadence_seconds`, and once when the job is asked to end. Where several
        ranks save together one of them asks, and tells the others."""
        return self._cadence.due(ending=self.stop_requested)

    def resumed(self, *, epoch: int | None = None, step: int | None = None) -> None:
        """A checkpoint was loaded, taken after *epoch* and *step*: both are counted on from there."""
        try:
            with self._lock:
                self.epoch = self.epoch if epoch is None else int(epoch)
                if step is not None:
                    self._meter.go_on(int(step))
        except Exception as error:
            notices.warn(f"run {self.id}: it goes on from no number: {notices.said(error)}")

    # -- what an epoch costs

    def steps(self, batches: "Iterable[T]") -> "Iterator[T]":
        """*batches*, with every one counted as a step, timed, and the wait for it noted."""
        return self._meter.steps(batches)

    def step_began(self) -> None:
        """A step begins: for loops that `steps` cannot go around."""
        self._meter.step_began()

    def step_ended(self) -> None:
        """A step ends."""
        self._meter.step_ended()

    def _take(self, metrics: Mapping[str, object]) -> Figures:
        """Figures of *metrics* and of what was logged since the last were taken."""
        newest, self._newest = self._newest, {}
        self._sent_at = time.monotonic()
        return figures({**newest, **metrics})

    def _say(self, kind: str, **fields: object) -> str | None:
        known = {name: value for name, value in fields.items() if value is not None}
        return emit(kind, run_id=self.id, **known)


def _outcome(error: BaseException | None) -> tuple[str, str | None]:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "succeeded", None
    if isinstance(error, KeyboardInterrupt | GeneratorExit) or error.__class__.__name__ == "CancelledError":
        return "cancelled", error.__class__.__name__
    return "failed", f"{error.__class__.__name__}: {notices.said(error)}"


def _code_folder() -> str:
    """Where the job's script lies; the working directory where it has none (notebooks, `python -c`)."""
    script = sys.argv[0] if sys.argv else ""
    return os.path.dirname(os.path.abspath(script)) if os.path.isfile(script) else os.getcwd()
