"""What a command has of the environment of the daemon that starts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.environment import for_job, for_program, is_own
from fleetcast.config.loader import named_fields, variable
from fleetcast.config.natscli import VARIABLES

MACHINE = {
    "PATH": "/usr/local/cuda/bin:/bin",
    "HOME": "/home/ann",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "CUDA_HOME": "/usr/local/cuda",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
    "NCCL_SOCKET_IFNAME": "eth0",
    "HSA_OVERRIDE_GFX_VERSION": "10.3.0",
    "HF_HOME": "/models",
    "HF_TOKEN": "hf_abc",
    "https_proxy": "http://ann:secret@proxy:3128",
    "PYTHONPATH": "/code",
}
DAEMON = {
    "NATS_URL": "nats://user:secret@host",
    "NATS_PASSWORD": "secret",
    "FLEETCAST_BUS_PASSWORD": "secret",
    "FLEETCAST_FAILPOINTS": "x=kill",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "CREDENTIALS_DIRECTORY": "/run/credentials/fleetcast-trainer.service",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "30000000",
    "LISTEN_FDS": "1",
    "JOURNAL_STREAM": "8:1",
    "STATE_DIRECTORY": "/var/lib/fleetcast",
}
SETTINGS = {"FLEETCAST_CONFIG": "/etc/fleetcast/fleetcast.toml"}


def test_a_job_has_the_environment_of_its_machine_and_nothing_that_is_the_daemon_s_own() -> None:
    assert for_job(MACHINE | DAEMON | SETTINGS) == MACHINE | SETTINGS


def test_a_program_has_a_few_names_and_none_of_them_is_a_secret() -> None:
    few = {"PATH", "HOME", "LANG", "TZ"}
    assert for_program(MACHINE | DAEMON | SETTINGS) == {name: MACHINE[name] for name in few} | SETTINGS


@pytest.mark.parametrize("name", sorted([*VARIABLES, *(variable(name) for name, _ in named_fields())]))
def test_no_variable_that_is_a_setting_reaches_a_command(name: str) -> None:
    assert is_own(name)


@given(st.dictionaries(st.text(), st.text()))
def test_a_program_never_has_what_a_job_has_not(environment: dict[str, str]) -> None:
    whole = environment | MACHINE | DAEMON
    assert for_program(whole).items() <= for_job(whole).items() <= whole.items()
