"""Boards and outcomes from the NPZ files of a data set, in an order that a run which goes on can take up again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
VALUES = 3
"""A field of a board is empty, or holds a piece of one of two players."""


@dataclass(frozen=True)
class Samples:
    """What is trained on.

    Attributes:
        boards: (N, side, side), each field 0, 1 or 2.
        outcomes: (N,), -1 lost, 0 drawn, 1 won.
    """

    boards: NDArray[np.int8]
    outcomes: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def inputs(self) -> int:
        """Numbers that a board becomes."""
        return VALUES * int(np.prod(self.boards.shape[1:]))

    def batch(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Boards with one number per field and value, and outcomes."""
        boards = self.boards[rows].reshape(len(rows), -1)
        planes = [(boards == value).astype(np.float32) for value in range(VALUES)]
        return np.concatenate(planes, axis=1), self.outcomes[rows].astype(np.float32)


def load(paths: Sequence[str]) -> Samples:
    """The samples of all files together.

    Raises:
        SystemExit: there are none.
    """
    files = [path for path in paths if path.endswith(".npz")]
    if not files:
        raise SystemExit("no NPZ file to train on: FLEETCAST_DATA, or --data FILE")
    arrays = []
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            arrays.append((file["boards"], file["outcomes"]))
    return Samples(np.concatenate([each[0] for each in arrays]), np.concatenate([each[1] for each in arrays]))


def batches(
    samples: Samples, size: int, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[tuple[NDArray[np.int64], Floats, Floats]]:
    """An epoch's batches, without the first *skip*: row numbers, boards, outcomes. The order follows from *seed* and
    *epoch* alone, so that a run which goes on leaves out just what it has seen."""
    order = np.random.default_rng((seed, epoch)).permutation(len(samples))
    for first in range(skip * size, len(order), size):
        rows = order[first : first + size]
        yield (rows, *samples.batch(rows))
