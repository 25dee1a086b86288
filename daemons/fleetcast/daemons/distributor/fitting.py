"""A heartbeat that NATS takes, however much a node has to say. Pure.

A report over the server's limit would not be stored, and the node would fall silent with all its models. It leaves out
what matters least, and says how much that was.
"""

from fleetcast.events.state import ModelStatus, NodeStatus

FRAME_BYTES = 2048
"""For subject, headers, and the words about what was left out."""
TRANSFERS_SAID = 100
"""Of a report that is too large: those under way come first, then those whose turn is next."""


def fitted(status: NodeStatus, limit_bytes: int) -> tuple[NodeStatus, bytes]:
    """A report and its JSON, at most *limit_bytes* with what goes around it; the models of which most was installed or
    told longest ago are left out first, as of those nothing is waited for."""
    whole = status.model_dump_json().encode()
    if len(whole) + FRAME_BYTES <= limit_bytes:
        return status, whole
    short = status.model_copy(update={"models": (), "transfers": status.transfers[:TRANSFERS_SAID]})
    room = limit_bytes - FRAME_BYTES - len(short.model_dump_json().encode())
    said = _newest(status.models, room)
    left_out = len(status.models) - len(said)
    words = f"{status.status}; {left_out} of {len(status.models)} models left out of this report" if left_out else ""
    cut = short.model_copy(update={"models": said, "left_out": left_out, "status": words or status.status})
    return cut, cut.model_dump_json().encode()


def _newest(models: tuple[ModelStatus, ...], room_bytes: int) -> tuple[ModelStatus, ...]:
    """As many as there is room for, in the order in which they came."""
    kept: set[int] = set()
    for place in sorted(range(len(models)), key=lambda n: _changed_at(models[n]), reverse=True):
        room_bytes -= len(models[place].model_dump_json().encode()) + 1
        if room_bytes < 0:
            break
        kept.add(place)
    return tuple(model for place, model in enumerate(models) if place in kept)


def _changed_at(model: ModelStatus) -> str:
    """When something was last installed, or told to whoever serves it (ISO 8601, UTC)."""
    told = [model.hook.at] if model.hook else []
    return max([*told, *(version.installed_at for version in model.installed)], default="")
