"""What a NATS server shows to whoever connects now: connections that there are know only what it showed to them."""

import socket
import ssl
from datetime import datetime
from urllib.parse import urlsplit

from fleetcast.bus.credentials import tls_context
from fleetcast.bus.errors import OperationRefused
from fleetcast.config.settings import BusSettings

DEFAULT_PORT = 4222
GREETING_BYTES = 64 * 1024
"""More than a server's first line has."""


def server_certificate_end(server: str, settings: BusSettings, *, seconds: float = 1.0) -> datetime | None:
    """When the certificate ends that *server* (a URL) shows, UTC; None: it does not answer, or not with TLS.

    Blocks for a few times *seconds* at most: for a thread. The certificate is not checked, because one that has ended
    is to be seen as well; nothing is said over the connection.
    """
    from cryptography import x509

    where = urlsplit(server.strip())
    try:
        context = tls_context(settings) or ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((where.hostname or "", where.port or DEFAULT_PORT), timeout=seconds) as plain:
            _skip_greeting(plain)
            with context.wrap_socket(plain) as encrypted:
                shown = encrypted.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).not_valid_after_utc if shown else None
    except (OSError, ValueError, OperationRefused):
        return None


def _skip_greeting(plain: socket.socket) -> None:
    """Read the line in which a server tells of itself, which it sends before TLS begins."""
    read = b""
    while not read.endswith(b"\n"):
        # To the byte: what follows the line is TLS.
        more = plain.recv(1)
        if not more or len(read) > GREETING_BYTES:
            raise ConnectionResetError("it did not greet")
        read += more
