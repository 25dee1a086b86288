"""A training job for a lane: `python -m fleetcast.examples.training.train`.

It takes all that it needs from `run()`: data, device, a checkpoint to go on from, when to save and when to end. By hand
it runs as well: `python -m fleetcast.examples.training.train --lane hex8 --data games.npz`.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fleetcast.client import Run, run
from fleetcast.examples.training.networks import Network, NumpyNetwork, TorchNetwork, write_whole
from fleetcast.examples.training.samples import Samples, batches, load

HARDEST = 256
"""Samples that are exported for whoever generates data: those that the network gets most wrong."""


class Training:
    """One run of the job, from where it began or went on.

    Attributes:
        step: batches that the run has learnt from, in this process and before.
    """

    def __init__(self, r: Run, network: Network, samples: Samples, options: argparse.Namespace) -> None:
        self._r, self._network, self._samples, self._options = r, network, samples, options
        self._epoch = self._done = self.step = 0
        self._told_to_end = False
        if r.resume_from:
            place = network.restore(r.resume_from)
            self._epoch, self._done, self.step = place["epoch"], place["done"], place["step"]
            r.resumed(epoch=self._epoch - 1 if self._epoch else None, step=self.step)
            print(f"goes on at step {self.step} from {r.resume_from}", flush=True)
        # The trainer's request comes as a file and as SIGTERM; whoever ends the job by hand sends the signal alone.
        signal.signal(signal.SIGTERM, self._end)

    def train(self) -> bool:
        """Learn until the last epoch; False: it was told to end before, and has saved."""
        while self._epoch < self._options.epochs:
            if not self._learn_epoch():
                return False
        return True

    def _learn_epoch(self) -> bool:
        losses = []
        order = batches(self._samples, self._options.batch, seed=self._options.seed, epoch=self._epoch, skip=self._done)
        for _, boards, outcomes in self._r.steps(order):
            losses.append(self._network.step(boards, outcomes))
            self._done, self.step = self._done + 1, self.step + 1
            self._r.log_metrics(loss=losses[-1])
            time.sleep(self._options.step_seconds)
            if self._r.should_checkpoint() or self._ending:
                self._save()
            if self._ending:
                return False
        loss = float(np.mean(losses)) if losses else None
        self._r.log_epoch(self._epoch, loss=loss, samples=len(losses) * self._options.batch)
        print(f"epoch {self._epoch}: step {self.step}, loss {loss}", flush=True)
        self._epoch, self._done = self._epoch + 1, 0
        self._save()
        return True

    @property
    def _ending(self) -> bool:
        return self._told_to_end or self._r.stop_requested

    def _end(self, *_: object) -> None:
        self._told_to_end = True

    def _save(self) -> None:
        began = time.perf_counter()
        place = {"epoch": self._epoch, "done": self._done, "step": self.step}
        path = Path(self._r.checkpoint_dir).absolute() / f"step-{self.step:08}{self._network.suffix}"
        write_whole(path, self._network.checkpoint(place))
        self._r.checkpoint(path, step=self.step, seconds=time.perf_counter() - began)

    def promote(self, folder: Path) -> Path:
        """Write the model and ask that it be served; the end of the run's name, which no other run has, is its
        version."""
        from safetensors.numpy import save

        path = folder / f"{self._r.model}-{self._version}.safetensors"
        weights = {name: np.ascontiguousarray(each) for name, each in self._network.weights().items()}
        write_whole(path, save(weights, metadata={"run_id": self._r.id, "step": str(self.step)}))
        self._r.promote(path, version=self._version, metadata={"step": self.step})
        return path

    @property
    def _version(self) -> str:
        return self._r.id.rpartition("-")[2]

    def export(self, folder: Path, lane: str) -> Path:
        """Write the samples that it gets most wrong, and say that they are there for *lane*."""
        rows = np.arange(len(self._samples))
        hardest = np.argsort(self._network.errors(*self._samples.batch(rows)))[::-1][:HARDEST]
        path = folder / f"{lane}-{self._version}.npz"
        with (folder / f".{path.name}.tmp").open("wb") as file:
            np.savez(file, boards=self._samples.boards[hardest], outcomes=self._samples.outcomes[hardest])
        Path(file.name).replace(path)
        self._r.export(path, samples_new=len(hardest), lane=lane, dataset_id=self._version)
        return path


def main(words: Sequence[str] | None = None) -> int:
    """Train, and say where the model is."""
    options = _options(words)
    said = {name: str(value) for name, value in vars(options).items() if value is not None}
    with run(options.lane, config=said) as r:
        samples = load(options.data or r.data)
        training = Training(r, _network(r, samples, options), samples, options)
        if not training.train():
            print(f"told to end; saved at step {training.step}", flush=True)
            r.finish("preempted", "it was told to end")
            # Status 0 would say that the run is done, where the trainer does not know better.
            return 0 if r.stop_requested or r.claim is None else 128 + signal.SIGTERM
        out = options.out.absolute()
        out.mkdir(parents=True, exist_ok=True)
        if options.export_lane:
            print(f"exported: {training.export(out, options.export_lane)}", flush=True)
        print(f"promoted: {training.promote(out)}", flush=True)
        r.done()
    return 0


def _network(r: Run, samples: Samples, options: argparse.Namespace) -> Network:
    library = options.library
    if library == "auto":
        library = "torch" if find_spec("torch") else "numpy"
    if library == "numpy":
        return NumpyNetwork(samples.inputs, rate=options.rate, seed=options.seed)
    return TorchNetwork(samples.inputs, rate=options.rate, seed=options.seed, device=r.torch_device or _best_device())


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small network on boards and outcomes.")
    parser.add_argument("--lane", help="the lane, where none starts the job")
    parser.add_argument("--data", action="append", help="an NPZ file, instead of what the trainer gives; repeatable")
    parser.add_argument("--out", type=Path, default=Path(), help="a publish root of the node (default: here)")
    parser.add_argument("--export-lane", help="lane that the hardest samples are exported to; none: no export")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256, help="samples per step")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--library", choices=("auto", "torch", "numpy"), default="auto")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="wait after each step, as a larger one takes")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
