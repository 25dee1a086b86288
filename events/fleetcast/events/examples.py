"""One complete payload per event: what documents, refusals and tests show. Never sent by anybody."""

import base64
import hashlib
from typing import Any, Final

from fleetcast.events.content import Content, ContentFile, Format, Kind

_CONTENT = Content(
    kind=Kind.MODEL,
    format=Format.TORCH,
    files=(
        ContentFile(
            path="hex8_2p.pt",
            size=67_108_864,
            sha256=hashlib.sha256(b"hex8_2p.pt").hexdigest(),
            pieces_root=hashlib.sha256(b"pieces of hex8_2p.pt").hexdigest(),
        ),
    ),
)
_ENDPOINTS: Final = {"bt": "10.0.0.5:6881", "http": "http://10.0.0.5:6880/7d1Q0hWcQy3mZr5u"}
_VERSION: Final = {"model": "hex8_2p", "version": "43", "artifact": _CONTENT.artifact}
_CHECKS: Final = {"size": "ok", "sha256": "by pieces root", "format": "ok"}
_TRANSFER: Final = {
    **_VERSION,
    "transfer": "01KAGN1QG0ZVJ1Q8YB7M3T5W9X",
    "node": "gpu-2",
    "transport": "bittorrent",
    "bytes_by_source": {"gpu-1": 67_108_864},
    "seconds": 1.42,
}
_NODE: Final = {
    "node": "gpu-2",
    "daemon": "distributor",
    "version": "0.1.0",
    "endpoints": _ENDPOINTS,
    "labels": {"gpu": "nvidia"},
    "wants": {"models": ["hex8_*"], "lanes": ["*"], "labels": {}},
}
_SUBMITTED: Final = {"model": "hex8_2p", "version": "43", "path": "/models/m.pt", "node": "gpu-1"}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "model.promoted": _SUBMITTED,
    "model.registered": _SUBMITTED,
    "export.completed": {
        "lane": "hex8_2p",
        "path": "/data/selfplay.npz",
        "node": "gpu-1",
        "samples_new": 5000,
        "samples_total": 120_000,
    },
    "distribution.requested": {
        "model": "hex8_2p",
        "version": "44",
        "path": "/models/next.pt",
        "node": "gpu-1",
        "to": ["gpu-*", "gpu=nvidia"],
        "until": "2026-12-01T12:00:00Z",
    },
    "artifact.available": {
        "artifact": _CONTENT.artifact,
        "content": _CONTENT.model_dump(mode="json"),
        "metainfo_b64": base64.b64encode(b"d4:infod12:meta versioni2eee").decode(),
        "origin": {"node": "gpu-1", "endpoints": _ENDPOINTS},
        "envelope": {"statement": {"kind": "model", **_VERSION}, "signatures": []},
        "cause": "01KAGN1P8Z6V6J2C5S0M4X7T3E",
    },
    "transfer.started": {**_TRANSFER, "bytes_by_source": {}, "seconds": 0.0},
    "transfer.moved": {
        **_TRANSFER,
        "transport": "aria2",
        "bytes_by_source": {"gpu-1": 33_554_432},
        "seconds": 6.1,
        "from_transport": "bittorrent",
        "bytes_kept": 33_423_360,
        "reason": "no byte for 5 s",
    },
    "transfer.verified": _TRANSFER,
    "transfer.failed": {**_TRANSFER, "bytes_by_source": {}, "reason": "no source answered; tried again in 8 s"},
    "version.reserved": {**_VERSION, "origin": "gpu-1"},
    "version.installed": {
        **_VERSION,
        "node": "gpu-2",
        "checks": _CHECKS,
        "bytes": 67_108_864,
        "transport": "bittorrent",
        "seconds": 1.9,
        "path": "/var/lib/fleetcast/models/hex8_2p/43",
    },
    "version.activated": {**_VERSION, "node": "gpu-2", "generation": 7, "slot": "production"},
    "version.removed": {**_VERSION, "node": "gpu-2", "bytes": 67_108_864, "reason": "/fleet/gpu-1/cli: disk is full"},
    "distribution.ordered": {**_VERSION, "origin": "gpu-1", "to": ["gpu-*"], "until": "2026-12-01T12:00:00Z"},
    "slot.ordered": {**_VERSION, "slot": "production", "generation": 7, "previous": "42"},
    "integrity.failed": {
        **_VERSION,
        "node": "gpu-2",
        "path": "hex8_2p.pt",
        "expected": _CONTENT.files[0].sha256,
        "actual": hashlib.sha256(b"a flipped bit").hexdigest(),
        "source": "gpu-3",
    },
    "peer.banned": {
        "node": "gpu-2",
        "peer": "gpu-3",
        "artifact": _CONTENT.artifact,
        "transport": "bittorrent",
        "reason": "pieces that it sent do not hash to what the metainfo says",
        "bytes_wasted": 524_288,
    },
    "event.rejected": {
        "event": "01KAGN1P8Z6V6J2C5S0M4X7T3E",
        "subject": "fc.ev.model.promoted.hex8_2p",
        "reason": "hex8_2p@43 already is other content, from gpu-3",
        "field": "version",
        "winner": "gpu-3",
        "next_step": "Promote these bytes under a new version: fleetcast promote hex8_2p 44 /models/m.pt",
        "node": "gpu-1",
    },
    "node.started": _NODE,
    "node.stopped": _NODE,
}
