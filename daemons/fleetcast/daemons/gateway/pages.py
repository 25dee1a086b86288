"""What browsers are served: the dashboard, whose files lie in `dashboard/` and are read once at the start. A path is
looked up among their names and never opened, so that no path can leave the folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

INDEX: Final = "index.html"
VIEWS: Final = frozenset(
    {
        "fleet",
        "nodes",
        "transfers",
        "models",
        "compare",
        "performance",
        "incidents",
        "training",
        "events",
        "dead-letters",
    }
)
"""First parts of the paths of views: all of them are the index, which shows what its path says (dashboard/views.js)."""
TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""Only files that end so are served."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, nothing inline, and nobody frames it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One file, as it is sent."""

    data: bytes
    media_type: str
    tag: str


def load() -> dict[str, Page]:
    """All files, by the path that they are asked for: `app.js`, `views/fleet.js`; the index also by the empty path."""
    found = dict(_below(files("fleetcast.daemons.gateway").joinpath("dashboard"), ""))
    if INDEX in found:
        found[""] = found[INDEX]
    return found


def is_view(path: str) -> bool:
    """Whether a path is one that somebody may have been sent a link to: `models/hex8_2p`."""
    return path.partition("/")[0] in VIEWS


def _below(folder: Traversable, prefix: str) -> list[tuple[str, Page]]:
    pages = []
    for each in sorted(folder.iterdir(), key=lambda item: item.name):
        path = f"{prefix}{each.name}"
        if each.is_dir():
            pages += _below(each, f"{path}/")
        elif (kind := TYPES.get(path[path.rfind(".") :])) is not None:
            data = each.read_bytes()
            pages.append((path, Page(data, kind, f'"{sha256(data).hexdigest()[:32]}"')))
    return pages
