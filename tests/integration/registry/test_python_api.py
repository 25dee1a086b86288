"""The Python API against a real fleet: what a program sees, from threads, forks and running loops, and what it is told
when something is missing."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.registry.small_fleet import GATES, SmallFleet, small_fleet

from fleetcast.bus import connect
from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.streams import TRAINING
from fleetcast.events.names import TRAINING_PREFIX
from fleetcast.events.state import Cause
from fleetcast.events.training import TrainingPhase, TrainingRunState, training_subject
from fleetcast.registry import (
    AmbiguousVersion,
    DeploymentStage,
    DescriptionInvalid,
    GateRefused,
    ModelNotFound,
    ModelPerformanceSnapshot,
    ModelRegistry,
    ModelRegistryEntry,
    NoKeeper,
    RegistrationFailed,
    RegistryRefused,
    get_registry,
)
from fleetcast.registry.book import Book, stored
from fleetcast.registry.commands import stamp

GOVERNED: dict[str, Any] = {"constitutional_compliance": True, "bias_check_passed": True}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    """A fleet whose registry is kept, and whose gates ask for governance flags."""
    with small_fleet(tmp_path_factory.mktemp("api"), gates=GATES) as running:
        running.start(running.keeper)
        yield running


@pytest.fixture
def registry(fleet: SmallFleet) -> ModelRegistry:
    return fleet.registry()


def entry(fleet: SmallFleet, model: str, version: str = "1.0.0", **said: Any) -> ModelRegistryEntry:
    path = fleet.publish(f"{model}-{version}.pkl", {"model": model, "version": version})
    return ModelRegistryEntry(model_id=model, version=version, artifact_path=str(path), **said)


# -- registering


def test_an_entry_comes_back_with_everything_that_was_said(fleet: SmallFleet, registry: ModelRegistry) -> None:
    said = entry(
        fleet,
        "said",
        name="Fraud Detector",
        framework="sklearn",
        model_type="classification",
        owner="ml_team",
        team="fraud_prevention",
        license="MIT",
        tags=("tabular", "fraud"),
        training_data_hash="abc123",
        training_dataset_size=50000,
        training_timestamp=datetime(2026, 11, 21, 9, 30),  # noqa: DTZ001  # as `datetime.now()` gives it
        evaluation_metrics={"accuracy": 0.96, "f1": 0.94},
        expected_latency_p95_ms=50.0,
        calibration_error=0.02,
        run_id="run-7",
        git_commit="4b825dc6",
        metadata={"note": "first"},
        **GOVERNED,
    )
    registered = registry.register_model(said)
    assert registered == registry.get_model("said") == registry.get_model("said@1.0.0")
    made = {"artifact", "bytes", "format", "node", "registered_at", "registered_by"}
    assert registered.model_dump(exclude=made) == said.model_dump(exclude=made)
    assert (len(registered.artifact), registered.format, registered.node) == (64, "pickle", "node-1")
    assert registered.registered_by == "/fleet/node-1/python"


def test_the_same_bytes_again_are_the_same_version_and_what_is_new_is_said(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    first = registry.register_model(entry(fleet, "again", owner="one", tags=("kept",)))
    second = registry.register_model(entry(fleet, "again", owner="two"))
    assert (second.artifact, second.owner, second.tags) == (first.artifact, "two", ("kept",))
    assert len(registry.list_models(model_id="again")) == 1


def test_other_bytes_under_the_same_version_are_refused_with_the_way_out(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    kept = registry.register_model(entry(fleet, "taken"))
    path = fleet.publish("taken-other.pkl", {"other": "bytes"})
    with pytest.raises(RegistrationFailed, match=r"versions are immutable"):
        registry.register_model(ModelRegistryEntry(model_id="taken", version="1.0.0", artifact_path=str(path)))
    assert registry.get_model("taken").artifact == kept.artifact


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"artifact_path": "models/no-such-file.pkl"}, "does not exist on this machine (node-1); write the file first"),
        ({"artifact_path": None}, "the registry keeps versions with their bytes"),
        ({"artifact_path": "/etc/hostname"}, "is outside the folders that node-1 publishes from"),
        ({"deploy_status": DeploymentStage.PRODUCTION}, "a version is registered at development"),
        ({"node": "node-9"}, "no distributor runs on node-9"),
    ],
)
def test_what_cannot_be_registered_is_refused_with_what_to_do(
    fleet: SmallFleet, registry: ModelRegistry, change: dict[str, Any], told: str
) -> None:
    wrong = entry(fleet, "wrong").model_copy(update=change)
    with pytest.raises(RegistrationFailed) as caught:
        registry.register_model(wrong)
    assert told in str(caught.value)
    with pytest.raises(ModelNotFound):
        registry.get_model("wrong")


def test_a_file_that_the_origin_refuses_is_told_with_its_words(fleet: SmallFleet, registry: ModelRegistry) -> None:
    path = fleet.folder / "publish" / "broken.pt"
    path.write_bytes(b"no torch file")
    with pytest.raises(RegistrationFailed, match=r"not a loadable"):
        registry.register_model(ModelRegistryEntry(model_id="broken", version="1", artifact_path=str(path)))


# -- in a run that a lane started


def held(fleet: SmallFleet, run: str, claim: int) -> None:
    """Have a node hold a run of a lane under a claim."""

    async def write() -> None:
        async with connect(fleet.node.settings.bus, node="test", daemon="test") as bus:
            book = Book(bus, TRAINING, TRAINING_PREFIX)
            found = await book.find(training_subject(run), TrainingRunState)
            at = stamp(datetime.now(UTC))
            cause = Cause(event="export-1", sequence=0, by="/test", correlation="export-1")
            fresh = TrainingRunState(run=run, lane="hex8", model="hex8", created_at=at, at=at, cause=cause)
            update = {"claim": claim, "owner": f"gpu-{claim}", "phase": TrainingPhase.RUNNING}
            after = (found.value or fresh).model_copy(update=update)
            await book.write([stored(training_subject(run), after, found.sequence)])

    asyncio.run(write())


def test_a_job_of_a_lane_registers_and_changes_under_the_claim_that_its_environment_names(
    fleet: SmallFleet, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(fleet, "hex8-1", 2)
    monkeypatch.setenv("FLEETCAST_RUN_ID", "hex8-1")
    monkeypatch.setenv("FLEETCAST_CLAIM", "2")
    assert registry.register_model(entry(fleet, "lane", **GOVERNED)).run_id == "hex8-1"
    # Started again from its checkpoint, a job registers again what it had registered.
    assert registry.register_model(entry(fleet, "lane", run_id="hex8-1")).run_id == "hex8-1"
    assert registry.update_model("lane", {"owner": "job"}).owner == "job"
    assert registry.update_deployment_status("lane", "sandbox").outcome == "done"

    # Another node has the run now, and this job has not noticed.
    held(fleet, "hex8-1", 3)
    with pytest.raises(RegistrationFailed, match=r"claim 2 of run hex8-1 is over; winner: claim 3 on gpu-3"):
        registry.register_model(entry(fleet, "lane", "1.1.0"))
    with pytest.raises(RegistryRefused, match=r"claim 2 of run hex8-1 is over\n  winner: claim 3 on gpu-3"):
        registry.update_deployment_status("lane", DeploymentStage.PRODUCTION)
    with pytest.raises(RegistryRefused, match="claim 3 on gpu-3"):
        registry.update_model("lane", {"owner": "late"})
    assert [(each.version, each.owner) for each in registry.list_models(model_id="lane")] == [("1.0.0", "job")]


def test_what_is_said_of_a_lane_s_run_from_elsewhere_has_no_claim_and_waits_for_its_end(
    fleet: SmallFleet, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(fleet, "hex8-2", 1)
    held(fleet, "hex8-3", 1)
    monkeypatch.setenv("FLEETCAST_RUN_ID", "hex8-2")
    monkeypatch.setenv("FLEETCAST_CLAIM", "1")
    with pytest.raises(RegistrationFailed, match="run hex8-3 was started by a lane, and no claim is said"):
        registry.register_model(entry(fleet, "elsewhere", run_id="hex8-3"))


def test_a_job_outside_lanes_is_not_affected_whatever_its_run_is_called(
    fleet: SmallFleet, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_RUN_ID", "My Run/7")
    assert registry.register_model(entry(fleet, "outside")).run_id is None
    assert registry.update_model("outside", {"owner": "ann"}).owner == "ann"


# -- stages


def test_gates_refuse_with_numbers_and_let_through_what_was_checked(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "gated"))
    registry.update_deployment_status("gated", DeploymentStage.SANDBOX)
    with pytest.raises(GateRefused) as caught:
        registry.update_deployment_status("gated", DeploymentStage.PRODUCTION)
    assert "constitutional_compliance" in str(caught.value)
    assert "required" in str(caught.value)
    assert registry.get_model("gated").deploy_status is DeploymentStage.SANDBOX

    assert registry.update_model("gated", metadata=GOVERNED).constitutional_compliance is True
    change = registry.update_deployment_status("gated", DeploymentStage.PRODUCTION)
    assert (change.outcome, change.deploy_status, change.generation) == ("done", DeploymentStage.PRODUCTION, 1)
    fleet.until("served", (fleet.node.data / "models/gated/current").is_symlink)


def served(fleet: SmallFleet, registry: ModelRegistry, model: str, *versions: str) -> None:
    """Bring *versions* to production, one after the other."""
    for version in versions:
        registry.register_model(entry(fleet, model, version, **GOVERNED))
        registry.update_deployment_status(f"{model}@{version}", DeploymentStage.PRODUCTION)


def test_a_rollback_shows_as_status_and_quarantines_the_bad_version(fleet: SmallFleet, registry: ModelRegistry) -> None:
    served(fleet, registry, "bad", "1", "2")
    registry.update_deployment_status("bad", DeploymentStage.ROLLBACK, reason="errors")
    assert registry.get_model("bad").version == "1"
    assert registry.get_model("bad@2").deploy_status is DeploymentStage.ROLLBACK
    assert [each.version for each in registry.list_models(DeploymentStage.ROLLBACK, model_id="bad")] == ["2"]
    with pytest.raises(RegistryRefused, match="quarantined"):
        registry.update_deployment_status("bad@2", DeploymentStage.PRODUCTION)


def test_a_canary_has_its_percentage_and_is_taken_back_alone(fleet: SmallFleet, registry: ModelRegistry) -> None:
    served(fleet, registry, "birds", "1")
    registry.register_model(entry(fleet, "birds", "2", **GOVERNED))
    registry.update_deployment_status("birds@2", "canary", 10.0)
    assert registry.get_model("birds@2").canary_percentage == 10.0
    assert registry.get_model("birds").version == "1"
    registry.update_deployment_status("birds@2", DeploymentStage.ROLLBACK)
    assert registry.get_model("birds@2").deploy_status is DeploymentStage.ROLLBACK
    assert registry.get_model("birds").deploy_status is DeploymentStage.PRODUCTION


def test_a_change_never_guesses_which_version_is_meant(fleet: SmallFleet, registry: ModelRegistry) -> None:
    served(fleet, registry, "several", "1")
    registry.register_model(entry(fleet, "several", "2"))
    with pytest.raises(AmbiguousVersion, match="several@2"):
        registry.update_model("several", metadata=GOVERNED)
    assert registry.update_model("several", version="2", metadata=GOVERNED).version == "2"
    assert registry.get_model("several").version == "1"


def test_a_version_is_archived_and_comes_back(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "old"))
    registry.update_deployment_status("old", DeploymentStage.ARCHIVED, reason="superseded")
    assert registry.get_model("old").deploy_status is DeploymentStage.ARCHIVED
    registry.update_deployment_status("old", DeploymentStage.DEVELOPMENT, reason="needed again")
    # Between the two, nodes may have confirmed: such decisions have no reason of a person.
    reasons = [each["reason"] for each in registry.history("old") if each["reason"]]
    assert reasons[-2:] == ["superseded", "needed again"]


@pytest.mark.parametrize("percentage", [0.0, 12.5, 101.0, float("nan")])
def test_a_share_of_nodes_that_is_none_is_refused(registry: ModelRegistry, percentage: float) -> None:
    with pytest.raises(ValueError, match="whole number from 1 to 100"):
        registry.update_deployment_status("any", DeploymentStage.CANARY, percentage)


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"calibration_error": 1.7}, "calibration_error"),
        ({"calibration_error": float("nan")}, "calibration_error"),
        ({"bias_check_passed": "yes"}, "bias_check_passed"),
        ({"training_dataset_size": -1}, "training_dataset_size"),
        ({"evaluation_metrics": {"accuracy": float("inf")}}, "evaluation_metrics"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_field(
    fleet: SmallFleet, registry: ModelRegistry, metadata: dict[str, Any], field: str
) -> None:
    registry.register_model(entry(fleet, "careful"))
    before = registry.history("careful")
    with pytest.raises(DescriptionInvalid) as caught:
        registry.update_model("careful", metadata=metadata)
    assert field in caught.value.field
    assert registry.history("careful") == before


# -- reading


def test_lists_filter_by_everything_at_once(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "list-a", framework="pytorch", tags=("nlp", "transformer"), owner="x"))
    registry.register_model(entry(fleet, "list-b", framework="pytorch", tags=("nlp",), owner="x"))
    named = [each.model_id for each in registry.list_models(framework="pytorch", tags="nlp, transformer", owner="x")]
    assert named == ["list-a"]
    assert [each.model_id for each in registry.list_models("development", tags=["nlp"])] == ["list-a", "list-b"]
    assert registry.list_models(stage="production", tags=["nlp"]) == []
    assert registry.get_stats()["by_framework"]["pytorch"] == 2


def test_two_versions_are_compared_metric_by_metric(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "pair", "1", evaluation_metrics={"accuracy": 0.5, "old": 1}))
    registry.register_model(entry(fleet, "pair", "2", evaluation_metrics={"accuracy": 0.75}, owner="x"))
    compared = registry.compare("pair@1", "pair@2")
    assert compared["metrics"]["accuracy"] == {"a": 0.5, "b": 0.75, "difference": 0.25}
    assert compared["metrics"]["old"] == {"a": 1.0, "b": None, "difference": None}
    assert compared["fields"]["owner"] == {"a": None, "b": "x"}


def test_what_is_not_there_is_named(registry: ModelRegistry) -> None:
    for ask in (registry.get_model, registry.history, registry.generate_model_card):
        with pytest.raises(ModelNotFound, match="nobody"):
            ask("nobody")
    with pytest.raises(ModelNotFound, match="is no model"):
        registry.get_model("No Name!")
    with pytest.raises(ValueError, match="names a version"):
        registry.get_model("a@1", version="2")


def test_a_snapshot_is_on_the_stream_with_its_node(registry: ModelRegistry) -> None:
    now = datetime.now()  # noqa: DTZ005  # as people write it
    snapshot = ModelPerformanceSnapshot(model_id="served", version="1", timestamp=now, error_rate=0.02, num_requests=9)
    first = registry.record_performance_snapshot(snapshot)
    second = registry.record_performance_snapshot(snapshot)
    assert first["subject"] == "fc.perf.served"
    assert second["sequence"] == first["sequence"] + 1
    with pytest.raises(ValueError, match="error_rate"):
        ModelPerformanceSnapshot(model_id="served", version="1", timestamp=now, error_rate=1.5)


# -- threads, forks, loops, ends


def test_many_threads_share_one_connection(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "shared"))
    found: list[str] = []

    def read() -> None:
        found.extend(registry.get_model("shared").version for _ in range(10))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["1.0.0"] * 80
    connections = fleet.server.monitor("/connz")["connections"]
    assert sum(str(each.get("name", "")).endswith("python") for each in connections) == 1


FORK = """
import os, signal, sys
from fleetcast.registry import get_registry
registry = get_registry()
assert registry.get_model(sys.argv[1]).version == "1.0.0"
lock = registry._background._lock
lock.acquire()  # as another thread does while it makes the connection
child = os.fork()
if child == 0:
    signal.alarm(int(sys.argv[2]))
    ok = registry.get_model(sys.argv[1]).version == "1.0.0" and get_registry() is registry
    sys.exit(0 if ok else 3)
