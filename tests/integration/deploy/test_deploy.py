"""What is shipped for operation is accepted by the programs it is for."""

import re
import subprocess
from pathlib import Path

from fleetcast.bus.server import find_server, render_config

DEPLOY = Path(__file__).parents[3] / "deploy"
OWN_TO_A_PLACE = {"server_name", "listen", "http", "store_dir"}


def check_server_config(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find_server().path, "-t", "-c", path], capture_output=True, text=True, timeout=20)


def directives(text: str) -> dict[str, str]:
    """The settings of a nats-server configuration, without blocks and comments."""
    plain = re.sub(r"(?m)^\s*#.*$|[{}]", "", text)
    return {key: value.strip().strip('"') for key, value in re.findall(r"(\w+):\s*(\S.*)", plain)}


def test_shipped_server_configuration_is_accepted_by_the_server() -> None:
    checked = check_server_config(DEPLOY / "nats" / "single.conf")

    assert checked.returncode == 0, checked.stderr


def test_broken_variant_a_misspelt_setting_is_not_accepted(tmp_path: Path) -> None:
    broken = tmp_path / "single.conf"
    broken.write_text((DEPLOY / "nats" / "single.conf").read_text().replace("sync_interval", "sync_intervall"))

    assert check_server_config(broken).returncode != 0


def test_shipped_server_configuration_says_what_up_says() -> None:
    shipped = directives((DEPLOY / "nats" / "single.conf").read_text())
    generated = directives(render_config(name="n", store=Path("/s"), host="127.0.0.1", port=4222, http_port=8222))

    assert set(shipped) == set(generated)
    assert {key for key in shipped if shipped[key] != generated[key]} <= OWN_TO_A_PLACE


def test_every_setting_of_the_server_is_explained() -> None:
    readme = (DEPLOY / "nats" / "README.md").read_text()

    for name in ("sync_interval: always", "strict: true", "js_ack_fc_v2: false", "max_payload", "max_file", "http"):
        assert name in readme
