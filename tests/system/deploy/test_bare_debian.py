"""docs/install.md, from bare root folders of Debian to three machines with TLS, roles and signatures, as it stands."""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.pages import ROOT, blocks
from tests.system.deploy.machines import Machine, address, copied, host, switched

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("debootstrap") is None or shutil.which("ip") is None,
        reason="needs root, debootstrap and iproute2 (apt-get install debootstrap iproute2)",
    ),
    # What the test's own pip fetches is installed there.
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Debian 12 has Python 3.11"),
]

DEBIAN = "bookworm"
BARE = "FLEETCAST_BARE_DEBIAN"
"""Variable with a root folder that debootstrap made before, and nothing else: to try again without the minutes."""
NAMES = ("operator", "node-1", "gpu-2", "node-3")
SERVERS = {"node-1": "n1", "gpu-2": "n2", "node-3": "n3"}
ROLES = {"node-1": ("control", "node"), "gpu-2": ("gpu",), "node-3": ("node",)}
KEYS = {
    "node-1": {"control": "registry monitor remedy notifier", "node-1": "distributor"},
    "gpu-2": {"gpu-2": "distributor trainer"},
    "node-3": {"node-3": "distributor"},
}
CREDENTIALS = "checkout/keys/credentials"
WAIT_SECONDS = 120.0


def steps(title: str) -> list[str]:
    """The blocks of commands of a step of the page."""
    page = (ROOT / "docs" / "install.md").read_text()
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    return blocks(next(part for part in parts if part.startswith(title)), "sh")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare Debian with what step 1 makes of it."""
    folder = tmp_path_factory.mktemp("debian")
    bare = Path(os.environ.get(BARE) or folder / "bare")
    if not bare.exists():
        host("debootstrap", "--variant=minbase", DEBIAN, bare)
    with copied(bare, folder, "base") as root:
        _begin(root)
        yield root


def _begin(root: Path) -> None:
    """The checkout, packages in place of a registry, and step 1."""
    (root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    packages, checkout = root / "packages", root / "root/checkout"
    pip = (sys.executable, "-m", "pip", "download", "--dest", packages)
    host(*pip, "--require-hashes", "-r", ROOT / "requirements.lock")
    host(*pip, "setuptools", "wheel")
    listed = host("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            place = checkout / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place)
    machine = Machine("base", root, env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/packages"})
    machine.page(steps("1. ")[0], codes={"fleetcast doctor": (1,)})


@pytest.fixture(scope="module")
def machines(base: Path) -> Iterator[dict[str, Machine]]:
    """Four of them, which know each other's names."""
    hosts = "".join(f"{address(n)} nats-{n}.example.net\n" for n in (1, 2, 3))
    with ExitStack() as stack:
        spaces = stack.enter_context(switched(NAMES))
        made = {}
        for name in NAMES:
            root = stack.enter_context(copied(base, base.parent, name))
            (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
            made[name] = Machine(name, root, spaces[name])
            stack.callback(made[name].stop)
        yield made


def carried(source: Machine, path: str, target: Machine) -> None:
    """Copy a file or folder to the checkout of another machine, as a person would with scp."""
    place = target.root / "root/checkout" / Path(path).name
    found = source.root / "root" / path
    if found.is_dir():
        shutil.copytree(found, place, dirs_exist_ok=True)
    else:
        shutil.copy2(found, place)


def until(machine: Machine, script: str) -> None:
    """Run a command until it succeeds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            machine.run(script)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


def with_servers(machines: dict[str, Machine]) -> None:
    """Steps 2 and 3."""
    operator = machines["operator"]
    operator.page(steps("2. ")[0])
    server, setup, told = steps("3. ")
    for name, place in SERVERS.items():
        carried(operator, f"checkout/keys/servers/{place}", machines[name])
        machines[name].page(server, {"n1/": f"{place}/"})
    until(operator, f"cd checkout; {setup.splitlines()[0]}")
    operator.page(setup)
    for name, place in SERVERS.items():
        carried(operator, f"checkout/keys/servers/{place}", machines[name])
        machines[name].page(told, {"n1/": f"{place}/"})


def with_roles(machines: dict[str, Machine]) -> None:
    """Steps 4 and 5."""
    operator = machines["operator"]
    handed, begun = steps("5. ")
    loop, settings = handed.splitlines()
    for name, roles in ROLES.items():
        machine = machines[name]
        for role in roles:
            machine.page(steps("4. ")[0], {"install gpu": f"install {role}"})
        for key, daemons in {**KEYS[name], "operator": "operator"}.items():
            carried(operator, f"{CREDENTIALS}/{key}", machine)
            machine.page(loop, {"distributor trainer": daemons, "gpu-2": key})
        machine.page(settings, {"gpu-2": name})
        with (machine.root / "etc/fleetcast/fleetcast.toml").open("a") as file:
            file.write('\n[store]\npublish_roots = ["/srv/models"]\n')
        rest = [line for line in begun.splitlines() if not line.startswith("editor")]
        machine.page("\n".join(rest[:-1]), {"install gpu": f"install {roles[-1]}"})
        (machine.root / "srv/models").mkdir()
        (machine.root / "srv/models/hex8.bin").write_bytes(os.urandom(300_000))
    until(machines["node-1"], "test $(fleetcast status | grep -c ' ready ') -ge 3")


def status(machine: Machine) -> Any:
    return json.loads(machine.run("fleetcast status --json 2>/dev/null"))


def test_three_bare_machines_become_a_fleet_with_tls_roles_and_signatures(machines: dict[str, Machine]) -> None:
    with_servers(machines)
    with_roles(machines)

    machines["gpu-2"].page(steps("6. ")[0])

    listed = machines["operator"].run(f"fleetcast keys list --config {CREDENTIALS}/deploy/fleetcast.toml")
    assert "team-a" in listed
    for name in ROLES:
        assert list((machines[name].root / "var/lib/fleetcast/models/hex8").glob("*")), name
    # Nothing that nobody signed: this machine has no publisher's key.
    refused = machines["node-3"].run(
        "fleetcast promote rogue 1 /srv/models/hex8.bin --reason tried --wait --timeout 60s", codes=(1, 4)
    )
    assert "sign" in refused
    for name in ROLES:
        assert not (machines[name].root / "var/lib/fleetcast/models/rogue").exists()
    # Nor what a role may not: who looks cannot roll back.
    looking = f"--config {CREDENTIALS}/on-call/fleetcast.toml"
    said = machines["operator"].run(f"fleetcast rollback hex8 --reason tried {looking}", codes=(1, 3, 4, 6))
    assert "may not" in said
    # Nor anybody without a key.
    machines["operator"].run("fleetcast status --server nats://nats-1.example.net:4222", codes=(1, 3, 4, 6))
