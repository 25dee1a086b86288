"""The examples of the documents that this project was asked for (seeds 003 and 004) run as they are written there;
only the import is changed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from textwrap import indent

import pytest
from tests.integration.registry.small_fleet import GATES, SmallFleet, small_fleet

from fleetcast.registry import DeploymentStage, ModelPerformanceSnapshot, ModelRegistry, ModelRegistryEntry

MODEL = "fraud_detector_v1"

QUICK_START = """
from backend.services.model_registry import get_registry, ModelRegistryEntry, DeploymentStage
from datetime import datetime

registry = get_registry()

entry = ModelRegistryEntry(
    model_id="fraud_detector_v1",
    name="Fraud Detector",
    version="1.0.0",
    artifact_path="models/fraud_detector.pkl",
    framework="sklearn",
    model_type="classification",
    owner="ml_team",
    team="fraud_prevention",
    training_data_hash="abc123",
    training_dataset_size=50000,
    training_timestamp=datetime.now(),
    evaluation_metrics={"accuracy": 0.96, "f1": 0.94},
    deploy_status=DeploymentStage.DEVELOPMENT
)

registry.register_model(entry)
"""

TO_SANDBOX = """
# After initial tests pass
registry.update_deployment_status(model_id, DeploymentStage.SANDBOX)
"""

TO_CANARY = """
# Requires governance checks to pass
registry.update_deployment_status(model_id, DeploymentStage.CANARY, 10.0)
"""

TO_PRODUCTION = """
# After canary succeeds
registry.update_deployment_status(model_id, DeploymentStage.PRODUCTION)
"""

ROLL_BACK = """
registry.update_deployment_status(model_id, DeploymentStage.ROLLBACK)
"""

GOVERNANCE = """
entry = registry.get_model(model_id)

# Check 1: Constitutional compliance
if not entry.constitutional_compliance:
    raise Exception("Constitutional compliance required")

# Check 2: Bias check
if not entry.bias_check_passed:
    raise Exception("Bias check required")

# Passed all checks - can promote
registry.update_deployment_status(model_id, DeploymentStage.CANARY)
"""

SET_FLAGS = """
# After running compliance checks
await registry.update_model(model_id, metadata={
    "constitutional_compliance": True,
    "bias_check_passed": True
})
"""

VALIDATION = '''
async def validate_before_production(model_id: str):
    """Validate model meets requirements before production"""
    registry = get_registry()
    entry = registry.get_model(model_id)

    checks = []

    # Governance checks
    if not entry.constitutional_compliance:
        checks.append("❌ Constitutional compliance check required")
    if not entry.bias_check_passed:
        checks.append("❌ Bias check required")

    # Performance checks
    if not entry.expected_latency_p95_ms:
        checks.append("⚠️ No latency SLO defined")

    # Metrics validation
    if entry.calibration_error and entry.calibration_error > 0.1:
        checks.append("⚠️ High calibration error")

    if checks:
        print("Cannot promote to production:")
        for check in checks:
            print(f"  {check}")
        return False

    # Promote
    registry.update_deployment_status(
        model_id,
        DeploymentStage.PRODUCTION
    )
    return True
'''

SNAPSHOT = """
from backend.services.model_registry import ModelPerformanceSnapshot

snapshot = ModelPerformanceSnapshot(
    model_id="fraud_detector_v1",
    version="1.0.0",
    timestamp=datetime.now(),
    latency_p50_ms=15.2,
    latency_p95_ms=45.8,
    latency_p99_ms=120.0,
    requests_per_second=50.0,
    error_rate=0.02,  # 2%
    ood_rate=0.05,    # 5% out-of-distribution
    num_requests=1000
)

registry.record_performance_snapshot(snapshot)
"""

INGESTION = '''
async def ingest_model_metrics():
    """Ingest metrics from ML serving infrastructure"""
    registry = get_registry()

    # Fetch from model server
    metrics = await ml_server.get_metrics("fraud_detector_v3")

    # Create snapshot
    snapshot = ModelPerformanceSnapshot(
        model_id="fraud_detector_v3",
        version="3.2.1",
        timestamp=datetime.now(),
        latency_p50_ms=metrics['p50_latency'],
        latency_p95_ms=metrics['p95_latency'],
        latency_p99_ms=metrics['p99_latency'],
        requests_per_second=metrics['rps'],
        error_rate=metrics['error_rate'],
        ood_rate=metrics['ood_detection_rate'],
        input_drift_score=metrics.get('drift_score')
    )

    # Record (triggers auto-checks)
    await registry.record_performance_snapshot(snapshot)
'''

CHECK = """
should_rollback, reasons = registry.check_rollback_triggers(model_id)
if should_rollback:
    # Automatic rollback triggered
    registry.update_deployment_status(model_id, DeploymentStage.ROLLBACK)
