"""The word of a job that a lane started: all that it is for has been done and said."""

import os

EFFECTS = frozenset({"model.promoted", "model.registered", "export.completed"})
"""Events that are had once, under the claim that holds the run."""


class Effect:
    """What a job said that counts once.

    Attributes:
        event: its id.
        line, version: the model or lane, and which version of it; empty: it was not said.
    """

    __slots__ = ("event", "line", "version")

    def __init__(self, event: str, fields: "dict[str, object]") -> None:
        self.event = event
        self.line = str(fields.get("model") or fields.get("lane") or "")
        self.version = str(fields.get("version") or fields.get("dataset_id") or "")


def write(path: str, claim: int, effects: "list[Effect]") -> None:
    """Write the word down, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import json  # once, at the end of a run

    said = [{"event": each.event, "line": each.line, "version": each.version} for each in effects]
    spare = f"{path}.{os.getpid()}"
    with open(spare, "w", encoding="utf-8") as file:
        file.write(json.dumps({"claim": claim, "effects": said}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(spare, path)
