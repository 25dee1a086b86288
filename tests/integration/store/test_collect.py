"""Collection: what nothing pins goes, what is pinned stays, and space really becomes free."""

from typing import Any

from fleetcast.events.content import Kind
from fleetcast.events.state import SlotEntry
from fleetcast.transport.store import Line, Pins

Workplace = Any


def serve(workplace: Workplace, count: int, size: int = 1000) -> list[Any]:
    """Promote versions 1 to *count*, one after the other."""
    contents: list[Any] = []
    for number in range(1, count + 1):
        content = workplace.promote("hex8", str(number), bytes([number]) * size)
        before = SlotEntry(version=str(number - 1), artifact=contents[-1].artifact) if contents else None
        workplace.store.activate(workplace.order("hex8", number, str(number), content, previous=before))
        contents.append(content)
    return contents


def versions(workplace: Workplace) -> list[str]:
    return [v.version for v in workplace.store.installed("hex8")]


def test_last_production_versions_stay_and_older_ones_go_with_their_bytes(workplace: Workplace) -> None:
    contents = serve(workplace, 6)
    collected = workplace.store.collect()
    assert versions(workplace) == ["4", "5", "6"]
    assert collected.versions == tuple((Line(Kind.MODEL, "hex8"), v) for v in "123")
    assert set(collected.artifacts) == {c.artifact for c in contents[:3]}
    assert (collected.blobs, collected.bytes) == (3, 3000)
    assert not workplace.store.has(contents[0])
    assert not workplace.store.swarm_folder(contents[0].artifact).exists()
    assert workplace.store.content_of(contents[0].artifact) is None


def test_slots_are_never_collected_however_old(workplace: Workplace) -> None:
    contents = serve(workplace, 6)
    back = SlotEntry(version="6", artifact=contents[5].artifact)
    workplace.store.activate(workplace.order("hex8", 7, "1", contents[0], previous=back))
    workplace.store.collect()
    assert {"1", "6"} <= set(versions(workplace))


def test_pinned_version_and_pinned_artifact_stay(workplace: Workplace) -> None:
    contents = serve(workplace, 6)
    pins = Pins(versions=frozenset({(Line(Kind.MODEL, "hex8"), "1")}), artifacts=frozenset({contents[1].artifact}))
    workplace.store.collect(pins)
    assert versions(workplace) == ["1", "2", "4", "5", "6"]


def test_newest_versions_that_were_never_served_stay_for_the_order_that_may_come(workplace: Workplace) -> None:
    serve(workplace, 4)
    for number in range(10, 15):
        workplace.promote("hex8", str(number), bytes([number]) * 100)
    workplace.store.collect()
    assert set(versions(workplace)) == {"2", "3", "4", "12", "13", "14"}


def test_pressure_removes_the_oldest_until_there_is_room(workplace: Workplace) -> None:
    serve(workplace, 6)
    assert workplace.store.collect(until_free_bytes=0).versions == ()
    assert len(versions(workplace)) == 6
    assert len(workplace.store.collect(until_free_bytes=2**60).versions) == 3


def test_bytes_shared_with_a_version_that_stays_are_not_removed(workplace: Workplace) -> None:
    contents = serve(workplace, 6)
    workplace.receive("twin", "1", {"same.bin": bytes([1]) * 1000})
    collected = workplace.store.collect()
    assert (workplace.data / "models/twin/1/same.bin").read_bytes() == bytes([1]) * 1000
    assert collected.blobs == 2
    assert workplace.store.find(contents[0].files[0].sha256) is not None


def test_young_content_without_a_version_is_on_its_way_and_stays(workplace: Workplace) -> None:
    fresh = workplace.store.ingest(workplace.publish("m.bin", b"fresh"), kind=Kind.MODEL).content
    half = workplace.bring({"x.bin": b"half"})
    assert workplace.store.collect().artifacts == ()
    assert workplace.store.has(fresh)
    assert workplace.store.swarm_folder(half.artifact).exists()


def test_old_content_without_a_version_goes_unless_it_is_pinned(workplace: Workplace) -> None:
    store = workplace.again(orphan_seconds=0)
    gone = store.ingest(workplace.publish("m.bin", b"gone"), kind=Kind.MODEL).content
    kept = store.ingest(workplace.publish("n.bin", b"kept"), kind=Kind.MODEL).content
    collected = store.collect(Pins(artifacts=frozenset({kept.artifact})))
    assert collected.artifacts == (gone.artifact,)
    assert not store.has(gone)
    assert store.has(kept)


def test_collecting_an_empty_store_is_nothing(workplace: Workplace) -> None:
    assert workplace.store.collect().versions == ()


def test_what_is_foreseen_is_what_goes_and_foreseeing_changes_nothing(workplace: Workplace) -> None:
    serve(workplace, 6)
    workplace.receive("twin", "1", {"same.bin": bytes([1]) * 1000})
    store = workplace.store
    foreseen = store.foresee()
    assert (foreseen.blobs, foreseen.bytes) == (2, 2000)
    assert len(versions(workplace)) == 6
    collected = store.collect()
    assert (foreseen.versions, foreseen.blobs, foreseen.bytes) == (
        collected.versions,
        collected.blobs,
        collected.bytes,
    )