"""

PERIODICALLY = '''
async def monitor_models_periodically():
    """Run every 5 minutes"""
    while True:
        registry = get_registry()
        results = await registry.monitor_production_models(window_minutes=10)

        print(f"Production Health: {results['healthy']} healthy, "
              f"{results['degraded']} degraded, {results['failing']} failing")

        if results['failing'] > 0:
            # Alert ops team
            for issue in results['issues']:
                print(f"⚠️ Model {issue['model_id']} failing: {issue['reasons']}")

        await asyncio.sleep(300)  # 5 minutes

# Start background monitoring
'''

TESTING = """
# Test incident creation
registry = get_registry()
await registry.check_rollback_triggers(
    "test_model",
    window_minutes=10,
    auto_remediate=False  # Dry run
)

# Test monitoring
health = await registry.monitor_production_models(window_minutes=60)
print(health)

# Test health summary
summary = registry.get_model_health_summary("fraud_detector_v3")
print(summary)
"""

BEGIN = """
from backend.services.model_registry import get_registry, ModelPerformanceSnapshot, DeploymentStage
from datetime import datetime
import asyncio, sys
registry = get_registry()
model_id = sys.argv[1]
"""


def program(*parts: str) -> str:
    """The parts as one program, with the import changed."""
    return "".join(parts).replace("from backend.services.model_registry import", "from fleetcast.registry import")


def awaited(part: str) -> str:
    """A part with `await` outside a function, as notebooks run it."""
    return f"\nasync def cell():\n{indent(part, '    ')}\nasyncio.run(cell())\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    """A fleet with gates for governance, and a version in production beside which another one can be a canary."""
    with small_fleet(tmp_path_factory.mktemp("seeds"), gates=GATES) as running:
        running.start(running.keeper)
        running.publish("models/fraud_detector.pkl", {"weights": [1.0]})
        yield running


@pytest.fixture
def registry(fleet: SmallFleet) -> ModelRegistry:
    return fleet.registry()


def ran(fleet: SmallFleet, source: str, *arguments: str) -> str:
    """What a program printed, which must have ended well and quietly."""
    done = fleet.python(source, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def beside(fleet: SmallFleet, registry: ModelRegistry, model: str) -> None:
    """Put another version of a model in production."""
    path = fleet.publish(f"{model}-0.9.0.pkl", {"weights": [0.5], "of": model})
    flags = {"constitutional_compliance": True, "bias_check_passed": True}
    entry = ModelRegistryEntry(model_id=model, version="0.9.0", artifact_path=str(path), **flags)
    registry.register_model(entry)
    registry.update_deployment_status(entry.reference, DeploymentStage.PRODUCTION)


def status(registry: ModelRegistry, reference: str) -> DeploymentStage:
    return registry.get_model(reference).deploy_status


def test_a_model_goes_from_its_registration_to_production_and_back(fleet: SmallFleet, registry: ModelRegistry) -> None:
    """Quick start, the deployment pipeline, the governance checks and a snapshot, in their order."""
    ran(fleet, program(QUICK_START))
    made = registry.get_model(MODEL)
    assert (made.owner, made.deploy_status, made.evaluation_metrics["f1"]) == ("ml_team", "development", 0.94)
    beside(fleet, registry, MODEL)
    candidate = f"{MODEL}@1.0.0"

    ran(fleet, program(BEGIN, TO_SANDBOX), candidate)
    assert status(registry, candidate) is DeploymentStage.SANDBOX

    refused = fleet.python(program(BEGIN, GOVERNANCE), candidate)
    assert "Exception: Constitutional compliance required" in refused.stderr
    by_gate = fleet.python(program(BEGIN, TO_CANARY), candidate)
    assert "GateRefused" in by_gate.stderr
    assert "constitutional_compliance" in by_gate.stderr
    assert status(registry, candidate) is DeploymentStage.SANDBOX

    ran(fleet, program(BEGIN, awaited(SET_FLAGS)), candidate)
    ran(fleet, program(BEGIN, TO_CANARY), candidate)
    assert registry.get_model(candidate).canary_percentage == 10.0
    ran(fleet, program(BEGIN, SNAPSHOT), candidate)

    ran(fleet, program(BEGIN, TO_PRODUCTION), candidate)
    fleet.until("in production", lambda: status(registry, candidate) is DeploymentStage.PRODUCTION)
    ran(fleet, program(BEGIN, ROLL_BACK), candidate)
    fleet.until("rolled back", lambda: registry.get_model(MODEL).version == "0.9.0")
    assert status(registry, candidate) is DeploymentStage.ROLLBACK


def test_governance_checks_that_pass_lead_to_a_canary(fleet: SmallFleet, registry: ModelRegistry) -> None:
    beside(fleet, registry, "governed")
    path = fleet.publish("governed-1.pkl", {"weights": [2.0]})
    registry.register_model(ModelRegistryEntry(model_id="governed", version="1", artifact_path=str(path)))
    ran(fleet, program(BEGIN, awaited(SET_FLAGS), GOVERNANCE), "governed@1")
    assert status(registry, "governed@1") is DeploymentStage.CANARY


def test_validation_before_production_names_what_is_missing_and_then_promotes(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    path = fleet.publish("validated-1.pkl", {"weights": [3.0]})
    registry.register_model(
        ModelRegistryEntry(model_id="validated", version="1", artifact_path=str(path), calibration_error=0.2)
    )
    source = program(BEGIN, VALIDATION, "\nprint(asyncio.run(validate_before_production(model_id)))\n")
    told = ran(fleet, source, "validated")
    assert told.splitlines() == [
        "Cannot promote to production:",
        "  ❌ Constitutional compliance check required",
        "  ❌ Bias check required",
        "  ⚠️ No latency SLO defined",
        "  ⚠️ High calibration error",
        "False",
    ]
    registry.update_model("validated", metadata={"expected_latency_p95_ms": 40, "calibration_error": 0.05})
    ran(fleet, program(BEGIN, awaited(SET_FLAGS)), "validated")
    assert ran(fleet, source, "validated") == "True\n"
    assert status(registry, "validated") is DeploymentStage.PRODUCTION


def test_metrics_are_ingested_from_a_serving_stack(fleet: SmallFleet) -> None:
    serving = """