status = os.waitpid(child, 0)[1]
lock.release()
assert registry.get_model(sys.argv[1]).version == "1.0.0"
print("child", status)
"""
NOTHING_FORGOTTEN = """
from fleetcast.registry.api.background import Background
Background.forget = lambda self: None
"""


def test_a_forked_child_makes_its_own_connection_and_leaves_the_parents_alone(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    registry.register_model(entry(fleet, "forked"))
    done = fleet.python(FORK, "forked", "60")
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")


def test_a_child_that_takes_its_parents_thread_for_its_own_is_caught(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    registry.register_model(entry(fleet, "stuck"))
    assert fleet.python(NOTHING_FORGOTTEN + FORK, "stuck", "3").stdout == f"child {int(signal.SIGALRM)}\n"


LOOP = """
import asyncio, sys, time
from fleetcast.registry import get_registry

async def main():
    registry = get_registry()
    registry.get_model(sys.argv[1])
    began = time.perf_counter()
    entry = registry.get_model(sys.argv[1])
    blocked = time.perf_counter() - began
    assert await registry.get_model(sys.argv[1]) is not None
    assert [e.version for e in await registry.list_models(model_id=sys.argv[1])] == [entry.version]
    assert await registry.get_stats()
    print(entry.version, "blocked for under 5 s:", blocked < 5)

