"""The judge: opens every name that a reader may open."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.integration.store.crashes.scenarios import RIGHT, Scenario
from tests.integration.store.crashes.site import ARCHIVED, Site, data_of

from fleetcast.events.content import Kind
from fleetcast.events.state import InstalledVersion
from fleetcast.transport.errors import TransportError
from fleetcast.transport.store import ArchivedManifest, Store
from fleetcast.transport.store.slotsfile import SlotsFile


def judge(scenario: Scenario, root: Path, kind: type[Store] = Store) -> list[str]:
    """What is wrong: now, after the store was opened again, and after the scenario was run a second time."""
    wrong = [f"after the kill: {w}" for w in looks(scenario, root, scenario.damaged)]
    site = Site(root, kind)
    try:
        site.store.reconcile()
        wrong += [f"after reopening: {w}" for w in looks(scenario, root, scenario.damaged)]
        scenario.run(site)
    except TransportError as fault:
        return [*wrong, f"cannot go on: {type(fault).__name__}: {fault}"]
    wrong += [f"after the second run: {w}" for w in looks(scenario, root, frozenset())]
    for line, version in scenario.final.items():
        if (found := target(root / "data" / line / "current")) != version:
            wrong.append(f"after the second run: {line}/current is {found}")
        wrong += [f"after the second run: {w}" for w in _leftovers(root / "data" / line, version)]
        if not any(v.version == version for v in _installed(site, line)):
            wrong.append(f"after the second run: {line}@{version} does not count as installed")
    if any((root / "data" / "staging").iterdir()):
        site.store.reconcile()
        wrong += ["staging is never cleared"] if any((root / "data" / "staging").iterdir()) else []
    return wrong


def _leftovers(home: Path, version: str) -> Iterator[str]:
    """What still speaks of a canary after its end, or of another version than *version*."""
    if (home / "canary").is_symlink():
        yield f"{home.name}/canary is {target(home / 'canary')} after the end of the canary"
    if home.parent.name == "models":
        told = json.loads((home / "slots.json").read_bytes())
        serving = [s["version"] for s in told["slots"] if s["slot"] == told["current"]]
        if serving != [version] or told["canary_form"] is not None:
            yield f"{home.name}/slots.json says {told}"


def _installed(site: Site, line: str) -> list[InstalledVersion]:
    shelf, name = line.split("/")
    return site.store.installed(name, Kind.DATASET if shelf == "datasets" else Kind.MODEL)


def looks(scenario: Scenario, root: Path, forgiven: frozenset[str]) -> list[str]:
    """Open every name that a reader may open."""
    data = root / "data"
    wrong = [w for home, files in RIGHT.items() for w in _look_at_version(data, home, files, forgiven)]
    for line, versions in scenario.current.items():
        pointer = data / line / "current"
        if target(pointer) not in versions or not pointer.is_dir():
            wrong.append(f"{line}/current is {target(pointer)}")
        wrong += _look_beside(data / line, versions)
    if scenario.archived:
        wrong += _look_at_archive(data)
    for shown in (data / "models_essential").iterdir():
        right = {_digest(data_of(seed)) for files in RIGHT.values() for seed in files.values()}
        if shown.is_file() and _digest(shown.read_bytes()) not in right and not forgiven:
            wrong.append(f"{shown.name} in the flat view is not a version")
    return wrong


def target(pointer: Path) -> str:
    return str(pointer.readlink()) if pointer.is_symlink() else "nothing"


def _look_beside(home: Path, versions: set[str]) -> Iterator[str]:
    """`canary`, where there is one, and what `slots.json` says."""
    if (home / "canary").is_symlink() and (target(home / "canary") not in versions or not (home / "canary").is_dir()):
        yield f"{home.name}/canary is {target(home / 'canary')}"
    if not (home / "slots.json").exists():
        return
    try:
        told = SlotsFile.model_validate_json((home / "slots.json").read_bytes())
    except ValueError:
        yield f"{home.name}/slots.json cannot be read"
        return
    for slot in told.slots:
        if slot.path is not None and (slot.version not in versions or not (home / slot.path).exists()):
            yield f"{home.name}/slots.json leads to {slot.path}, where there is nothing"


def _look_at_version(data: Path, home: str, files: dict[str, int], forgiven: frozenset[str]) -> Iterator[str]:
    found = {str(p.relative_to(data / home)) for p in (data / home).rglob("*") if not p.is_dir()}
    for extra in found - set(files):
        if f"{home}/{extra}" not in forgiven:
            yield f"{home}/{extra} is there and should not be"
    if found - set(files) and found & set(files):
        yield f"{home} mixes two contents: {sorted(found)}"
    for path in found & set(files):
        if f"{home}/{path}" not in forgiven and _digest((data / home / path).read_bytes()) != _digest(
            data_of(files[path])
        ):
            yield f"{home}/{path} holds other bytes"
    if found and found < set(files) and not any(f.startswith(home) for f in forgiven):
        yield f"{home} is incomplete: {sorted(found)}"


def _look_at_archive(data: Path) -> Iterator[str]:
    """Every byte of the version is installed, or listed and in the archive."""
    places = [data / "models" / "a" / "1"]
    for path in (data / "archive").glob("*/archived_manifest.json"):
        try:
            manifest = ArchivedManifest.model_validate_json(path.read_bytes())
        except ValueError:
            yield f"{path.relative_to(data)} cannot be read"
            continue
        places += [data / "archive" / item.folder for item in manifest.archived]
    if not any(all(_is_right(place / path, seed) for path, seed in ARCHIVED.items()) for place in places):
        yield "models/a/1 is neither installed nor in the archive"


def _is_right(path: Path, seed: int) -> bool:
    return path.is_file() and path.read_bytes() == data_of(seed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
