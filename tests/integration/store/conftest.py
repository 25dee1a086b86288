"""A store in a temporary folder, and short ways to fill it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Checks
from fleetcast.events.state import Cause, SlotEntry, SlotState
from fleetcast.transport.hashing import file_root
from fleetcast.transport.manifest import state
from fleetcast.transport.store import Store

CHECKS = Checks(size="ok", sha256="by pieces root", format="ok")


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class Workplace:
    """A data folder with its store, and a publish root beside it."""

    root: Path
    settings: StoreSettings
    store: Store

    @property
    def data(self) -> Path:
        return self.settings.data

    @property
    def published(self) -> Path:
        return self.settings.publish_roots[0]

    def again(self, **changes: object) -> Store:
        """A store over the same folder, as after a restart."""
        self.settings = StoreSettings.model_validate(self.settings.model_dump() | changes)
        self.store = Store(self.settings)
        return self.store

    def publish(self, name: str, data: bytes) -> Path:
        path = self.published / name
        path.write_bytes(data)
        return path

    def promote(self, model: str, version: str, data: bytes, name: str = "model.bin") -> Content:
        """Take a file in and install it."""
        content = self.store.ingest(self.publish(name, data), kind=Kind.MODEL).content
        self.keep(content, model, version)
        return content

    def keep(self, content: Content, model: str, version: str) -> None:
        self.store.write_record(content, b"metainfo", state(content, model, version))
        self.store.install(content, model, version, CHECKS, "local", 0.1)

    def bring(self, files: dict[str, bytes], kind: Kind = Kind.MODEL) -> Content:
        """Lay files into the swarm folder, as a transport does."""
        content = make_content(files, kind)
        for path, data in files.items():
            place = self.store.swarm_folder(content.artifact) / content.artifact[:16] / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return content

    def receive(self, model: str, version: str, files: dict[str, bytes], kind: Kind = Kind.MODEL) -> Content:
        content = self.bring(files, kind)
        self.store.admit(content)
        self.keep(content, model, version)
        return content

    def order(self, model: str, generation: int, version: str, content: Content, **more: object) -> SlotState:
        return slot_order(model, generation, SlotEntry(version=version, artifact=content.artifact), **more)


def make_content(files: dict[str, bytes], kind: Kind = Kind.MODEL) -> Content:
    import hashlib

    return Content(
        kind=kind,
        format=Format.MIXED if kind is Kind.BUNDLE else Format.OPAQUE,
        files=tuple(
            ContentFile(
                path=p,
                size=len(d),
                sha256=hashlib.sha256(d).hexdigest(),
                pieces_root=file_root(d).hex(),
            )
            for p, d in sorted(files.items())
        ),
    )


def slot_order(model: str, generation: int, production: SlotEntry | None, **more: object) -> SlotState:
    cause = Cause(event="01J", sequence=generation, by="/test", correlation="01J")
    fields = {"model": model, "generation": generation, "production": production, "cause": cause, "at": "now"}
    return SlotState.model_validate(fields | more)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    (tmp_path / "publish").mkdir()
    settings = StoreSettings(data=tmp_path / "data", publish_roots=(tmp_path / "publish",), reserve_bytes=0)
    return Workplace(tmp_path, settings, Store(settings))


@pytest.fixture
def random_bytes() -> Callable[[int, int], bytes]:
    return noise
