"""`fleetcast fleet credentials`: every secret with owner, role, age, due date and users."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.connection import absolute
from fleetcast.cli.problems import Exit
from fleetcast.cli.security.told import told
from fleetcast.cli.table import table
from fleetcast.security.authority import utc_now
from fleetcast.security.due import Secret, secrets_of
from fleetcast.security.folder import Folder

BAD = frozenset({"overdue", "damaged"})


def credentials(call: Call, folder: Path, *, now: datetime | None = None) -> Exit:
    """List every secret; exit 1 when one is overdue or damaged."""
    place, clock = Folder(absolute(folder)), now or utc_now()
    with told():
        inventory = place.load()
        found = secrets_of(place, inventory, clock)
    bad = [each for each in found if each.state in BAD]
    call.out.document(
        {
            "ok": not bad,
            "folder": str(place.path),
            "secrets": [_document(each) for each in found],
            "revoked": [entry.model_dump(mode="json") for entry in inventory.revoked],
        }
    )
    call.out.show(
        table(("SECRET", "OWNER", "ROLE", "AGE", "DUE", "STATE", "USED BY"), [_row(each, clock) for each in found])
    )
    for each in found:
        if each.state != "ok":
            call.out.say(_word(each, clock, place.path))
    return Exit.FAILED if bad else Exit.OK


def _document(each: Secret) -> dict[str, object]:
    whole = asdict(each)
    return {**whole, **{k: v.isoformat() if v else None for k, v in (("issued", each.issued), ("due", each.due))}}


def _row(each: Secret, now: datetime) -> tuple[str, ...]:
    age = f"{max((now - each.issued).days, 0)} d" if each.issued else "-"
    due = f"{each.due:%Y-%m-%d}" if each.due else "-"
    return (each.kind, each.owner, each.role, age, due, each.state, each.used_by or "-")


def _word(each: Secret, now: datetime, folder: Path) -> str:
    if each.detail:
        what = each.detail
    elif each.due is not None and each.state == "overdue":
        what = f"the {each.kind} of {each.owner} was due {(now - each.due).days} days ago"
    else:
        left = (each.due - now).days if each.due else 0
        what = f"the {each.kind} of {each.owner} is due in {left} days"
    where = f" --dir {folder}" if each.fix.startswith("fleetcast fleet ") else ""
    return f"{each.state}: {what}" + (f"; next: {each.fix}{where}" if each.fix else "")
