"""Broken variants of the store: what most scripts do, and the rig has to catch."""

import os
from typing import Any

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Content
from fleetcast.transport.failpoints import failpoint
from fleetcast.transport.store import Archive, ArchivedItem, Store
from fleetcast.transport.store.folder import Folder
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.pointers import Pointers
from fleetcast.transport.store.versions import Versions


class CarelessVersions(Versions):
    """The broken variant: writes into the version folder itself, as most download scripts do."""

    def _publish(self, line: Line, version: str, content: Content) -> None:
        home = self._data.joinpath(*line.names, version)
        for file in content.files:
            place = home / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            data = self._data.joinpath("store", "sha256", file.sha256[:2], file.sha256).read_bytes()
            with place.open("wb", buffering=0) as target:
                target.write(data[: len(data) // 2])
                failpoint("careless.middle")
                target.write(data[len(data) // 2 :])
        self.mend(line, version, content)


class CarelessStore(Store):
    def _make_versions(self) -> Versions:
        return CarelessVersions(self._data, self._blobs)


class MixingVersions(Versions):
    """The broken variant of bundles: puts files where the version's name leads, whatever lies there already."""

    def _publish(self, line: Line, version: str, content: Content) -> None:
        self.mend(line, version, content)


class MixingStore(Store):
    def _make_versions(self) -> Versions:
        return MixingVersions(self._data, self._blobs)


class HastyFolder(Folder):
    """Replaces names by removing them first, and writes into files that are being read."""

    def flip(self, name: str, target: str, *, point: str) -> None:
        if self.stat(name) is not None:
            os.unlink(name, dir_fd=self.fd)
            failpoint("hasty.pointer")
        os.symlink(target, name, dir_fd=self.fd)

    def write(self, name: str, data: bytes, *, point: str) -> None:
        with (self.path / name).open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            failpoint("hasty.slots")
            file.write(data[len(data) // 2 :])


class HastyPointers(Pointers):
    """The broken variant of canaries: pointers and `slots.json` as most deployment scripts move them."""

    def _flip(self, folder: Folder, aim: Any) -> None:
        super()._flip(HastyFolder(folder.fd, folder.path, self._data), aim)


class HastyStore(Store):
    def _make_pointers(self) -> Pointers:
        return HastyPointers(self._data, self._versions, self._settings.essential_name)


class MovingArchive(Archive):
    """The broken variant of archives: moves the files of a version there, and lists them afterwards."""

    def keep(self, item: ArchivedItem) -> None:
        place = self._data / "archive" / item.folder
        for file in item.content.files:
            there, here = place / file.path, self._data / "models" / item.model / item.version / file.path
            there.parent.mkdir(parents=True, exist_ok=True)
            if here.exists():
                here.replace(there)
            failpoint("moving.middle")
        super().keep(item)


class MovingStore(Store):
    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.archive = MovingArchive(self._data, self._blobs, self._changing)
