"""The tables of docs/performance.md from documents of benchmarks: `python -m tests.benchmarks._table FILE.json …`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Document = dict[str, Any]

WORDS = {
    "last_node_over_bound": "last node / bound",
    "spread_p99_over_p50": "slowest node / median node",
    "egress_over_size": "origin egress / file size",
    "first_byte_p95_ms": "first byte, p95",
    "cpu_seconds_per_gib": "CPU seconds per GiB per receiving node",
    "sha256_seconds_per_gib": "CPU seconds of one pass of SHA-256 over a GiB, in the same run",
    "cpu_over_sha256": "CPU of a receiving node / one pass of SHA-256",
    "rss_mib": "memory of a node, peak",
    "tail_ratio": "last 1 % of the bytes / total time",
    "n16_over_n4": "time at 16 nodes / time at 4 nodes",
    "one_receiver_over_curl": "one receiver / curl from the same origin",
    "cap_error_ratio": "error of a cap, worst case",
    "time_over_ours": "time / ours",
}


def figures(documents: list[Document]) -> Iterator[str]:
    """One row per figure, with what is asked of it and the command that measured it."""
    yield "| figure | required | goal | measured | with |"
    yield "|---|---|---|---|---|"
    for document in documents:
        for key, figure in document["figures"].items():
            asked = [_number(figure[bound]) for bound in ("required", "goal")]
            measured = f"{_number(figure['value'])} {figure['unit']}".removesuffix(" ratio")
            missed = "" if figure["ok"] else " (missed)"
            command = f"`{document['conditions'].get('command', document['bench'])}`"
            yield f"| {_words(key)} | {' | '.join(asked)} | {measured}{missed} | {command} |"


def peers(document: Document) -> Iterator[str]:
    """Ours and the others beside it, in the same topology."""
    ours = {key: figure["value"] for key, figure in document["figures"].items()}
    columns = {"fleetcast": {**ours, "time_over_ours": 1.0}, **document["peers"]}
    keys = [key for key in WORDS if any(key in column for column in document["peers"].values())]
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for key in keys:
        yield f"| {_words(key)} | {' | '.join(_number(column.get(key)) for column in columns.values())} |"


def _words(key: str) -> str:
    return WORDS.get(key, key.replace("_", " "))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main() -> int:
    """Print the tables of the files that are named."""
    documents = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    lines = [*figures(documents)]
    for document in documents:
        if document["peers"]:
            lines += ["", f"`{document['conditions'].get('command', document['bench'])}`", "", *peers(document)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
