"""A heartbeat that would be larger than NATS takes."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from fleetcast.bus.link import HEADER_FRAME_BYTES
from fleetcast.bus.wire import DEFAULT_MAX_PAYLOAD
from fleetcast.daemons.distributor import heartbeat as reporting
from fleetcast.daemons.distributor.fitting import FRAME_BYTES, fitted
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.payloads import Checks
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus

AT = "2026-11-22T00:00:00.000Z"


def model(number: int, day: int = 1) -> ModelStatus:
    """A model whose newest version was installed on that day."""
    installed = tuple(
        InstalledVersion(
            version=str(n),
            artifact=f"{number:064x}",
            bytes=2**30,
            checks=Checks(size="ok", sha256="ok", format="ok"),
            transport="bittorrent",
            seconds=12.5,
            installed_at=f"2026-10-{day + n:02}T00:00:00.000Z",
        )
        for n in range(2)
    )
    name = f"model_{number:05}"
    return ModelStatus(model=name, generation=2, current="1", path=f"/data/{name}", installed=installed)


def status(*models: ModelStatus) -> NodeStatus:
    said = heartbeat("n1", at=AT, models=models)
    return said.model_copy(update={"status": f"{len(models)} models, no transfer"})


def test_a_report_that_fits_is_left_as_it_is() -> None:
    whole = status(model(1), model(2))

    said, document = fitted(whole, DEFAULT_MAX_PAYLOAD)

    assert said is whole
    assert NodeStatus.model_validate_json(document) == whole


def test_a_report_of_thousands_of_models_fits_and_says_how_many_it_leaves_out() -> None:
    whole = status(*(model(n) for n in range(3000)))

    said, document = fitted(whole, DEFAULT_MAX_PAYLOAD)

    heard = NodeStatus.model_validate_json(document)
    assert len(document) + FRAME_BYTES <= DEFAULT_MAX_PAYLOAD
    assert len(document) > 0.98 * DEFAULT_MAX_PAYLOAD, "what there is room for is said"
    assert FRAME_BYTES > HEADER_FRAME_BYTES
    assert (heard.node, heard.left_out) == ("n1", 3000 - len(heard.models))
    assert heard.status == f"3000 models, no transfer; {heard.left_out} of 3000 models left out of this report"
    assert said == heard


def test_what_was_installed_last_is_said_first() -> None:
    models = [model(n, day=1 + n % 28) for n in range(280)]
    limit = FRAME_BYTES + len(status(*models[:100]).model_dump_json())

    said, _ = fitted(status(*models), limit)

    days = sorted({m.installed[-1].installed_at for m in said.models})
    left = {m.installed[-1].installed_at for m in models} - set(days)
    assert left
    assert max(left) < days[1], "only of one day some are said and some are not"
    assert [m.model for m in said.models] == sorted(m.model for m in said.models)


def test_what_is_left_out_is_logged_once_and_when_it_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = SimpleNamespace(
        bus=SimpleNamespace(wire=SimpleNamespace(max_payload=DEFAULT_MAX_PAYLOAD)), board=SimpleNamespace(left_out=0)
    )
    large, small = status(*(model(n) for n in range(2500))), status(model(1))
    said = iter((small, large, large, small))
    monkeypatch.setattr(reporting, "status", lambda _parts: next(said))

    with capture_logs() as logs:
        documents = [reporting.report(parts) for _ in range(4)]  # type: ignore[arg-type]

    assert all(len(document) < DEFAULT_MAX_PAYLOAD for document in documents)
    assert [line["event"] for line in logs] == ["heartbeat.cut", "heartbeat.whole"]
    cut = logs[0]
    assert (cut["log_level"], cut["models"] + cut["left_out"]) == ("warning", 2500)
    assert "max_payload" in cut["next_step"]
