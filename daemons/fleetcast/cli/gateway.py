"""`fleetcast gateway token add|list|revoke`: who may ask the gateway."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from fleetcast.cli.call import Call
from fleetcast.cli.connection import person, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.table import table
from fleetcast.cli.units import ago, moment
from fleetcast.daemons.gateway import tokens
from fleetcast.daemons.gateway.access import Role, Token, Tokens, digest, new_token
from fleetcast.registry.commands import stamp


def add(call: Call, name: str, *, role: str, file: Path | None, reason: str | None, dry_run: bool) -> Exit:
    """Make a token; it is printed once."""
    path = _place(call, file)
    if not reason:
        raise usage("why the token is needed must be said; it stays beside its hash", next_step="--reason TEXT")
    if role not in tuple(Role):
        raise usage(f"{role[:40]!r} is no role; there is {', '.join(Role)}", next_step=f"--role {Role.VIEWER}")
    secret = new_token()
    try:
        token = Token(
            name=name,
            role=Role(role),
            sha256=digest(secret),
            created_at=stamp(datetime.now(UTC)),
            created_by=person(),
            reason=reason,
        )
    except ValidationError as error:
        raise usage(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    try:
        kept = tokens.with_token(_known(path), token)
    except ValueError as error:
        raise usage(str(error), next_step=f"fleetcast gateway token revoke {name} --reason TEXT") from error
    if dry_run:
        call.out.document({"name": name, "role": role, "file": str(path), "dry_run": True})
        call.out.text(f"would make a token {name} ({role}) in {path}")
        return Exit.OK
    _write(path, kept)
    call.out.document({"name": name, "role": role, "file": str(path), "token": secret})
    call.out.text(secret)
    call.out.say(f"{name} is {role}; it is shown this once: only its hash is in {path}")
    return Exit.OK


def listed(call: Call, *, file: Path | None) -> Exit:
    """Tokens, without what would let anybody in."""
    path = _place(call, file)
    known = _known(path).tokens
    call.out.document(
        {"file": str(path), "tokens": [each.model_dump(mode="json", exclude={"sha256"}) for each in known]}
    )
    if not known:
        call.out.text(f"no token in {path}")
        return Exit.OK
    now = datetime.now(UTC)
    rows = [
        (t.name, t.role.value, ago((now - moment(t.created_at)).total_seconds()), t.created_by, printable(t.reason))
        for t in known
    ]
    call.out.show(table(("NAME", "ROLE", "MADE", "BY", "WHY"), rows))
    return Exit.OK


def revoke(call: Call, name: str, *, file: Path | None, reason: str | None, dry_run: bool) -> Exit:
    """Take a token back."""
    path = _place(call, file)
    if not reason:
        raise usage("why the token is taken back must be said", next_step="--reason TEXT")
    try:
        left = tokens.without_token(_known(path), name)
    except LookupError as error:
        raise not_found(str(error.args[0]), next_step="fleetcast gateway token list") from error
    if not dry_run:
        _write(path, left)
    call.out.document({"name": name, "file": str(path), "revoked": not dry_run, "reason": reason, "dry_run": dry_run})
    call.out.text(f"{'would revoke' if dry_run else 'revoked'} {name} in {path}: {printable(reason)}")
    return Exit.OK


def _place(call: Call, file: Path | None) -> Path:
    path = file or target(call).settings.gateway.tokens
    if path is None:
        raise usage(
            "no token file is set, so that the gateway answers this machine alone, without tokens",
            next_step="set gateway.tokens, or give --file FILE",
        )
    return path


def _known(path: Path) -> Tokens:
    if not path.exists():
        return Tokens()
    try:
        return tokens.read(path)
    except tokens.TokenFileWrong as error:
        raise Problem("tokens", str(error), next_step=error.next_step) from error


def _write(path: Path, kept: Tokens) -> None:
    try:
        tokens.write(path, kept)
    except OSError as error:
        raise Problem(
            "tokens", f"{path} cannot be written: {error.strerror}", next_step=f"ls -ld {path.parent}"
        ) from error
