"""Canaries on one node: what `current`, `canary` and `slots.json` say, and what readers see meanwhile."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Kind
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.transport.errors import NotInstalled, StaleGeneration
from fleetcast.transport.store import Pins
from fleetcast.transport.store.layout import Line

Workplace = Any


def entry(version: str, content: Any) -> SlotEntry:
    return SlotEntry(version=version, artifact=content.artifact)


def canary(version: str, content: Any, *nodes: str, percent: int = 33) -> dict[str, object]:
    return {"version": version, "artifact": content.artifact, "percent": percent, "nodes": nodes}


def target(pointer: Path) -> str | None:
    return str(pointer.readlink()) if pointer.is_symlink() else None


def told(workplace: Workplace) -> Any:
    return json.loads((workplace.data / "models/hex8/slots.json").read_bytes())


@pytest.fixture
def tried(workplace: Workplace) -> tuple[Any, Any, SlotState]:
    """Two versions, and the order that makes the second one a canary of other nodes."""
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    return one, two, workplace.order("hex8", 2, "1", one, canary=canary("2", two, "node-7"))


def test_a_canary_of_other_nodes_stands_beside_current(workplace: Workplace, tried: tuple[Any, Any, SlotState]) -> None:
    done = workplace.store.activate(tried[2])
    home = workplace.data / "models/hex8"
    assert (target(home / "current"), target(home / "canary")) == ("1", "2")
    assert (done.canary, done.applied.follows) == (home / "canary", "production")
    assert (workplace.data / "models_essential/hex8.bin").read_bytes() == b"one"


def test_on_a_node_of_the_canary_current_and_the_flat_view_follow_it(
    workplace: Workplace, tried: tuple[Any, Any, SlotState]
) -> None:
    done = workplace.store.activate(tried[2], on_canary=True)
    home = workplace.data / "models/hex8"
    assert (target(home / "current"), target(home / "canary")) == ("2", None)
    assert (done.canary, done.applied.follows, done.applied.current) == (None, "canary", tried[2].canary)
    assert (workplace.data / "models_essential/hex8.bin").read_bytes() == b"two"


@pytest.mark.parametrize("here", [True, False])
def test_the_end_of_a_canary_takes_its_pointer_away(
    workplace: Workplace, tried: tuple[Any, Any, SlotState], here: bool
) -> None:
    workplace.store.activate(tried[2], on_canary=here)
    workplace.store.activate(workplace.order("hex8", 3, "1", tried[0]))
    home = workplace.data / "models/hex8"
    assert (target(home / "current"), target(home / "canary")) == ("1", None)
    assert [s["slot"] for s in told(workplace)["slots"]] == ["production"]


def test_slots_file_says_what_loads_and_what_share_it_has(
    workplace: Workplace, tried: tuple[Any, Any, SlotState]
) -> None:
    one, two, order = tried
    split = order.model_copy(update={"canary": order.canary.model_copy(update={"nodes": ()})})  # type: ignore[union-attr]
    workplace.store.activate(split)
    assert told(workplace) == {
        "schema": 1,
        "model": "hex8",
        "generation": 2,
        "current": "production",
        "drained": False,
        "canary_form": "requests",
        "slots": [
            {"slot": "production", "version": "1", "artifact": one.artifact, "path": "1/model.bin", "percent": 67},
            {"slot": "canary", "version": "2", "artifact": two.artifact, "path": "2/model.bin", "percent": 33},
        ],
    }
    for slot in told(workplace)["slots"]:
        assert (workplace.data / "models/hex8" / slot["path"]).is_file()


def test_slots_file_says_which_slot_is_in_force_on_this_node(
    workplace: Workplace, tried: tuple[Any, Any, SlotState]
) -> None:
    workplace.store.activate(tried[2], on_canary=True)
    assert (told(workplace)["current"], told(workplace)["canary_form"]) == ("canary", "nodes")


def test_production_moves_although_the_canary_is_missing_and_the_canary_follows_once_it_is_here(
    workplace: Workplace,
) -> None:
    one = workplace.promote("hex8", "1", b"one")
    two = workplace.bring({"model.bin": b"two"})
    order = workplace.order("hex8", 4, "1", one, canary=canary("2", two, "node-7"))
    first = workplace.store.activate(order, on_canary=True)
    assert (first.applied.follows, first.applied.shown) == ("production", ("production",))
    assert [s["path"] for s in told(workplace)["slots"]] == ["1/model.bin", None]
    assert workplace.again().pointers("hex8") == first.applied

    workplace.store.admit(two)
    workplace.keep(two, "hex8", "2")
    second = workplace.store.activate(order, on_canary=True)
    assert second.changed
    assert (second.applied.follows, second.applied.shown) == ("canary", ("production", "canary"))
    assert target(workplace.data / "models/hex8/current") == "2"
    assert not workplace.store.activate(order, on_canary=True).changed


def test_previous_that_comes_later_gets_its_pointer(workplace: Workplace) -> None:
    two = workplace.promote("hex8", "2", b"two")
    one = workplace.bring({"model.bin": b"one"})
    order = workplace.order("hex8", 2, "2", two, previous=entry("1", one))
    workplace.store.activate(order)
    workplace.store.admit(one)
    workplace.keep(one, "hex8", "1")
    workplace.store.activate(order)
    assert target(workplace.data / "models/hex8/previous") == "1"


def test_a_canary_that_is_damaged_leaves_current_to_production_until_it_is_back(
    workplace: Workplace, tried: tuple[Any, Any, SlotState]
) -> None:
    _one, two, order = tried
    workplace.store.activate(order, on_canary=True)
    blob = workplace.store.blob(two.files[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"tw0")
    workplace.store.withdraw(two, ["model.bin"])
    workplace.store.activate(order, on_canary=True)
    assert target(workplace.data / "models/hex8/current") == "1"


def test_the_first_version_of_a_model_may_be_a_canary(workplace: Workplace) -> None:
    one = workplace.promote("hex8", "1", b"one")
    order = workplace.order("hex8", 1, "1", one, canary=canary("1", one, "node-7"))
    order = order.model_copy(update={"production": None})
    elsewhere = workplace.store.activate(order)
    assert (elsewhere.current, target(workplace.data / "models/hex8/canary")) == (None, "1")
    workplace.store.activate(order, on_canary=True)
    assert target(workplace.data / "models/hex8/current") == "1"


def test_a_canary_does_not_stand_in_for_production_that_is_not_here(workplace: Workplace) -> None:
    two = workplace.promote("hex8", "2", b"two")
    one = workplace.bring({"model.bin": b"one"})
    with pytest.raises(NotInstalled):
        workplace.store.activate(
            workplace.order("hex8", 1, "1", one, canary=canary("2", two, "node-7")), on_canary=True
        )


def test_an_older_order_does_not_bring_a_canary_back(workplace: Workplace, tried: tuple[Any, Any, SlotState]) -> None:
    workplace.store.activate(workplace.order("hex8", 3, "1", tried[0]))
    with pytest.raises(StaleGeneration):
        workplace.store.activate(tried[2], on_canary=True)
    assert target(workplace.data / "models/hex8/current") == "1"


def test_an_activation_that_was_cut_off_is_finished_as_what_it_was_on_this_node(
    workplace: Workplace, tried: tuple[Any, Any, SlotState]
) -> None:
    workplace.store.activate(tried[2], on_canary=True)
    home = workplace.data / "models/hex8"
    (home / ".slot.json").rename(home / ".slot.json.next")
    (home / "current").unlink()
    (home / "current").symlink_to("1")
    (home / "slots.json").unlink()
    workplace.again().reconcile()
    assert target(home / "current") == "2"
    assert told(workplace)["current"] == "canary"
    assert workplace.store.pointers("hex8").on_canary


def test_data_sets_have_no_slots_file(workplace: Workplace) -> None:
    content = workplace.receive("lane", "1", {"train.npz": b"samples"}, Kind.DATASET)
    workplace.store.activate(workplace.order("lane", 1, "1", content, kind="dataset"))
    assert not (workplace.data / "datasets/lane/slots.json").exists()


def test_canary_and_three_former_versions_survive_every_collection(workplace: Workplace) -> None:
    workplace.again(keep_versions=2, orphan_seconds=0)
    held = {str(n): workplace.promote("hex8", str(n), b"version %d" % n) for n in range(1, 9)}
    former = tuple(entry(v, held[v]) for v in ("5", "4", "3", "2"))
    order = workplace.order(
        "hex8", 9, "6", held["6"], previous=former[0], former=former, canary=canary("1", held["1"], "node-7")
    )
    workplace.store.activate(order)
    workplace.store.collect(until_free_bytes=2**62)
    assert {v.version for v in workplace.store.installed("hex8")} == {"1", "3", "4", "5", "6", "7", "8"}
    why = {j.version.version: j.reasons for j in workplace.store.judge(Pins())}
    assert "canary" in why["1"]
    assert "in production before" in why["3"]
    assert Line(Kind.MODEL, "hex8") in {j.line for j in workplace.store.judge()}


def test_reader_sees_a_whole_version_and_a_whole_slots_file_while_canaries_come_and_go(workplace: Workplace) -> None:
    files = {v: {"a.bin": v.encode() * 5000, "b.bin": v.encode() * 5000} for v in "12"}
    contents = {v: workplace.receive("hex8", v, f) for v, f in files.items()}
    workplace.store.activate(workplace.order("hex8", 1, "1", contents["1"]))
    stop, wrong = threading.Event(), list[str]()
    reader = threading.Thread(target=_read_for_ever, args=(workplace.data / "models/hex8", stop, wrong))
    reader.start()
    for generation in range(2, 40):
        tried = {"canary": canary("2", contents["2"], "node-7")} if generation % 3 else {}
        order = workplace.order("hex8", generation, "1", contents["1"], **tried)
        workplace.store.activate(order, on_canary=generation % 3 == 1)
    stop.set()
    reader.join()
    assert wrong == []


def _read_for_ever(home: Path, stop: threading.Event, wrong: list[str]) -> None:
    while not stop.is_set():
        try:
            folder = os.open(home / "current", os.O_RDONLY | os.O_DIRECTORY)
            read = {_read(name, folder) for name in ("a.bin", "b.bin")}
            os.close(folder)
            slots = json.loads((home / "slots.json").read_bytes())["slots"]
            there = all((home / s["path"] / "a.bin").exists() for s in slots)
        except (OSError, ValueError) as fault:
            wrong.append(repr(fault))
        else:
            wrong.extend(["a mix of versions"] * (len(read) != 1) + ["a path to nothing"] * (not there))


def _read(name: str, folder: int) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(fd, 10_000)
    finally:
        os.close(fd)
