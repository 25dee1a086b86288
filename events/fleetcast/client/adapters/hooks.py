"""What hooks of other libraries have in common."""

import functools
import sys
from collections.abc import Callable

from fleetcast.client import notices

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    from typing import Any, ParamSpec

    P = ParamSpec("P")


def quiet(hook: "Callable[P, None]") -> "Callable[P, None]":
    """*hook*, of which nothing is raised into the trainer: another version of it may look otherwise."""

    @functools.wraps(hook)
    def tried(*args: "P.args", **kwargs: "P.kwargs") -> None:
        try:
            hook(*args, **kwargs)
        except Exception as error:
            notices.loss(f"{hook.__qualname__}: {notices.said(error)}")

    return tried


class Deaf:
    """Stands where a library has no class to derive from: hooks that nobody wrote do nothing."""

    def __getattr__(self, name: str) -> "Callable[..., None]":
        if name.startswith(("on_", "setup", "teardown", "state_dict", "load_state_dict")):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


def base_of(place: str, *modules: str) -> "Any":
    """The class of callbacks, at *place* in the first of *modules* that the job has loaded; `Deaf` where it is not
    there."""
    for name in modules:
        found: object = sys.modules.get(name)
        for part in place.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type):
            return found
    return Deaf
