"""The files of the demo: real models and a real data set, written with the field's own libraries."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fleetcast.cli.problems import Problem

MODEL = "hex8_2p"
LANE = "hex8_selfplay"
LAYERS = 16
SIDE = 1024
"""Each layer is a square of 32-bit floats: 16 x 4 MiB = 64 MiB."""
JUDGED = "judged"
"""A small model whose promotions gates decide."""
CIRCLE = "hex8_circle"
"""Lane, and model that its runs make."""
SAMPLES = 20_000
BOARD_SIDE = 8


@dataclass(frozen=True)
class Material:
    """One file to be distributed.

    Attributes:
        name: model or lane.
        version: its version.
        path: where it lies to be published.
        size: bytes.
        sha256: of its bytes, read back from the disk.
    """

    name: str
    version: str
    path: Path
    size: int
    sha256: str


def digest_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_model(folder: Path, version: str, seed: int) -> Material:
    """A safetensors model of 64 MiB in *folder*; errors as `make_small_model`."""
    return _make(folder, MODEL, version, seed, LAYERS, SIDE)


def make_small_model(folder: Path, version: str, seed: int) -> Material:
    """A safetensors model of 64 KiB in *folder*, of which gates decide.

    Raises:
        Problem: safetensors is not installed.
    """
    return _make(folder, JUDGED, version, seed, 1, 128)


def _make(folder: Path, name: str, version: str, seed: int, count: int, side: int) -> Material:
    import numpy as np

    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise Problem(
            "safetensors_missing",
            "the demo writes a safetensors model, and safetensors is not installed",
            next_step="pip install 'fleetcast[demo]'",
        ) from error
    random = np.random.default_rng(seed)
    layers = {f"layers.{number}.weight": random.random((side, side), dtype=np.float32) for number in range(count)}
    path = folder / f"{name}-{version}.safetensors"
    save_file(layers, path, metadata={"format": "np", "version": version})
    return _material(name, version, path)


def make_data_set(folder: Path, version: str, seed: int) -> Material:
    """An NPZ data set of boards, policies and outcomes in *folder*."""
    import numpy as np

    random = np.random.default_rng(seed)
    path = folder / f"{LANE}-{version}.npz"
    np.savez(
        path,
        boards=random.integers(0, 3, (SAMPLES, BOARD_SIDE, BOARD_SIDE), dtype=np.int8),
        policies=random.random((SAMPLES, BOARD_SIDE * BOARD_SIDE), dtype=np.float32),
        outcomes=random.integers(-1, 2, SAMPLES, dtype=np.int8),
    )
    return _material(LANE, version, path)


def make_games(folder: Path, version: str, count: int, seed: int) -> Material:
    """An NPZ data set in *folder* of which something can be learnt: who has more pieces wins."""
    import numpy as np

    boards = np.random.default_rng(seed).integers(0, 3, (count, BOARD_SIDE, BOARD_SIDE), dtype=np.int8)
    ahead = (boards == 1).sum(axis=(1, 2)) - (boards == 2).sum(axis=(1, 2))
    path = folder / f"{CIRCLE}-{version}.npz"
    np.savez(path, boards=boards, outcomes=np.sign(ahead).astype(np.int8))
    return _material(CIRCLE, version, path)


def _material(name: str, version: str, path: Path) -> Material:
    return Material(name, version, path, path.stat().st_size, digest_of(path))
