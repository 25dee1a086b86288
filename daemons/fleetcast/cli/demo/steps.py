"""The steps of the demo: each does one thing to a real fleet, and returns what it has proved."""

import asyncio
from collections.abc import Awaitable, Callable

from fleetcast.cli import history
from fleetcast.cli.demo import evidence, judging, remedying
from fleetcast.cli.demo.evidence import check
from fleetcast.cli.demo.material import LANE, MODEL, SAMPLES, Material, make_data_set, make_model
from fleetcast.cli.demo.screen import showing
from fleetcast.cli.demo.stage import (
    HEALTHY,
    MIDDLE,
    ORIGIN,
    SLOW,
    STEP_SECONDS,
    Interruption,
    Stage,
    publish,
)
from fleetcast.cli.live import Fleet
from fleetcast.cli.units import duration, percent, size
from fleetcast.cli.verify import Wanted, ask, until_repaired
from fleetcast.cli.waiting import answers_to, until_answered
from fleetcast.events.payloads import ExportCompleted, ModelPromoted, Payload, TransferVerified
from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.nodes import Rollout, received

Step = Callable[[Stage], Awaitable[str]]


async def start(stage: Stage) -> str:
    """Every node says that it is ready, in a process of its own."""
    await stage.local.until_ready(stage.fleet)
    return f"nats-server at {stage.local.url}, nodes {', '.join(stage.names)}"


async def make_files(stage: Stage) -> str:
    """Three versions of a model and a data set."""
    folder = stage.local.layout.publish
    made = await asyncio.gather(
        *(asyncio.to_thread(make_model, folder, version, seed) for seed, version in enumerate("123", 1)),
        asyncio.to_thread(make_data_set, folder, "gen-1", 4),
    )
    *models, stage.data_set = made
    stage.models = {model.version: model for model in models}
    return f"3 safetensors models of {size(stage.models['1'].size)}, an NPZ data set of {size(stage.data_set.size)}"


async def promote_first(stage: Stage) -> str:
    """Version 1 is on every node, byte for byte, and `current` leads to it."""
    done, seconds = await _promote(stage, "1")
    await evidence.check_each(stage.names, stage.local.layout, stage.models["1"])
    return f"on {len(done.ready)} of {done.wanted} nodes, SHA-256 compared on disk, {duration(seconds)} after the event"


async def promote_second(stage: Stage) -> str:
    """The pointer moves to version 2; version 1 is kept, complete."""
    done, seconds = await _promote(stage, "2")
    await evidence.check_each(stage.names, stage.local.layout, stage.models["2"], stage.models["1"])
    return f"generation {done.generation}: current is 2, previous is 1 and complete, after {duration(seconds)}"


async def kill_in_the_middle(stage: Stage) -> str:
    """Node 3 dies in the middle of version 3; the others get it, and what node 3 serves stays whole."""
    event, sequence = await publish(stage, _promotion(stage, "3"))
    with showing(stage.out, stage.fleet, "3") as changed:
        caught = await stage.fleet.until(lambda: changed(None) or _middle(stage.fleet, "3"), STEP_SECONDS)
        stage.local.nodes[SLOW].kill()
        at = percent(received(caught), caught.bytes_total)
        stage.interrupted = Interruption(event, sequence, at)
        await stage.fleet.until(lambda: _others_serve(stage.fleet, changed), STEP_SECONDS)
    one, two, three = (stage.models[version] for version in "123")
    await evidence.check_each((ORIGIN, HEALTHY), stage.local.layout, three, two)
    await evidence.check_each((SLOW,), stage.local.layout, two, one)
    return f"SIGKILL to {SLOW} at {at} %; {ORIGIN} and {HEALTHY} serve 3, {SLOW}'s disk still shows a whole 2"


async def restart(stage: Stage) -> str:
    """Node 3 starts again and catches up, with nobody telling it to."""
    assert stage.interrupted is not None
    began = asyncio.get_running_loop().time()
    stage.local.nodes[SLOW].start()
    await stage.local.until_ready(stage.fleet, (SLOW,))
    cut = stage.interrupted
    with showing(stage.out, stage.fleet, "3") as changed:
        async with answers_to(stage.bus, stage.fleet, cut.event, cut.sequence) as answers:
            await until_answered(stage.fleet, answers, cut.event, MODEL, timeout_seconds=STEP_SECONDS, changed=changed)
    await evidence.check_each((SLOW,), stage.local.layout, stage.models["3"], stage.models["2"])
    took = asyncio.get_running_loop().time() - began
    return f"{SLOW} serves 3, SHA-256 compared on disk, {duration(took)} after its restart"


