"""A role that may ask for one thing cannot ask for another by writing it into the same request."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetcast.bus import ServiceError
from fleetcast.cli.connection import Target
from fleetcast.cli.doctor import check_certificate
from fleetcast.config.loader import load
from fleetcast.daemons.registry.desk import TransitionDesk
from fleetcast.daemons.remedy.incidents import commands as incidents
from fleetcast.daemons.remedy.playbooks import commands as playbooks
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.daemons.trainer.lanes import commands as lanes
from fleetcast.events.lifecycle import TRANSITION_SUBJECT
from fleetcast.registry.commands import VERBS
from fleetcast.security.authority import utc_now
from fleetcast.security.changing import create, places
from fleetcast.security.folder import Folder

APPROVAL = {"actor": "/x", "command": {"do": "approve", "model": "m", "version": "1", "by": "eve"}}


class Unasked:
    """An engine that must not be reached."""

    async def handle(self, _transition: Any) -> Any:
        raise AssertionError("the engine was asked")


@pytest.mark.asyncio
async def test_a_command_is_refused_at_the_subject_of_another() -> None:
    endpoints = TransitionDesk(Unasked()).endpoints()  # type: ignore[arg-type]

    assert {subject for subject, _ in endpoints.values()} == {
        TRANSITION_SUBJECT,
        *(f"{TRANSITION_SUBJECT}.{verb}" for verb in VERBS),
    }
    for verb in VERBS:
        if verb != "approve":
            with pytest.raises(ServiceError, match=r"approve is asked for at fc\.svc\.registry\.transition\.approve"):
                await endpoints[verb][1](json.dumps(APPROVAL).encode())


@pytest.mark.asyncio
async def test_where_only_reading_is_answered_nothing_is_changed() -> None:
    asked: list[bytes] = []

    async def answer(body: bytes) -> bytes:
        asked.append(body)
        return b"{}"

    endpoints = with_reading("things", "fc.svc.things", answer, ("list", "show"))
    subject, read = endpoints["things-read"]

    assert subject == "fc.svc.things.read"
    for body in (b'{"ask": "approve"}', b'{"ask": ["list"]}', b"{}", b"[]", b"not json", b'{"ask": null}'):
        with pytest.raises(ServiceError, match="here there is list, show"):
            await read(body)
    assert asked == []
    assert await read(b'{"ask": "approve", "ask": "list"}') == b"{}"
    assert asked == [b'{"ask": "list"}']
    assert await endpoints["things"][1](b'{"ask": "approve"}') == b"{}"


def test_what_counts_as_reading_changes_nothing() -> None:
    assert set(incidents.READS) == {"list", "get", "silences"}
    assert set(playbooks.READS) == {"list", "show"}
    assert set(lanes.READS) == {"list", "show"}


def test_doctor_warns_of_a_certificate_three_weeks_before_its_end(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "keys")
    create(folder, "test", places(["a"], folder=folder.path), reason=None)
    aim = Target(load(folder.credentials("operator") / "fleetcast.toml", env={}))

    states = [check_certificate(aim, utc_now() + timedelta(days=days)).state for days in (0, 350, 400)]

    assert states == ["ok", "warn", "fail"]
    assert "fleet rotate" in check_certificate(aim, utc_now() + timedelta(days=350)).fix
    (folder.credentials("operator") / "tls.pem").write_text("half")
    assert check_certificate(aim).state == "fail"
