"""What nats-server reads: one configuration per server, and the accounts, users and permissions that all share."""

import ipaddress
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleetcast.bus.server import render_config
from fleetcast.security.inventory import Identity, Inventory, ServerPlace
from fleetcast.security.roles import (
    SHOWN,
    STREAMED,
    WORKERS,
    Account,
    account_of,
    asked_services,
    permissions,
)

CONFIGURATION, ACCOUNTS, TLS_FILE, CA_FILE = "nats-server.conf", "accounts.conf", "tls.pem", "ca.pem"


def _listen(host: str) -> str:
    """Where a server listens: at its address, or at all of them where only a name is known."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "0.0.0.0"


def _tls(server: ServerPlace, indent: str = "") -> list[str]:
    own = json.dumps(server.tls or f"{server.place}/{TLS_FILE}")
    lines = [f"cert_file: {own}", f"key_file: {own}"]
    lines += [f"ca_file: {json.dumps(f'{server.place}/{CA_FILE}')}", "verify: true", "timeout: 5"]
    return [f"{indent}tls {{", *(f"{indent}  {line}" for line in lines), f"{indent}}}"]


def server_text(inventory: Inventory, server: ServerPlace) -> str:
    """The configuration of one server."""
    common = render_config(
        name=server.name,
        store=Path(server.store),
        host=_listen(server.host),
        port=server.port,
        http_port=server.http_port,
    )
    lines = [f"pid_file: {json.dumps(server.pid_file)}", *_tls(server)]
    if len(inventory.servers) > 1:
        lines += _cluster(inventory, server)
    return "\n".join([common.rstrip("\n"), *lines, f"include {json.dumps(ACCOUNTS)}"]) + "\n"


def _cluster(inventory: Inventory, server: ServerPlace) -> list[str]:
    routes = [other.route for other in inventory.servers if other.name != server.name]
    return [
        "cluster {",
        f"  name: {json.dumps(inventory.fleet)}",
        f"  listen: {json.dumps(f'{_listen(server.host)}:{server.cluster_port}')}",
        f"  routes: {json.dumps(routes)}",
        '  ping_interval: "5s"',
        *_tls(server, "  "),
        "}",
    ]


def accounts_text(inventory: Inventory) -> str:
    """Accounts, and in them every key that is accepted with what it may do."""
    nodes = [i.name for i in inventory.identities if i.role in WORKERS]
    lines = ["accounts {"]
    for account in Account:
        members = [i for i in inventory.identities if account_of(i.role) is account]
        lines += [f"  {account.value} {{", *_joined(account), "    users: ["]
        lines += [line for identity in members for line in _users(identity, nodes)]
        lines += ["    ]", "  }"]
    return "\n".join([*lines, "}", f"system_account: {Account.SYSTEM.value}"]) + "\n"


def _joined(account: Account) -> Iterator[str]:
    """What an account gives to the other, or takes from it."""
    if account is Account.FLEET:
        yield "    jetstream: enabled"
        yield "    exports: ["
        for subject in asked_services():
            answers = ", response_type: stream" if subject.startswith(STREAMED) else ""
            yield f"      {{ service: {json.dumps(subject)}, accounts: [{Account.ASKING.value}]{answers} }}"
        yield from (f"      {{ stream: {json.dumps(s)}, accounts: [{Account.ASKING.value}] }}" for s in SHOWN)
        yield "    ]"
    elif account is Account.ASKING:
        yield "    imports: ["
        for kind, subjects in (("service", asked_services()), ("stream", SHOWN)):
            for subject in subjects:
                yield f"      {{ {kind}: {{ account: {Account.FLEET.value}, subject: {json.dumps(subject)} }} }}"
        yield "    ]"


def _users(identity: Identity, nodes: Iterable[str]) -> Iterator[str]:
    allowed = permissions(identity.role, identity.name, nodes)
    for key in identity.accepted:
        yield f"      # {identity.name}: {identity.role.value}"
        yield f"      {{ nkey: {key}, permissions: {{"
        yield f"        publish: {{ allow: {_listed(allowed.publish)}"
        yield f"          deny: {_listed(allowed.refused)} }}"
        yield f"        subscribe: {{ allow: {_listed(allowed.hear)} }}"
        yield "      } }"


def _listed(subjects: Iterable[str]) -> str:
    return json.dumps(list(subjects))
