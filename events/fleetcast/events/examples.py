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
_DATA_SET: Final = hashlib.sha256(b"selfplay.npz").hexdigest()
_RUN: Final = {"run_id": "hex8-2p-0042", "node": "gpu-1"}
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
    "stage.changed": {
        **_VERSION,
        "from_stage": "canary",
        "to_stage": "production",
        "by": "/fleet/gpu-1/cli",
        "reason": "weekly release",
        "n": 12,
    },
    "promotion.refused": {
        "model": "hex8_2p",
        "version": "43",
        "stage": "production",
        "by": "/fleet/gpu-1/cli",
        "reason": "1 of 7 gates failed",
        "gates": [
            {
                "gate": "win_rate_random",
                "verdict": "fail",
                "required": "at least 0.90, at 95 % confidence",
                "actual": "84 of 100 games, between 0.753 and 0.906",
                "next_step": "",
            }
        ],
        "next_step": "fleetcast promote hex8_2p 43 --dry-run",
        "n": 12,
    },
    "rollout.changed": {
        **_VERSION,
        "rollout": "01KAGN1QG0ZVJ1Q8YB7M3T5W9X",
        "target": "production",
        "phase": "canary",
        "percent": 10,
        "generation": 8,
        "n": 13,
    },
    "evidence.recorded": {
        "model": "hex8_2p",
        "version": "43",
        "fields": ["bias_check_passed"],
        "by": "/fleet/gpu-1/cli",
        "reason": "audit of 2026-11",
        "n": 11,
    },
    "approval.recorded": {
        "model": "hex8_2p",
        "version": "43",
        "stage": "production",
        "by": "/fleet/gpu-1/cli",
        "expires_at": "2026-12-01T12:00:00Z",
        "n": 11,
    },
    "freeze.changed": {
        "model": "hex8_2p",
        "frozen": True,
        "until": "2026-12-01T12:00:00Z",
        "by": "/fleet/gpu-1/cli",
        "reason": "holidays",
        "n": 14,
    },
    "archive.changed": {
        **_VERSION,
        "node": "gpu-1",
        "phase": "kept",
        "rule": "low_elo",
        "folder": "202611/low_elo/hex8_2p/43",
        "by": "/fleet/gpu-1/distributor",
        "n": 15,
    },
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
    "run.started": {
        **_RUN,
        "lane": "hex8_2p",
        "experiment_id": "wider-net",
        "git_commit": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "environment": "sha256:9f2c41d07b",
        "reproducibility_hash": "sha256:51d3e8aa90",
        "data": [{"data_set": _DATA_SET, "filter": "result != draw", "range": "games 1-5000", "samples": 120_000}],
        "config": {"learning_rate": 0.001, "batch_size": 512, "seed": 7},
        "device": "rocm:0",
    },
    "run.epoch.logged": {**_RUN, "epoch": 0, "metrics": {"loss": 1.92, "policy_accuracy": 0.31}, "seconds": 41.5},
    "run.checkpoint.saved": {
        **_RUN,
        "epoch": 0,
        "path": "/checkpoints/hex8_2p/epoch-0.pt",
        "sha256": _CONTENT.files[0].sha256,
        "size": 67_108_864,
    },
    "run.degraded": {**_RUN, "reason": "CPU fallback after a ROCm fault", "since_epoch": 3, "device": "cpu"},
    "run.fault.recorded": {
        **_RUN,
        "fault_class": "hardware",
        "signature": "HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION",
        "at": "2026-11-21T09:30:00Z",
        "reason": "the ROCm runtime aborted the process in epoch 3",
        "action": "started again from the checkpoint of epoch 2, on the CPU",
        "epoch": 3,
    },
    "run.finished": {**_RUN, "outcome": "succeeded", "metrics": {"loss": 0.41, "policy_accuracy": 0.58}},
}
