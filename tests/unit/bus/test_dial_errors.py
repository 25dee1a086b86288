"""What a failed dial is called: the words decide what a person checks next."""

import ssl

import nats.errors
import pytest

from fleetcast.bus.link import _wrapped


@pytest.mark.parametrize(
    "hung_up",
    [
        ssl.SSLError("certificate required"),
        ConnectionResetError("reset"),
        BrokenPipeError(32, "Broken pipe"),
        nats.errors.UnexpectedEOF(),
        EOFError(),
    ],
)
def test_a_tls_server_that_hangs_up_points_at_the_certificates(hung_up: Exception) -> None:
    told = _wrapped(hung_up, "tls://n1:4222", tls=True)

    assert str(told).startswith("no TLS with tls://n1:4222")
    assert "bus.cert" in (getattr(told, "next_step", "") or "")


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), BrokenPipeError(32, "Broken pipe")])
def test_a_plain_server_that_hangs_up_does_not(error: Exception) -> None:
    assert str(_wrapped(error, "nats://n1:4222")).startswith("no NATS at nats://n1:4222")