async def repair(stage: Stage) -> str:
    """One byte is turned over on node 2; `verify` names node and file, and peers bring the right bytes back."""
    layout, version = stage.local.layout, stage.models["3"]
    path = await asyncio.to_thread(evidence.check_installed, layout, HEALTHY, version)
    position = await asyncio.to_thread(evidence.flip_byte, path)
    wanted = Wanted(MODEL, version.version, ())
    found = await ask(stage.bus, stage.fleet, wanted, timeout_seconds=STEP_SECONDS)
    damaged = [(node, file.path) for node, file in found.damaged]
    check(damaged == [(HEALTHY, str(path))], f"verify named {damaged}, not {HEALTHY} and {path}")
    check(not found.silent, f"{found.silent} did not answer")
    await until_repaired(stage.bus, stage.fleet, wanted, found, timeout_seconds=STEP_SECONDS)
    await evidence.check_each(stage.names, layout, version, stage.models["2"])
    sources = await _repaired_from(stage, version)
    return f"byte {position} of {path} on {HEALTHY} was found and fetched again from {', '.join(sources)}"


async def export(stage: Stage) -> str:
    """EXPORT_COMPLETED brings the data set to every node."""
    assert stage.data_set is not None
    data = stage.data_set
    payload = ExportCompleted(
        lane=LANE,
        path=str(data.path),
        node=ORIGIN,
        samples_new=SAMPLES,
        samples_total=SAMPLES,
        dataset_id=data.version,
    )
    done, seconds = await _submit(stage, payload, LANE, data.version)
    for node in stage.names:
        await asyncio.to_thread(evidence.check_installed, stage.local.layout, node, data, "datasets")
    return f"on {len(done.ready)} of {done.wanted} nodes, SHA-256 compared on disk, {duration(seconds)} after the event"


STEPS: tuple[tuple[str, Step], ...] = (
    ("start nats-server, three nodes and the daemons that serve them", start),
    ("make a model and a data set", make_files),
    ("promote version 1", promote_first),
    ("promote version 2", promote_second),
    ("kill a node in the middle of version 3", kill_in_the_middle),
    ("start it again", restart),
    ("damage a stored byte", repair),
    ("export a data set", export),
    ("gates refuse a weak version and pass a good one", judging.gates),
    ("try the next one as a canary", judging.canary),
    ("its errors rise, and it is taken back", remedying.take_back),
    ("read what was decided, and why", remedying.read_back),
)


def _promotion(stage: Stage, version: str) -> ModelPromoted:
    return ModelPromoted(model=MODEL, version=version, path=str(stage.models[version].path), node=ORIGIN)


async def _promote(stage: Stage, version: str) -> tuple[Rollout, float]:
    return await _submit(stage, _promotion(stage, version), MODEL, version)


async def _submit(stage: Stage, payload: Payload, name: str, version: str) -> tuple[Rollout, float]:
    """Publish *payload* and wait until what it asks for is true everywhere; also the seconds that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    event, sequence = await publish(stage, payload)
    with showing(stage.out, stage.fleet, version) as changed:
        async with answers_to(stage.bus, stage.fleet, event, sequence) as answers:
            done = await until_answered(
                stage.fleet, answers, event, name, timeout_seconds=STEP_SECONDS, changed=changed
            )
    check(set(done.ready) == set(stage.names), f"only {done.ready} serve {name}@{version}")
    return done, loop.time() - began


def _middle(fleet: Fleet, version: str) -> TransferStatus | None:
    """Node 3's transfer of *version*, once it is in its middle."""
    for transfer in fleet.transfers:
        if transfer.node == SLOW and transfer.version == version:
            check(transfer.state != "installed", f"{SLOW} had all of it before it could be killed")
            if percent(received(transfer), transfer.bytes_total) in MIDDLE:
                return transfer
    return None


def _others_serve(fleet: Fleet, changed: Callable[[Rollout | None], None]) -> bool | None:
    progress = next((each for each in fleet.rollouts if each.model == MODEL), None)
    changed(progress)
    there = progress is not None and progress.version == "3" and {ORIGIN, HEALTHY} <= set(progress.ready)
    return True if there else None


async def _repaired_from(stage: Stage, material: Material) -> list[str]:
    """Who gave node 2 its bytes back, by the event log."""
    events = await history.collect(stage.bus, history.subjects(("transfer.verified",), HEALTHY))
    facts = [e.payload for e in events if isinstance(e.payload, TransferVerified)]
    mine = [fact for fact in facts if (fact.model, fact.version) == (material.name, material.version)]
    check(len(mine) >= 2, f"{HEALTHY} reported {len(mine)} transfers of version {material.version}, not 2")
    sources = sorted(mine[-1].bytes_by_source)
    check(bool(sources) and HEALTHY not in sources, f"the repair names {sources} as its sources")
    return sources
