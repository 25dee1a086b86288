"""The connection settings of the NATS command line: its variables, and the contexts that it keeps.

Contexts are JSON files, `$XDG_CONFIG_HOME/nats/context/NAME.json` (else `~/.config/...`); the selected one's name is in
`nats/context.txt` (package natscontext of nats-io/jsm.go). `NATS_CONTEXT` names one explicitly.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fleetcast.config.errors import ConfigError, Mistake, Span, in_text
from fleetcast.config.origins import Given, Origin

VARIABLES = {
    "NATS_URL": "bus.url",
    "NATS_USER": "bus.user",
    "NATS_PASSWORD": "bus.password",
    "NATS_TOKEN": "bus.token",
    "NATS_CREDS": "bus.creds",
    "NATS_NKEY": "bus.nkey",
    "NATS_CERT": "bus.cert",
    "NATS_KEY": "bus.key",
    "NATS_CA": "bus.ca",
    "NATS_TIMEOUT": "bus.request_timeout_seconds",
}
CONTEXT_FIELDS = ("url", "user", "password", "token", "creds", "nkey", "cert", "key", "ca")
REACHING = frozenset(f"bus.{name}" for name in CONTEXT_FIELDS)
"""The settings that say which server is reached and as whom. They belong together."""
UNSUPPORTED = ("nsc", "socks_proxy", "jetstream_domain", "jetstream_api_prefix", "inbox_prefix", "user_jwt")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Context:
    """One stored context."""

    name: str
    path: Path
    fields: dict[str, Any]

    def values(self) -> dict[str, Given]:
        """What it says, as settings."""
        origin = Origin("nats context", f"{self.name} ({self.path})")
        given = {f"bus.{name}": self.fields[name] for name in CONTEXT_FIELDS if self.fields.get(name)}
        return {name: Given(value, origin) for name, value in _user_or_token(given).items()}

    def unsupported(self) -> list[str]:
        """Fields that change how a server is reached and that fleetcast does not know."""
        return [name for name in UNSUPPORTED if self.fields.get(name)]


def from_variables(env: Mapping[str, str]) -> dict[str, Given]:
    """What the `NATS_*` variables say; empty ones say nothing.

    Raises:
        ConfigError: `NATS_TIMEOUT` is no duration as Go writes it (`5s`, `1m30s`).
    """
    given: dict[str, object] = {name: env[variable] for variable, name in VARIABLES.items() if env.get(variable)}
    origins = {name: Origin("environment", variable) for variable, name in VARIABLES.items()}
    if env.get("NATS_TIMEOUT"):
        given["bus.request_timeout_seconds"] = _duration_seconds(env["NATS_TIMEOUT"])
    moved = {**origins, "bus.token": origins["bus.user"]} if not env.get("NATS_TOKEN") else origins
    return {name: Given(value, moved[name]) for name, value in _user_or_token(given).items()}


def named_context(env: Mapping[str, str]) -> Context | None:
    """The context that `NATS_CONTEXT` names.

    Raises:
        ConfigError: it does not exist, is no JSON, or needs something that fleetcast does not know.
    """
    name = env.get("NATS_CONTEXT", "")
    if not name:
        return None
    folder = _folder(env) / "context"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if name not in known:
        raise ConfigError((_unknown_context(name, known, folder),))
    context = _read(name, folder / f"{name}.json")
    if missing := context.unsupported():
        message = f"context {name!r} uses {', '.join(missing)}, which fleetcast does not know"
        raise ConfigError((Mistake(str(context.path), message, "use a context with a plain url and credentials"),))
    return context


def selected_context(env: Mapping[str, str]) -> Context | None:
    """The context that `nats context select` chose; None where there is none, or none that fleetcast could use.

    It was selected for another program: whatever is wrong with it is no mistake in the settings of this one.
    """
    folder = _folder(env)
    try:
        name = (folder / "context.txt").read_text().strip()
        context = _read(name, folder / "context" / f"{name}.json") if _is_plain(name) else None
    except (OSError, UnicodeDecodeError, ConfigError):
        return None
    return context if context and not context.unsupported() else None


def _folder(env: Mapping[str, str]) -> Path:
    parent = env.get("XDG_CONFIG_HOME")
    return Path(parent or Path(env.get("HOME") or os.path.expanduser("~")) / ".config") / "nats"  # noqa: PTH111


def _is_plain(name: str) -> bool:
    return bool(name) and "/" not in name and ".." not in name


def _read(name: str, path: Path) -> Context:
    text = path.read_text()
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        mistake = in_text(path, text, Span(error.lineno, error.colno), error.msg, f"run: nats context edit {name}")
        raise ConfigError((mistake,)) from error
    return Context(name, path, fields if isinstance(fields, dict) else {})


def _user_or_token(given: Mapping[str, object]) -> dict[str, object]:
    """A user without password is a token: the NATS command line reads it so."""
    values = dict(given)
    if "bus.user" in values and "bus.password" not in values:
        values.setdefault("bus.token", values.pop("bus.user"))
    return values


def _unknown_context(name: str, known: list[str], folder: Path) -> Mistake:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
    return Mistake("NATS_CONTEXT", f"there is no context {name!r} in {folder}; {hint}", "run: nats context ls")


def _duration_seconds(text: str) -> float:
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ConfigError((Mistake("NATS_TIMEOUT", f"{text!r} is no duration", "write it like 5s or 1m30s"),))
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
