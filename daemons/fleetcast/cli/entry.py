"""From arguments to an exit code: the one place where errors become words, and where no traceback passes."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import typer

from fleetcast.cli.output import Output
from fleetcast.cli.problems import Exit, PipeClosed, Problem, Terminated, usage


def run(argv: Sequence[str]) -> int:
    """Run one command; return the exit code of the process."""
    arguments = list(argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    output, debug = Output("--json" in options), "--debug" in options
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _on_sigterm)
    try:
        return _invoke(arguments, output)
    except Problem as problem:
        return _report(output, problem)
    except (KeyboardInterrupt, typer.Abort):
        return _report(output, Problem("interrupted", "interrupted", exit_code=Exit.INTERRUPTED))
    except Terminated:
        return _report(output, Problem("terminated", "terminated", exit_code=Exit.TERMINATED))
    except PipeClosed:
        # Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except Exception as error:
        if debug:
            raise
        return _report(output, _translate(error))


def _invoke(arguments: list[str], output: Output) -> int:
    from fleetcast.cli.app import build

    try:
        result = build()(args=arguments, prog_name="fleetcast", standalone_mode=False, obj=output)
    except typer.TyperException as error:
        raise _usage_problem(error) from error
    if result == Exit.INTERRUPTED:  # the parser turns Ctrl-C into an exit code; say it as every other end is said
        raise KeyboardInterrupt
    return int(result or 0)


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _usage_problem(error: typer.TyperException) -> Problem:
    describe = getattr(error, "format_message", None)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fleetcast"
    return usage(str(describe() if describe else error), next_step=f"{path} --help")


def _translate(error: Exception) -> Problem:
    from fleetcast.cli.translate import translate

    return translate(error)


def _report(output: Output, problem: Problem) -> int:
    if output.json_mode and not output.answered:
        output.document({"error": problem.document()})
    elif problem.exit in {Exit.INTERRUPTED, Exit.TERMINATED}:
        output.say(problem.what)
    else:
        output.say(f"error: {problem.what}")
        if problem.why:
            output.say(f"  why:  {problem.why}")
        if problem.next_step:
            output.say(f"  next: {problem.next_step}")
    return problem.exit
