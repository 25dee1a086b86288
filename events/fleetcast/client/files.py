"""What an event says of a file that a job has written."""

import os

HASHED_BYTES = 16 * 2**20
"""Files up to this size are hashed where they are named: 15 ms. Larger ones would hold the job."""
_MOST_FILES = 10_000


def described(path: "str | os.PathLike[str]") -> tuple[int, str | None]:
    """Bytes of a file, or of all files in a folder, and the SHA-256 of a small file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is empty.
    """
    name = os.fspath(path)
    size = _folder_bytes(name) if os.path.isdir(name) else os.stat(name).st_size
    if not size:
        raise ValueError(f"{name} is empty")
    return size, _digest(name) if size <= HASHED_BYTES and os.path.isfile(name) else None


def _folder_bytes(folder: str) -> int:
    size = files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            size += os.lstat(os.path.join(place, name)).st_size
            files += 1
            if files == _MOST_FILES:
                raise ValueError(f"{folder} has more than {_MOST_FILES} files")
    return size


def _digest(path: str) -> str:
    import hashlib  # 3 ms that only whoever saves a checkpoint pays

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
