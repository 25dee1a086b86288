"""When certificates end, as daemons show it."""

from datetime import timedelta
from pathlib import Path

from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.settings import BusSettings, Settings
from fleetcast.daemons.metrics.certificates import NAME, Certificates
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.security.authority import issue, make_authority, utc_now


def shown(settings: Settings, daemon: str) -> dict[tuple[str, ...], float]:
    sheet = Sheet("node-1", daemon)
    Certificates(settings).read(sheet)
    return sheet.values.get(NAME, {})


def test_a_daemon_shows_when_its_certificates_end_and_a_renewed_one_at_once(tmp_path: Path) -> None:
    now = utc_now()
    authority = make_authority("f", now=now)
    own, ca = tmp_path / "tls.pem", tmp_path / "ca.pem"
    ca.write_text(authority.certificate)
    bus = BusSettings(url="tls://127.0.0.1:1", cert=own, key=own, ca=ca)
    settings = Settings(bus=bus, gateway=GatewaySettings(certificate=own, key=own))

    for days in (20, 365):
        own.write_text(issue(authority, "gpu-1", fleet="f", now=now, days=days).together)
        ends = (now + timedelta(days=days)).timestamp()

        of_registry, of_gateway = shown(settings, "registry"), shown(settings, "gateway")

        assert of_registry["node-1", "registry", "own"] == ends
        assert of_registry.keys() == {("node-1", "registry", each) for each in ("own", "authority")}
        assert of_gateway["node-1", "gateway", "https"] == ends


def test_a_half_written_certificate_is_shown_as_one_that_has_ended(tmp_path: Path) -> None:
    own = tmp_path / "tls.pem"
    own.write_text(make_authority("f", now=utc_now()).certificate[:200])

    assert shown(Settings(bus=BusSettings(cert=own, key=own)), "registry") == {("node-1", "registry", "own"): 0.0}


def test_a_daemon_without_certificates_shows_none() -> None:
    assert shown(Settings(), "gateway") == {}
