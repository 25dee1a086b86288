"""What an operator looks at after a GPU fault, with the values found: the variables that choose and override a GPU, and
whether the training library was built for it. Pure.

`PYTORCH_ROCM_ARCH` is a variable of PyTorch's build and says nothing about a process that runs; what it stood for is
asked of the library itself: `torch.cuda.get_arch_list()`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.events.gpus import Gpu

OVERRIDE: Final = "HSA_OVERRIDE_GFX_VERSION"
CHOOSING: Final = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
BUILD_TIME: Final = "PYTORCH_ROCM_ARCH"
SHOWN_ARCHITECTURES: Final = 12


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on a node.

    Attributes:
        override: value of `HSA_OVERRIDE_GFX_VERSION` in the run's environment; None: not set.
        chosen: the variables that choose GPUs, with their values; None: not set.
        build_arch: value of `PYTORCH_ROCM_ARCH`; None: not set.
        arch_list: what the training library was built for; empty: not known.
        architectures: of the GPUs of the node; empty: not known.
    """

    override: str | None = None
    chosen: tuple[tuple[str, str | None], ...] = tuple((name, None) for name in CHOOSING)
    build_arch: str | None = None
    arch_list: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As evidence."""
        return {
            OVERRIDE: self.override,
            **dict(self.chosen),
            BUILD_TIME: self.build_arch,
            "arch_list": list(self.arch_list),
            "gpu_arch": list(self.architectures),
        }


def found(env: Mapping[str, str], gpus: Sequence[Gpu] = (), arch_list: Sequence[str] = ()) -> Found:
    """What *env*, the environment of a run, says together with the GPUs and the library of the node."""
    return Found(
        override=env.get(OVERRIDE),
        chosen=tuple((name, env.get(name)) for name in CHOOSING),
        build_arch=env.get(BUILD_TIME),
        arch_list=tuple(arch_list),
        architectures=tuple(dict.fromkeys(gpu.arch for gpu in gpus if gpu.arch)),
    )


def problems(what: Found) -> tuple[str, ...]:
    """What speaks against using a GPU here, one sentence each; empty: nothing that is known."""
    said = []
    if what.override:
        said.append(f"{OVERRIDE}={what.override} makes the GPU pass for another one: unset it")
    missing = [arch for arch in what.architectures if what.arch_list and not built_for(arch, what.arch_list)]
    if missing:
        said.append(f"the library is built for {_some(what.arch_list)}, and not for {', '.join(missing)}")
    return tuple(said)


def line(guidance: str, what: Found) -> str:
    """One line: what to look at, and what was found there."""
    variables = [(OVERRIDE, what.override), *what.chosen[:2]]
    parts = [f"{name}={value}" if value is not None else f"{name} is not set" for name, value in variables]
    parts.append(f"the library is built for {_some(what.arch_list)}" if what.arch_list else "arch list not known")
    if what.architectures:
        parts.append(f"the GPU is {', '.join(what.architectures)}")
    if what.build_arch is not None:
        parts.append(f"{BUILD_TIME}={what.build_arch} has no effect on a running job")
    said = "; ".join(problems(what))
    return f"{guidance}. Found: {', '.join(parts)}" + (f". {said}" if said else "")


def built_for(arch: str, arch_list: Sequence[str]) -> bool:
    """Whether code in *arch_list* runs on a GPU of *arch*: the same name without features (`gfx90a:sramecc+` is
    `gfx90a`); for NVIDIA also an older minor of the same major, and PTX of any older one (CUDA C++ Programming Guide,
    Compute Capabilities)."""
    wanted = arch.partition(":")[0]
    have = {each.partition(":")[0] for each in arch_list}
    if wanted in have:
        return True
    number = _capability(wanted)
    if number is None:
        return False
    binaries = (n for n in map(_capability, have) if n is not None)
    ptx = (n for each in have if (n := _capability(each.replace("compute_", "sm_", 1))) and each.startswith("compute_"))
    return any(n // 10 == number // 10 and n <= number for n in binaries) or any(n <= number for n in ptx)


def _capability(arch: str) -> int | None:
    match = re.fullmatch(r"sm_(\d+)", arch)
    return int(match[1]) if match else None


def _some(architectures: Sequence[str]) -> str:
    shown = ", ".join(architectures[:SHOWN_ARCHITECTURES])
    rest = len(architectures) - SHOWN_ARCHITECTURES
    return f"{shown} and {rest} more" if rest > 0 else shown
