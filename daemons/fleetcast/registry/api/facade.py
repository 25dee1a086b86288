"""The registry as people hold it: plain calls, from any thread, with or without an event loop."""

import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from fleetcast.bus import Bus
from fleetcast.client.node import default_node_id
from fleetcast.config.loader import load
from fleetcast.config.settings import Settings
from fleetcast.registry.api.background import Background
from fleetcast.registry.api.calls import Calls
from fleetcast.registry.api.entries import percent_of
from fleetcast.registry.api.values import (
    Card,
    Change,
    Check,
    DeploymentStage,
    Entries,
    ModelPerformanceSnapshot,
    ModelRegistryEntry,
    Records,
    RegistrationFailed,
    Table,
)

R = TypeVar("R")
REGISTER_SECONDS: Final = 60.0
"""How long `register_model` waits for the origin, which copies, hashes and tests the file."""


class ModelRegistry:
    """The registry of a fleet; made by `get_registry`.

    Every call blocks until its answer is there: a read or a change takes milliseconds, `register_model` as long as the
    file takes to be hashed and tested. Called on a running event loop, it blocks that loop for as long; programs that
    must not wait use `asyncio.to_thread`. The result may be awaited as well, which returns at once.

    A model id may name its version: `hex8_2p@43`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._node = settings.node.id or default_node_id()
        self._background = Background(settings.bus, node=self._node)

    # -- read

    def get_model(self, model_id: str, version: str | None = None) -> ModelRegistryEntry:
        """A version: the one that is named, else the one in production, else the newest.

        Raises:
            ModelNotFound: there is none.
            BusUnavailable: NATS does not answer.
        """
        return self._call(lambda calls: calls.get(model_id, version))

    def list_models(
        self,
        stage: DeploymentStage | str | None = None,
        framework: str | None = None,
        tags: Iterable[str] | str | None = None,
        *,
        owner: str | None = None,
        team: str | None = None,
        model_type: str | None = None,
        model_id: str | None = None,
    ) -> Entries:
        """Versions that match all that is given, by model, the oldest first; *tags*: all of them, as a list or
        separated by commas. Errors as `get_model`."""
        wanted = {
            "deploy_status": DeploymentStage(stage) if stage is not None else None,
            "framework": framework,
            "owner": owner,
            "team": team,
            "model_type": model_type,
            "model_id": model_id,
        }
        asked = tags.split(",") if isinstance(tags, str) else list(tags or ())
        return self._call(lambda calls: calls.listed(wanted, [tag.strip() for tag in asked]))

    def compare(self, a: str, b: str) -> Table:
        """Two versions (`MODEL@VERSION`) side by side: `metrics` by name with `a`, `b` and `difference` (b - a),
        `fields` that differ. Errors as `get_model`."""
        return self._call(lambda calls: calls.compared(a, b))

    def history(self, model_id: str) -> Records:
        """The decisions about a model or a version, the oldest first: `n` (audit record), `at`, `action`, `version`,
        `stage`, `generation`, `actor`, `reason`. Errors as `get_model`."""
        return self._call(lambda calls: calls.history(model_id))

    def get_stats(self) -> Table:
        """`total_models`, `total_versions`, `by_stage` and `by_framework`. Errors as `get_model`."""
        return self._call(lambda calls: calls.stats())

    def generate_model_card(self, model_id: str, version: str | None = None) -> Card:
        """The model card of a version, as Hugging Face shows it: Markdown with YAML front matter. Which version, and
        errors: as `get_model`."""
        # Only who wants a card waits for YAML to be imported.
        from fleetcast.registry.cards import card

        state, content = self._call(lambda calls: calls.card_material(model_id, version))
        return Card(card(state, content.content if content else None))

    # -- change

    def register_model(
        self, entry: ModelRegistryEntry, *, wait_seconds: float = REGISTER_SECONDS
    ) -> ModelRegistryEntry:
        """Make a version of the file or folder at `entry.artifact_path`, at stage `development`: this node's
        distributor takes it from one of its publish roots, and every node that wants the model fetches it.

        Returns:
            The version as the registry has it, with `artifact`.

        Raises:
            RegistrationFailed: there is no such file here, no distributor, or it refused the file.
            NoKeeper: flags were given, and no registry daemon answers for them.
            BusUnavailable: NATS does not answer.
        """
        if entry.deploy_status is not DeploymentStage.DEVELOPMENT:
            raise RegistrationFailed(
                f"{entry.reference} cannot begin at {entry.deploy_status}: a version is registered at development, "
                "and moved by update_deployment_status"
            )
        path = self._checked_path(entry)
        node = entry.node or self._node
        return self._call(lambda calls: calls.register(entry, path, node=node, seconds=wait_seconds))

    def update_model(
        self,
        model_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        flags: Mapping[str, bool] | None = None,
        reason: str | None = None,
    ) -> ModelRegistryEntry:
        """Say something about a version.

        Args:
            model_id: of several versions of a model, one has to be named; the only one need not be.
            metadata: facts by the names of `ModelRegistryEntry`; the flags `constitutional_compliance`,
                `bias_check_passed`, `training_succeeded`, `parity` and `e2e`; anything else is kept as it is. None
                removes what is kept as it is.
            flags: other flags.
            reason: for the record.

        Raises:
            ModelNotFound, AmbiguousVersion: it is not clear about which version.
            DescriptionInvalid: something cannot be said so; names the field.
            NoKeeper: no registry daemon answers.
            RegistryRefused: it did not take it.
        """
        said = _as_facts(metadata or {})
        return self._call(lambda calls: calls.update(model_id, version, said, flags or {}, reason))

    def update_deployment_status(
        self,
        model_id: str,
        stage: DeploymentStage | str,
        canary_percentage: float | None = None,
        *,
        version: str | None = None,
        reason: str | None = None,
    ) -> Change:
        """Ask that a version come to a stage; gates decide.

        `ROLLBACK` takes back what is served, in favour of the newest former production version that is good, and
        leaves the bad one quarantined. *canary_percentage*: share of the nodes.

        Returns:
            What became of it; `outcome` is `started` where a rollout waits until enough nodes hold the version.

        Raises:
            GateRefused: a gate said no; the message has what was required and what was there.
            RegistryConflict: somebody else was quicker.
            RegistryRefused: the way does not exist.
            ModelNotFound, AmbiguousVersion, NoKeeper: as `update_model`.
        """
        target, percent = DeploymentStage(stage), percent_of(canary_percentage)
        return self._call(lambda calls: calls.move(model_id, version, target, percent, reason))

    def record_performance_snapshot(self, snapshot: ModelPerformanceSnapshot) -> Table:
        """Publish how a version performs on this node; `subject` and `sequence` of where it is.

        Raises:
            BusUnavailable: NATS does not answer.
        """
        return self._call(lambda calls: calls.snapshot(snapshot, self._node))

    # -- how they perform

    def check_rollback_triggers(self, model_id: str, window_minutes: int = 10, auto_remediate: bool = False) -> Check:
        """Whether what is served of a model should be rolled back: `(should_rollback, reasons)`, by the verdicts of
        the monitor daemon, which need no asking.

        Args:
            model_id: the model.
            window_minutes: that the numbers are told over, at most the policy's window; verdicts do not depend on it.
            auto_remediate: ask for the rollback (`model.rollback.requested`), once per slot order; whether it is done
                is decided by the playbook and its breaker. False: asking changes nothing.

        Raises:
            NoMonitor: no monitor daemon answers.
            ModelNotFound: nothing of that name is served.
            BusUnavailable: NATS does not answer.
        """
        return self._call(lambda calls: calls.triggers(model_id, window_minutes, remediate=auto_remediate))

    def monitor_production_models(self, window_minutes: int = 10) -> Table:
        """How all models perform: `total_models`, `healthy`, `degraded`, `failing`, `unknown` (nobody sends snapshots,
        or too few), `issues` (`{model_id, version, reasons}`), `models`. Errors as `check_rollback_triggers`."""
        return self._call(lambda calls: calls.health(None, window_minutes))

    def get_model_health_summary(self, model_id: str) -> Table:
        """How a model performs: `model_id`, `version`, `status`, `deployed_at`, `health_status` (`healthy`,
        `degraded`, `critical`, `unknown`), `metrics` (`avg_error_rate`, `avg_latency_p95_ms`, `avg_ood_rate`,
        `snapshot_count`), and what they rest on: `versions` with their triggers. Errors as
        `check_rollback_triggers`."""
        return self._call(lambda calls: calls.health(model_id, None))

    def close(self) -> None:
        """End the connection; a later call makes a new one. Not needed: the end of the process does the same."""
        self._background.close()

    # -- inside

    def _call(self, ask: Callable[[Calls], Awaitable[R]]) -> R:
        actor = f"/fleet/{self._node}/python"

        async def asked(bus: Bus) -> R:
            return await ask(Calls(bus, actor=actor))

        return self._background.run(asked)

    def _checked_path(self, entry: ModelRegistryEntry) -> str:
        """The absolute path of an entry's file, as far as it can be checked here; the distributor has the last word.

        Raises:
            RegistrationFailed: there is none, or its folder is not open.
        """
        if entry.artifact_path is None:
            raise RegistrationFailed(
                f"{entry.reference} has no artifact_path: the registry keeps versions with their bytes; give the path "
                "of the file that was written"
            )
        # Links are judged by the distributor.
        path = Path(os.path.abspath(entry.artifact_path))  # noqa: PTH100  # resolve() would follow links
        if entry.node not in {None, self._node}:
            return str(path)
        if not path.exists():
            raise RegistrationFailed(
                f"{path} does not exist on this machine ({self._node}); write the file first, or register it where it "
                f"is: fleetcast register {entry.model_id} {entry.version} FILE"
            )
        roots = self._settings.store.publish_roots
        if roots and not any(path.is_relative_to(root) for root in roots):
            raise RegistrationFailed(
                f"{path} is outside the folders that {self._node} publishes from "
                f"({', '.join(str(root) for root in roots)}); copy it there: cp -r {path} {roots[0]}/"
            )
        return str(path)


_registries: dict[str, ModelRegistry] = {}
_lock = threading.Lock()


def get_registry(config: Settings | Path | str | None = None) -> ModelRegistry:
    """The registry of the fleet that the settings name: the same object for the same settings.

    Args:
        config: settings, or their file; None: the usual rules (`FLEETCAST_CONFIG`, `NATS_URL`, `FLEETCAST_…`).

    Raises:
        ConfigError: the settings are wrong.
    """
    settings = config if isinstance(config, Settings) else load(Path(config) if config else None).settings
    _quiet()
    key = settings.model_dump_json()
    with _lock:
        if key not in _registries:
            _registries[key] = ModelRegistry(settings)
        return _registries[key]


def _quiet() -> None:
    """Send what the layers below log to the program's `logging`, unless the program has its own way with structlog:
    the default of that is the program's standard output."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


def _as_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they travel: times as text, like the entry's own."""
    names = {"name": "display_name"}
    return {names.get(key, key): _travelling(value) for key, value in metadata.items()}


def _travelling(value: Any) -> Any:
    isoformat = getattr(value, "isoformat", None)
    return value.astimezone().isoformat() if isoformat and hasattr(value, "astimezone") else value


def _forget_lock() -> None:
    global _lock  # noqa: PLW0603  # another thread of the parent may have held it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)
