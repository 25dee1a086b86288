"""The fleet's certificate authority: ECDSA P-256, one level, for servers and clients of NATS (RFC 5280)."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetcast.security.errors import SecretDamaged

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
BACKDATED = timedelta(hours=1)
"""Certificates are valid from an hour ago on: the clocks of a fleet differ."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, both in PEM."""

    certificate: str
    key: str

    @property
    def together(self) -> str:
        """Key and certificate as one file: replacing one file cannot leave a key without its certificate."""
        return self.key + self.certificate


def _name(common: str, fleet: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet)]
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _public_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _builder(subject: x509.Name, issuer: x509.Name, now: datetime, days: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority(fleet: str, *, now: datetime, days: float = AUTHORITY_DAYS) -> Issued:
    """A new authority for *fleet*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{fleet} authority", fleet)
    certificate = (
        _builder(name, name, now, days)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issued(_public_pem(certificate), _private_pem(key))


def issue(
    authority: Issued,
    common: str,
    *,
    fleet: str,
    now: datetime,
    hosts: Sequence[str] = (),
    days: float = CERTIFICATE_DAYS,
) -> Issued:
    """A certificate for *common*: a server's when it has *hosts* (it dials other servers as well), else a client's.

    Raises:
        SecretDamaged: the authority's files are not whole.
    """
    parent, signing = _opened(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    ends = min(now + timedelta(days=days), parent.not_valid_after_utc)
    builder = (
        _builder(_name(common, fleet), parent.subject, now, days)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if ends < now + timedelta(days=days):
        raise SecretDamaged(
            f"the authority ends on {parent.not_valid_after_utc:%Y-%m-%d}, before what it would sign",
            next_step="make a new fleet folder, and move the nodes to it one by one",
        )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False)
    return Issued(_public_pem(builder.sign(signing, hashes.SHA256())), _private_pem(key))


def _opened(authority: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        parent = x509.load_pem_x509_certificate(authority.certificate.encode())
        key = serialization.load_pem_private_key(authority.key.encode(), None)
    except (ValueError, TypeError) as e:
        raise SecretDamaged(
            f"the authority's files are not whole: {e}", next_step="restore ca/ from the backup of this folder"
        ) from e
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != parent.public_key():
        raise SecretDamaged(
            "the authority's key does not belong to its certificate",
            next_step="restore ca/ from the backup of this folder",
        )
    return parent, key


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, UTC."""

    begins: datetime
    ends: datetime


def validity(path: Path) -> Validity:
    """When the certificate in a PEM file holds.

    Raises:
        SecretDamaged: it cannot be read, or there is none in it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it was not written to its end"
        raise SecretDamaged(f"{path} holds no certificate: {reason}", next_step="fleetcast fleet rotate NAME") from e
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def utc_now() -> datetime:
    """The time of this machine, UTC, in whole seconds, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)
