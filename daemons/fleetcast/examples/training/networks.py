"""The same small network twice: with torch, and with numpy alone. Both are saved whole, with all that a run needs to go
on as if it had never stopped."""

import io
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fleetcast.examples.training.samples import Floats

HIDDEN = 64
MOMENTUM = 0.9


class Network(Protocol):
    """What learns.

    Attributes:
        suffix: of its checkpoints.
    """

    suffix: str

    def step(self, boards: Floats, outcomes: Floats) -> float:
        """Learn from a batch; the mean squared error before."""

    def errors(self, boards: Floats, outcomes: Floats) -> Floats:
        """How far off it is for each board."""

    def checkpoint(self, place: dict[str, int]) -> bytes:
        """All of it, and where the run is."""

    def restore(self, path: str) -> dict[str, int]:
        """Become what was saved; where the run was."""

    def weights(self) -> dict[str, Floats]:
        """What is served."""


class NumpyNetwork:
    """Two layers, gradients by hand."""

    suffix = ".npz"

    def __init__(self, inputs: int, *, rate: float, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._rate = np.float32(rate)
        self._weights: dict[str, Floats] = {
            "0.weight": (random.standard_normal((HIDDEN, inputs)) / np.sqrt(inputs)).astype(np.float32),
            "0.bias": np.zeros(HIDDEN, np.float32),
            "2.weight": (random.standard_normal((1, HIDDEN)) / np.sqrt(HIDDEN)).astype(np.float32),
            "2.bias": np.zeros(1, np.float32),
        }
        self._speed = {name: np.zeros_like(each) for name, each in self._weights.items()}

    def _forward(self, boards: Floats) -> tuple[Floats, Floats]:
        w = self._weights
        hidden = np.tanh(boards @ w["0.weight"].T + w["0.bias"])
        return hidden, np.tanh(hidden @ w["2.weight"].T + w["2.bias"])[:, 0]

    def step(self, boards: Floats, outcomes: Floats) -> float:
        hidden, found = self._forward(boards)
        off = found - outcomes
        out = (2 / len(off) * off * (1 - found**2))[:, None]
        inner = (out @ self._weights["2.weight"]) * (1 - hidden**2)
        gradients = {
            "0.weight": inner.T @ boards,
            "0.bias": inner.sum(axis=0),
            "2.weight": out.T @ hidden,
            "2.bias": out.sum(axis=0),
        }
        for name, gradient in gradients.items():
            self._speed[name] = np.float32(MOMENTUM) * self._speed[name] + gradient
            self._weights[name] = self._weights[name] - self._rate * self._speed[name]
        return float(np.mean(off**2))

    def errors(self, boards: Floats, outcomes: Floats) -> Floats:
        found: Floats = np.abs(self._forward(boards)[1] - outcomes)
        return found

    def checkpoint(self, place: dict[str, int]) -> bytes:
        arrays: dict[str, NDArray[Any]] = {f"place/{name}": np.array(value) for name, value in place.items()}
        arrays |= {f"weights/{name}": each for name, each in self._weights.items()}
        arrays |= {f"speed/{name}": each for name, each in self._speed.items()}
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()

    def restore(self, path: str) -> dict[str, int]:
        with np.load(path, allow_pickle=False) as file:
            self._weights = {name: file[f"weights/{name}"] for name in self._weights}
            self._speed = {name: file[f"speed/{name}"] for name in self._speed}
            return {name.removeprefix("place/"): int(file[name]) for name in file.files if name.startswith("place/")}

    def weights(self) -> dict[str, Floats]:
        return self._weights


class TorchNetwork:
    """The same with torch, on the device that the trainer gives."""

    suffix = ".pt"

    def __init__(self, inputs: int, *, rate: float, seed: int, device: str) -> None:
        import torch

        torch.manual_seed(seed)
        self._torch, self._device = torch, device
        layers = (torch.nn.Linear(inputs, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1), torch.nn.Tanh())
        self._model = torch.nn.Sequential(*layers).to(device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=rate, momentum=MOMENTUM)

    def _off(self, boards: Floats, outcomes: Floats) -> "Any":
        wanted = self._torch.from_numpy(outcomes).to(self._device)
        return self._model(self._torch.from_numpy(boards).to(self._device))[:, 0] - wanted

    def step(self, boards: Floats, outcomes: Floats) -> float:
        loss = (self._off(boards, outcomes) ** 2).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def errors(self, boards: Floats, outcomes: Floats) -> Floats:
        with self._torch.no_grad():
            found: Floats = self._off(boards, outcomes).abs().cpu().numpy()
        return found

    def checkpoint(self, place: dict[str, int]) -> bytes:
        out = io.BytesIO()
        whole = {"place": place, "model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}
        self._torch.save(whole, out)
        return out.getvalue()

    def restore(self, path: str) -> dict[str, int]:
        whole = self._torch.load(path, map_location=self._device, weights_only=True)
        self._model.load_state_dict(whole["model"])
        self._optimizer.load_state_dict(whole["optimizer"])
        return {str(name): int(value) for name, value in whole["place"].items()}

    def weights(self) -> dict[str, Floats]:
        return {name: each.detach().cpu().numpy() for name, each in self._model.state_dict().items()}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is complete as soon as it has its name, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spare = path.with_name(f".{path.name}.tmp")
    with spare.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    spare.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
