"""How a command is declared: its own parameters, plus the ones that every command has."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate

import typer

from fleetcast.cli.completing import completed
from fleetcast.cli.output import Output
from fleetcast.cli.problems import usage

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document (or JSON lines) on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (fleetcast.toml).")]
Server = Annotated[str | None, typer.Option("--server", "-s", metavar="URL", help="NATS server address.")]
ContextName = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Context of the NATS CLI.")]


@dataclass(frozen=True)
class Call:
    """What every command is given: where to write, and which fleet is meant.

    Attributes:
        out: where data and talk go.
        config, server, context: the options of the same names; None: not given.
        debug: show tracebacks.
    """

    out: Output
    config: Path | None = None
    server: str | None = None
    context: str | None = None
    debug: bool = False


def _refuse_early(context: typer.Context, given: Mapping[str, Any]) -> None:
    """Options before the name of a command below a group would be taken in and forgotten.

    Raises:
        Problem: there are some.
    """
    defaults = {parameter.name: parameter.default for parameter in context.command.params}
    if any(value not in (defaults.get(name), None, False) for name, value in given.items()):
        path = f"{context.command_path} {context.invoked_subcommand}"
        raise usage(f"options of {path} stand behind it", next_step=f"{path} --help")


_CONTEXT = inspect.Parameter("context_", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
Body = Callable[Concatenate[Call, ...], int]
_SHARED: tuple[tuple[str, Any, Any], ...] = (("json", Json, False), ("debug", Debug, False))
_CONNECTING: tuple[tuple[str, Any, Any], ...] = (
    ("config", Config, None),
    ("server", Server, None),
    ("context", ContextName, None),
)


def command(
    app: typer.Typer, name: str, *, panel: str | None = None, connects: bool = True, passes_options: bool = False
) -> Callable[[Body], Body]:
    """Register a function as a command of *app*.

    The function takes a `Call` and its own parameters and returns the exit code; the options of every command are added
    to what the parser sees, so that they are spelled and explained alike everywhere.

    Args:
        connects: whether the command has the options that choose a fleet (`--config`, `--server`, `--context`).
        passes_options: options that it does not know are arguments, for the program that it starts.
    """

    def register(body: Body) -> Body:
        parsing = {"ignore_unknown_options": True} if passes_options else None
        entry = _entry(body, connects=connects)
        app.command(name, rich_help_panel=panel, short_help=_headline(body), context_settings=parsing)(entry)
        return body

    return register


def group(app: typer.Typer, commands: typer.Typer, name: str, *, panel: str | None = None) -> Callable[[Body], Body]:
    """Register *commands* as commands below *name*, and a function as what *name* alone does; otherwise as
    `command`."""

    def register(body: Body) -> Body:
        commands.callback(invoke_without_command=True)(_entry(body, connects=True))
        app.add_typer(commands, name=name, rich_help_panel=panel, short_help=_headline(body))
        return body

    return register


def _entry(body: Body, *, connects: bool) -> Callable[..., int | None]:
    """*body* as the parser calls it, with the options of every command."""

    def entry(context_: typer.Context, **given: Any) -> int | None:
        if context_.invoked_subcommand is not None:
            _refuse_early(context_, given)
            return None
        shared = {key: given.pop(key, default) for key, _, default in _CONNECTING + _SHARED}
        output = context_.find_object(Output) or Output(json_mode=False)
        output.json_mode = shared.pop("json")
        return body(Call(output, **shared), **given)

    signature = _signature(body, (_CONNECTING if connects else ()) + _SHARED)
    entry.__signature__ = signature  # type: ignore[attr-defined]  # the parser reads it
    entry.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    entry.__doc__ = body.__doc__
    entry.__name__ = body.__name__
    return entry


def _headline(body: Body) -> str:
    """The first clause of a docstring: what the list of commands has room for."""
    return re.split(r"[;:.](?:\s|$)", (body.__doc__ or "").strip(), maxsplit=1)[0] + "."


def _signature(body: Body, extra: tuple[tuple[str, Any, Any], ...]) -> inspect.Signature:
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(inspect.signature(body).parameters.values())[1:]
    ]
    for parameter in own:
        completed(parameter)
    added = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for key, annotation, default in extra
    ]
    return inspect.Signature([_CONTEXT, *own, *added])
