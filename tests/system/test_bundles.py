"""Bundles over a real fleet: one folder is promoted, and every node serves all of it or nothing of it."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import helper, numpy_helper

from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.events.payloads import ArtifactAvailable, EventRejected, VersionInstalled

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECONDS = 90.0
"""For anything that a loaded machine has to do."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("two"), nodes=2) as f:
        yield f


def write_model(folder: Path, seed: int) -> None:
    """A model with its weights in a file of their own, as torch.onnx.export writes it, its words and its metadata."""
    weights = np.random.default_rng(seed).random((64, 512), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 512])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    folder.mkdir(parents=True)
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    (folder / "words" / "größe").mkdir(parents=True)
    (folder / "words" / "größe" / "merges.txt").write_text(f"a b {seed}\n")
    (folder / "tokenizer.json").write_text(json.dumps({"seed": seed}))


def describe(folder: Path, model: str, version: str, **more: object) -> None:
    document = {"model": model, "version": version, "entry": "model.onnx", "opset": 18} | more
    (folder / "bundle.json").write_text(json.dumps(document))


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


async def refusal(f: Fleet, model: str) -> EventRejected:
    """The newest refusal about a model."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for event in reversed(await f.events("fc.ev.event.rejected.*")):
            assert isinstance(event.payload, EventRejected)
            if event.payload.subject.endswith(f".{model}"):
                return event.payload
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing about {model} was rejected\n{f.tails()}")


async def test_a_folder_becomes_one_directory_on_every_node(two: Fleet) -> None:
    folder = two.folder / "publish" / "whole"
    write_model(folder, 1)
    describe(folder, "whole", "1")
    (folder / ".gitattributes").write_text("left out")
    wanted = {p: d for p, d in digests(folder).items() if not p.startswith(".")}

    await two.promote("whole", "1", folder)
    await two.until_served("whole", "1", seconds=SECONDS)

    for node in two.nodes.values():
        home = node.data / "models" / "whole" / "current"
        shown = node.data / "models_essential" / "whole"
        await two.until("the flat view shows the folder", shown.is_dir, SECONDS)
        assert digests(home) == wanted
        assert digests(shown) == wanted
        assert (home / "model.onnx").samefile(shown / "model.onnx")
    installed: dict[str, VersionInstalled] = {}
    async with asyncio.timeout(SECONDS):
        while len(installed) < 2:
            events = await two.events("fc.ev.version.installed.whole")
            installed = {e.payload.node: e.payload for e in events if isinstance(e.payload, VersionInstalled)}
    assert {i.checks.format for i in installed.values()} == {"ok"}
    assert installed["node-2"].transport != "origin"


async def test_a_nested_file_of_a_bundle_is_served_over_http(two: Fleet) -> None:
    folder = two.folder / "publish" / "served"
    write_model(folder, 2)
    await two.promote("served", "1", folder)
    await two.until_served("served", "1", seconds=SECONDS)
    (event,) = await two.events("fc.ev.artifact.available.served")
    assert isinstance(event.payload, ArtifactAvailable)
    http, artifact = event.payload.origin.endpoints.http, event.payload.artifact
    path = "words/größe/merges.txt"

    url = f"{http}/a/{artifact}/{artifact[:16]}/{quote(path)}"
    body = await asyncio.to_thread(lambda: urlopen(url, timeout=20).read())

    assert body == (folder / path).read_bytes()


async def test_metadata_that_contradicts_the_promotion_is_refused_with_its_field(two: Fleet) -> None:
    folder = two.folder / "publish" / "wrong"
    write_model(folder, 3)
    describe(folder, "wrong", "2")

    await two.promote("wrong", "1", folder)
    refused = await refusal(two, "wrong")

    assert refused.field == "bundle.json: version"
    assert "promote it as wrong 2" in refused.next_step
    assert not await two.events("fc.ev.artifact.available.wrong")


async def test_metadata_that_breaks_the_schema_is_refused_before_anything_is_published(two: Fleet) -> None:
    folder = two.folder / "publish" / "schema"
    write_model(folder, 4)
    describe(folder, "schema", "1", inputs=[{"name": "x", "dtype": "float", "shape": ["n", 64]}])

    await two.promote("schema", "1", folder)
    refused = await refusal(two, "schema")

    assert refused.field == "bundle.json: inputs.0.dtype"
    assert not await two.events("fc.ev.version.reserved.schema")


async def test_metadata_that_its_model_denies_is_refused_with_its_field(two: Fleet) -> None:
    folder = two.folder / "publish" / "denied"
    write_model(folder, 5)
    describe(folder, "denied", "1", outputs=[{"name": "logits", "dtype": "float32", "shape": ["n", 512]}])

    await two.promote("denied", "1", folder)

    assert (await refusal(two, "denied")).field == "bundle.json: outputs"


async def test_a_model_without_its_weights_is_refused(two: Fleet) -> None:
    folder = two.folder / "publish" / "alone"
    write_model(folder, 6)
    (folder / "model.onnx.data").unlink()

    await two.promote("alone", "1", folder)

    assert "model.onnx.data" in (await refusal(two, "alone")).reason


async def test_content_that_is_too_large_for_a_message_travels_by_reference(two: Fleet) -> None:
    folder = two.folder / "publish" / "many"
    for n in range(1100):
        place = folder / f"shard-{n % 7}" / f"part-{n:04}-of-a-name-that-takes-some-room-in-the-manifest.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{n}\n")

    await two.promote("many", "1", folder)
    await two.until_served("many", "1", seconds=SECONDS)

    (event,) = await two.events("fc.ev.artifact.available.many")
    assert isinstance(event.payload, ArtifactAvailable)
    assert event.payload.content is None
    assert event.payload.content_ref is not None
    assert event.payload.content_ref.files == 1100
    for node in two.nodes.values():
        assert digests(node.data / "models" / "many" / "1") == digests(folder)


async def test_a_damaged_file_of_a_bundle_is_named_taken_away_and_brought_back(two: Fleet) -> None:
    folder = two.folder / "publish" / "mended"
    write_model(folder, 7)
    await two.promote("mended", "1", folder)
    await two.until_served("mended", "1", seconds=SECONDS)
    home = two.nodes["node-2"].data / "models" / "mended" / "1"
    victim = home / "words" / "größe" / "merges.txt"
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)

    answers = await two.bus.request_many(
        "fc.svc.distributor.verify", b'{"model": "mended"}', timeout_seconds=SECONDS, expect=2, settle_seconds=None
    )
    reports = [json.loads(answer) for answer in answers]

    wrong = [c["file"] for r in reports if r["node"] == "node-2" for c in r["checked"] if not c["ok"]]
    assert wrong == ["words/größe/merges.txt"]
    await two.until("the file is right again", lambda: digests(home) == digests(folder), SECONDS)


class Reader:
    """Opens the files of a bundle while versions change; sees which versions one look at them is made of."""

    def __init__(self, model: Path, *, resolves: bool) -> None:
        self._model = model
        self._resolves = resolves

    def look(self, between: Callable[[], object]) -> set[str]:
        """The versions that two files belong to, with *between* happening between the first and the second."""
        home = self._model / "current"
        home = home.resolve() if self._resolves else home
        first = (home / "a.txt").read_text()
        between()
        return {first, (home / "b.txt").read_text()}

    def watch(self, looks: int) -> int:
        """The most versions that one look saw."""
        return max(len(self.look(lambda: time.sleep(0.02))) for _ in range(looks))


def versions_of_two_files(folder: Path, n: int) -> Path:
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"version {n}")
    return folder


async def test_who_resolves_current_once_never_sees_files_of_two_versions(two: Fleet) -> None:
    reader = Reader(two.nodes["node-1"].data / "models" / "flipped", resolves=True)
    watching: asyncio.Task[int] | None = None
    for n in range(4):
        await two.promote("flipped", str(n), versions_of_two_files(two.folder / "publish" / f"flipped-{n}", n))
        await two.until_served("flipped", str(n), nodes=("node-1",), seconds=SECONDS)
        watching = watching or asyncio.create_task(asyncio.to_thread(reader.watch, 100))
    assert watching is not None
    assert await watching == 1


async def test_who_goes_through_current_for_every_file_sees_two_versions(tmp_path: Path) -> None:
    for n in (1, 2):
        versions_of_two_files(tmp_path / str(n), n)
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "next").symlink_to("2")

    def flip() -> None:
        (tmp_path / "next").replace(tmp_path / "current")

    assert len(Reader(tmp_path, resolves=False).look(flip)) == 2
