"""The token file: read by the gateway whenever it changed, written by `fleetcast gateway token`."""

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fleetcast.config.credentials import readable_by_others
from fleetcast.daemons.gateway.access import Caller, Role, Token, Tokens, caller_of

MODE: Final = 0o600
MAX_BYTES: Final = 2**20


class TokenFileWrong(Exception):
    """The token file cannot be trusted or read; `next_step` says what helps."""

    def __init__(self, message: str, *, next_step: str) -> None:
        self.next_step = next_step
        super().__init__(message)


def read(path: Path) -> Tokens:
    """The tokens in *path*.

    Raises:
        TokenFileWrong: there is none, others could read or write it, or it is not whole.
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TokenFileWrong(
            f"{path} cannot be read: {error.strerror}",
            next_step="fleetcast gateway token add NAME --role viewer --reason TEXT",
        ) from error
    if not stat.S_ISREG(about.st_mode) or readable_by_others(path, about.st_mode):
        raise TokenFileWrong(
            f"{path} has mode {stat.S_IMODE(about.st_mode):04o}: others must not read or write it",
            next_step=f"chmod 600 {path}",
        )
    if about.st_uid not in {os.geteuid(), 0}:
        raise TokenFileWrong(
            f"{path} belongs to user {about.st_uid}, not to this one or root", next_step=f"chown {os.geteuid()} {path}"
        )
    try:
        return Tokens.model_validate_json(data)
    except ValidationError as error:
        raise TokenFileWrong(
            f"{path} is not whole: {error.errors()[0]['msg']}", next_step="put back the last copy, or make new tokens"
        ) from error


def write(path: Path, tokens: Tokens) -> None:
    """Replace *path*: the old or the new file is there, never half of one.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = json.dumps(tokens.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            if path.exists():
                about = path.stat()
                with suppress(PermissionError):
                    os.fchown(file.fileno(), about.st_uid, about.st_gid)
            file.write(document.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def with_token(tokens: Tokens, token: Token) -> Tokens:
    """*tokens* and one more.

    Raises:
        ValueError: there is one of that name.
    """
    if any(each.name == token.name for each in tokens.tokens):
        raise ValueError(f"there is a token {token.name} already")
    return tokens.model_copy(update={"tokens": (*tokens.tokens, token)})


def without_token(tokens: Tokens, name: str) -> Tokens:
    """*tokens* but one.

    Raises:
        LookupError: there is none of that name.
    """
    left = tuple(each for each in tokens.tokens if each.name != name)
    if len(left) == len(tokens.tokens):
        raise LookupError(f"there is no token {name}")
    return tokens.model_copy(update={"tokens": left})


class TokenBook:
    """The token file as the gateway knows it: a token that was revoked is refused at the next request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens = Tokens()

    def refresh(self) -> bool:
        """Read the file if it is another one than before, which is returned; blocks for as long as that takes.

        Raises:
            TokenFileWrong: as `read`; nobody is let in then.
        """
        try:
            about = self._path.stat()
        except OSError:
            # `read` finds words for it.
            self._seen, self._tokens = None, Tokens()
            self._tokens = read(self._path)
            return True
        identity = (about.st_ino, about.st_mtime_ns, about.st_mode)
        if identity == self._seen:
            return False
        self._seen = None
        try:
            # Those who were let in so far are, until the file is read: requests come while a thread reads it.
            self._tokens = read(self._path)
        except TokenFileWrong:
            self._tokens = Tokens()
            raise
        self._seen = identity
        return True

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""
        return caller_of(token, self._tokens.tokens)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._tokens.tokens)


__all__ = ["MODE", "Role", "TokenBook", "TokenFileWrong", "read", "with_token", "without_token", "write"]
