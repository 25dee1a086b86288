"""What an operator is told, with the values found; and what speaks against a GPU."""

import pytest

from fleetcast.daemons.trainer.faults.guidance import Found, built_for, found, line, problems
from fleetcast.events.gpus import Gpu

CARD = Gpu(index=0, vendor="amd", arch="gfx1012")


def test_one_line_names_the_values_of_all_variables_and_the_arch_list() -> None:
    env = {"HSA_OVERRIDE_GFX_VERSION": "10.3.0", "HIP_VISIBLE_DEVICES": "1", "PYTORCH_ROCM_ARCH": "gfx1030"}
    said = line("look here", found(env, [CARD], ["gfx1030", "gfx90a"]))

    assert "\n" not in said
    for words in (
        "look here",
        "HSA_OVERRIDE_GFX_VERSION=10.3.0",
        "HIP_VISIBLE_DEVICES=1",
        "ROCR_VISIBLE_DEVICES is not set",
        "built for gfx1030, gfx90a",
        "the GPU is gfx1012",
        "not for gfx1012",
        "PYTORCH_ROCM_ARCH=gfx1030 has no effect on a running job",
    ):
        assert words in said


def test_an_override_is_flagged_although_the_gpu_works() -> None:
    assert problems(Found(override="10.3.0")) == (
        "HSA_OVERRIDE_GFX_VERSION=10.3.0 makes the GPU pass for another one: unset it",
    )
    assert problems(Found()) == ()


def test_the_build_variable_alone_speaks_against_nothing() -> None:
    assert problems(found({"PYTORCH_ROCM_ARCH": "gfx900"}, [CARD], ["gfx1012"])) == ()


def test_what_is_not_known_is_not_held_against_a_gpu() -> None:
    assert problems(found({}, [CARD], [])) == ()
    assert problems(found({}, [Gpu(index=0, vendor="amd")], ["gfx900"])) == ()


@pytest.mark.parametrize(
    ("arch", "arch_list", "fits"),
    [
        ("gfx90a:sramecc+:xnack-", ["gfx90a"], True),
        ("gfx1012", ["gfx1030"], False),
        ("sm_89", ["sm_80", "sm_86"], True),
        ("sm_80", ["sm_86"], False),
        ("sm_90", ["sm_80", "sm_86"], False),
        ("sm_120", ["sm_90", "compute_90"], True),
        ("sm_75", ["compute_80"], False),
        ("sm_90", ["sm_90a"], False),
    ],
)
def test_code_for_one_architecture_runs_on_some_others(arch: str, arch_list: list[str], fits: bool) -> None:
    assert built_for(arch, arch_list) is fits