asyncio.run(main())
"""


def test_a_running_loop_gets_its_answer_and_may_await_it(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "looped"))
    done = fleet.python(LOOP, "looped")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0.0 blocked for under 5 s: True\n", "")


def test_a_closed_registry_opens_again(fleet: SmallFleet, registry: ModelRegistry) -> None:
    registry.register_model(entry(fleet, "reopened"))
    registry.close()
    assert registry.get_model("reopened").version == "1.0.0"


def test_the_same_settings_are_the_same_registry(fleet: SmallFleet, registry: ModelRegistry) -> None:
    assert fleet.registry() is registry
    assert get_registry(str(fleet.node.config)) is registry


# -- what is missing


def test_without_nats_a_call_fails_at_once_and_says_where_it_looked(tmp_path: Path) -> None:
    config = tmp_path / "fleetcast.toml"
    config.write_text('[bus]\nurl = "nats://127.0.0.1:9"\n')
    registry = get_registry(config)
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:9"):
        registry.get_model("any")
    registry.close()


def test_without_a_registry_daemon_reading_works_and_changes_name_the_daemon(tmp_path: Path) -> None:
    with small_fleet(tmp_path / "unkept") as fleet:
        registry = fleet.registry()
        registered = registry.register_model(entry(fleet, "plain", owner="x", evaluation_metrics={"accuracy": 0.9}))
        assert (registered.owner, registered.deploy_status) == ("x", DeploymentStage.DEVELOPMENT)
        assert registered.evaluation_metrics == {"accuracy": 0.9}
        assert registry.list_models() == [registered]
        assert "# plain" in registry.generate_model_card("plain")
        for change in (
            lambda: registry.update_deployment_status("plain", DeploymentStage.PRODUCTION),
            lambda: registry.update_model("plain", metadata=GOVERNED),
            lambda: registry.register_model(entry(fleet, "plain", "2", **GOVERNED)),
        ):
            with pytest.raises(NoKeeper, match="fleetcast run registry"):
                change()
        assert [each.version for each in registry.list_models()] == ["1.0.0"]
        # The daemon takes over what was there.
        fleet.start(fleet.keeper)
        assert registry.get_model("plain").owner == "x"
        assert registry.update_model("plain", metadata={"team": "y"}).team == "y"


def test_a_registry_outlives_its_server(tmp_path: Path) -> None:
    with small_fleet(tmp_path / "restarted") as fleet:
        registry = fleet.registry()
        registry.register_model(entry(fleet, "lasting"))
        fleet.server.kill()
        with pytest.raises(BusUnavailable):
            registry.get_model("lasting")
        fleet.server.start()

        def answered() -> bool:
            try:
                return registry.get_model("lasting").version == "1.0.0"
            except BusUnavailable:
                return False

        fleet.until("answered again", answered)
