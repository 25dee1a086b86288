"""What a connection proves itself with: read anew for every connection, so that renewed files are taken without a
restart, and refused when others could read them."""

import os
import re
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import RawCredentials

from fleetcast.bus.errors import OperationRefused
from fleetcast.config.credentials import readable_by_others
from fleetcast.config.settings import BusSettings

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
RENEW = "fleetcast fleet rotate NAME (where the fleet's keys are kept), then copy its files here"


def read_private(path: Path) -> str:
    """A secret's text.

    Raises:
        OperationRefused: it cannot be read, is empty, or others than its owner may use it.
    """
    try:
        with path.open() as file:
            # Of the file that is read: another one may have been put there in between.
            _refuse_shared(path, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            text = file.read().strip()
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is no text"
        raise OperationRefused(
            f"the credentials cannot be read: {path}: {reason}", next_step="check bus.creds, bus.nkey and bus.key"
        ) from e
    if not text:
        raise OperationRefused(f"{path} is empty: it was not written to its end", next_step=RENEW)
    return text


def _refuse_shared(path: Path, mode: int) -> None:
    if readable_by_others(path, mode):
        raise OperationRefused(f"others may use the secret in {path} (mode {mode:04o})", next_step=f"chmod 600 {path}")


def read_seed(path: Path) -> str:
    """An nkey seed.

    Raises:
        OperationRefused: as `read_private`, or what is there is no whole seed.
    """
    import nkeys  # type: ignore[import-untyped]

    text = read_private(path)
    try:
        pair = nkeys.from_seed(bytearray(text.encode()))
        pair.wipe()
    except Exception as e:  # the library raises whatever its decoders raise
        raise OperationRefused(f"{path} holds no whole nkey seed", next_step=RENEW) from e
    return text


def tls_context(settings: BusSettings) -> ssl.SSLContext | None:
    """The TLS settings as a context; None when none are set (a `tls://` address then uses the system's).

    Raises:
        OperationRefused: a file cannot be read, does not fit, or lets others use a key.
    """
    if not (settings.ca or settings.cert):
        return None
    if settings.cert and settings.key:
        read_private(settings.key)
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        if settings.cert:
            context.load_cert_chain(str(settings.cert), str(settings.key) if settings.key else None)
    except OSError as e:
        raise OperationRefused(
            f"the TLS files cannot be used: {e}", next_step="check bus.ca, bus.cert and bus.key"
        ) from e
    return context


def auth_options(settings: BusSettings) -> dict[str, Any]:
    """Credentials and TLS as nats-py's options; reads files, so that it belongs in a thread.

    Raises:
        OperationRefused: a file cannot be used.
    """
    options: dict[str, Any] = {"user": settings.user, "password": settings.password, "token": settings.token}
    if settings.creds:
        options["user_credentials"] = RawCredentials(read_private(settings.creds))
    if settings.nkey:
        options["nkeys_seed_str"] = read_seed(settings.nkey)
    context = tls_context(settings)
    if context is not None:
        options["tls"] = context
    return options


def common_name(settings: BusSettings) -> str:
    """Whom the client's certificate names; "" for none, or where that could not be part of a subject."""
    if settings.cert is None:
        return ""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(settings.cert.read_bytes())
    except (OSError, ValueError):
        return ""
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return next((name for name in names if _TOKEN.match(name)), "")


def certificate_end(path: Path) -> datetime | None:
    """When the first certificate of a file ends, UTC; None: it holds none. Reads the file."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def certificate_trouble(settings: BusSettings, now: datetime | None = None) -> str:
    """What is wrong with the time of the client's certificate; "" for nothing. Asked when a handshake failed: the
    server does not say why it hung up."""
    if settings.cert is None:
        return ""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(settings.cert.read_bytes())
    except (OSError, ValueError) as e:
        return f"{settings.cert} is no certificate: {e}"
    clock = now or datetime.now(UTC)
    if clock >= certificate.not_valid_after_utc:
        return f"{settings.cert} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if clock < certificate.not_valid_before_utc:
        begins = certificate.not_valid_before_utc
        return (
            f"{settings.cert} is valid from {begins:%Y-%m-%d %H:%M} UTC on, and this clock says {clock:%Y-%m-%d %H:%M}"
        )
    return ""
