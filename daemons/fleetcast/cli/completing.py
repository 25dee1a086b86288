"""Names of this very fleet behind the Tab key: models, nodes, lanes, runs.

A shell waits for the answer with its user, so it comes within a third of a second or not at all, and nothing that goes
wrong is ever said. One question to the server: the subjects that its streams have; no daemon has to run.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.models import ParameterInfo

ASK_SECONDS: Final = 0.3
MOST_NAMES: Final = 500
_SUBJECTS: Final = {
    "MODEL": ("FC_REGISTRY", "fc.reg.state.chain.*"),
    "NODE": ("KV_fc_nodes", "$KV.fc_nodes.*.distributor"),
    "LANE": ("FC_TRAINING", "fc.trn.state.lane.*"),
    "RUN": ("FC_TRAINING", "fc.trn.state.run.*"),
}
"""By the word that help has for it: where such names stand as the token of the star."""
Completer = Callable[[typer.Context, str], list[str]]


def completed(parameter: inspect.Parameter) -> None:
    """Give a command's parameter the names that fit it, by how help calls it or by its own name."""
    for about in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(about, ParameterInfo) and about.autocompletion is None:
            about.autocompletion = completer(about.metavar or parameter.name.upper())


def completer(metavar: str) -> Completer | None:
    """What completes an argument that help calls *metavar*, such as `MODEL[@VERSION]` or `MODEL|NODE`; None: nothing
    does."""
    words = [word.partition("[")[0].partition("@")[0] for word in metavar.split("|")]
    kinds = [word for word in words if word in _SUBJECTS]
    if not kinds:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        # Whatever is wrong, a person who types is not told so by their prompt.
        with contextlib.suppress(BaseException):
            return _names(ctx.params, kinds, incomplete)
        return []

    return complete


def _names(given: dict[str, Any], kinds: list[str], incomplete: str) -> list[str]:
    import asyncio

    from fleetcast.cli.call import Call
    from fleetcast.cli.connection import Target, connected, target
    from fleetcast.cli.output import Output

    async def ask(aim: Target) -> list[str]:
        async with asyncio.timeout(ASK_SECONDS), connected(aim) as bus:
            found: set[str] = set()
            for kind in kinds:
                stream, pattern = _SUBJECTS[kind]
                answer = await bus.js.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
                place = pattern.split(".").index("*")
                found |= {subject.split(".")[place] for subject in answer["state"].get("subjects") or ()}
            return sorted(found)

    call = Call(Output(json_mode=False), given.get("config"), given.get("server"), given.get("context"))
    names = asyncio.run(ask(target(call)))
    return [name for name in names if name.startswith(incomplete)][:MOST_NAMES]
