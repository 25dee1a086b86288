"""Talks to an aria2c through aria2p. Blocks: one thread per process calls it. The only module that imports aria2p.

aria2p would send its calls, and the secret in them, by way of any proxy that the environment names, because requests
does. So the calls go over a plain connection to loopback here; aria2p makes and reads the messages.
"""

import contextlib
import http.client
import json
from collections.abc import Sequence
from typing import Any

import aria2p

HOST = "127.0.0.1"


class RpcFault(Exception):
    """aria2 refused a call."""


class RpcGone(Exception):
    """aria2 does not answer."""


class _Client(aria2p.Client):
    """Calls over one connection that is kept."""

    def __init__(self, port: int, secret: str, timeout: float) -> None:
        super().__init__(f"http://{HOST}", port, secret, timeout)
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout)

    def post(self, payload: str) -> dict[str, Any]:
        """Send a message and return the answer."""
        try:
            self._connection.request("POST", "/jsonrpc", payload, {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        except BaseException:
            # Half an exchange must not be taken for the next one's answer.
            self._connection.close()
            raise
        return answer

    def close(self) -> None:
        self._connection.close()


class Rpc:
    """The calls of one process; every method blocks.

    Raises:
        RpcFault: aria2 refused the call.
        RpcGone: it does not answer.
    """

    def __init__(self, port: int, secret: str, timeout: float) -> None:
        self._client = _Client(port, secret, timeout)

    def call(self, method: str, *parameters: object) -> Any:
        """Call one method."""
        try:
            return self._client.call(method, list(parameters))
        except aria2p.ClientException as e:
            raise RpcFault(e.message) from e
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise RpcGone(f"{type(e).__name__}: {e}") from e

    def calls(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Call several methods at once; the answer to one that is refused is None."""
        try:
            answers = self._client.multicall2([(method, list[Any](parameters)) for method, parameters in calls])
        except aria2p.ClientException as e:
            raise RpcFault(e.message) from e
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise RpcGone(f"{type(e).__name__}: {e}") from e
        assert isinstance(answers, list)
        return [answer[0] if isinstance(answer, list) else None for answer in answers]

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._client.close()