class ml_server:
    @staticmethod
    async def get_metrics(model):
        return {'p50_latency': 1.0, 'p95_latency': 2.0, 'p99_latency': 3.0, 'rps': 9, 'error_rate': 0.01,
                'ood_detection_rate': 0.0}

asyncio.run(ingest_model_metrics())
"""
    ran(fleet, program(BEGIN, INGESTION, serving), MODEL)


JUDGING = """[default]
warm_up_seconds = 0
"""


def in_production(fleet: SmallFleet, registry: ModelRegistry, model: str, *versions: str) -> None:
    """Versions of a model that come to production one after the other."""
    for version in versions:
        path = fleet.publish(f"{model}-{version}.pkl", {"weights": [version], "of": model})
        flags = {"constitutional_compliance": True, "bias_check_passed": True}
        entry = ModelRegistryEntry(model_id=model, version=version, artifact_path=str(path), **flags)
        registry.register_model(entry)
        registry.update_deployment_status(entry.reference, DeploymentStage.PRODUCTION)


def fails(registry: ModelRegistry, model: str, version: str) -> None:
    """What serving code says of a version that fails one request in four, from three nodes."""
    for node in ("gpu-1", "gpu-2", "gpu-3"):
        registry.record_performance_snapshot(
            ModelPerformanceSnapshot(
                model_id=model, version=version, timestamp=datetime.now(UTC), num_requests=1000, errors=250, node=node
            )
        )


def test_health_is_asked_for_as_the_documents_do_and_a_failing_model_is_rolled_back(
    fleet: SmallFleet, registry: ModelRegistry
) -> None:
    in_production(fleet, registry, "fraud_detector_v3", "3.1.5", "3.2.1")
    in_production(fleet, registry, "test_model", "1")
    without = fleet.python(program(BEGIN, CHECK), "fraud_detector_v3")
    assert "NoMonitor" in without.stderr
    assert "fleetcast run monitor" in without.stderr

    fleet.watch(JUDGING)
    fails(registry, "fraud_detector_v3", "3.2.1")
    fleet.until("judged", lambda: registry.check_rollback_triggers("fraud_detector_v3")[0])
    once = PERIODICALLY.replace("await asyncio.sleep(300)  # 5 minutes", "break")
    told = ran(fleet, program(BEGIN, once, "asyncio.run(monitor_models_periodically())"), "any")
    assert "0 healthy, 0 degraded, 1 failing" in told
    assert "⚠️ Model fraud_detector_v3 failing: ['High error rate: 25.00%" in told
    shown = ran(fleet, program(BEGIN, awaited(TESTING)), "any")
    assert "'health_status': 'critical'" in shown
    # A quarter of 3000, and one more request of another example that was in order.
    assert re.search(r"'avg_error_rate': 0\.2(5|499)", shown)

    assert registry.check_rollback_triggers("fraud_detector_v3", auto_remediate=True)[0] is True
    ran(fleet, program(BEGIN, CHECK), "fraud_detector_v3")
    assert registry.get_model("fraud_detector_v3").version == "3.1.5"
    assert status(registry, "fraud_detector_v3@3.2.1") is DeploymentStage.ROLLBACK
