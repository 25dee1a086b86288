"""Whether a serving process has to be told, and what: decided from what is served and what was noted."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.config.hooks import HookRule, HookSettings
from fleetcast.daemons.distributor.hooks.rules import (
    Telling,
    Told,
    about_to_tell,
    environment,
    has_told,
    is_told_of,
    known_before,
    occasion,
)

TELLINGS = st.builds(
    Telling,
    model=st.just("hex8"),
    version=st.sampled_from(["41", "42", "43"]),
    artifact=st.just("a" * 64),
    generation=st.integers(1, 9),
    slot=st.sampled_from(["production", "canary"]),
    canary=st.sampled_from(["", "43 10"]),
    drained=st.booleans(),
)


def serving(version: str, generation: int = 7, *, drained: bool = False, canary: str = "") -> Telling:
    return Telling(
        model="hex8",
        version=version,
        artifact=version * 32,
        generation=generation,
        slot="production",
        canary=canary,
        drained=drained,
    )


def test_process_that_was_never_told_is_told() -> None:
    assert occasion(serving("42"), None) == "activated"


def test_process_that_knows_is_left_alone_whatever_the_generation_is() -> None:
    assert occasion(serving("42", 9), has_told(serving("42", 7))) is None


def test_hook_that_was_begun_and_not_ended_runs_again_after_a_restart() -> None:
    assert occasion(serving("42"), about_to_tell(serving("42"), None)) == "activated"


def test_rollback_to_the_version_before_is_told_when_the_hook_of_the_one_between_was_cut_off() -> None:
    """The process may have loaded 43 already: what was noted about 42 says nothing any more."""
    begun = about_to_tell(serving("43", 8), has_told(serving("42", 7)))
    assert occasion(serving("42", 9), begun) == "activated"
    assert known_before(begun) == "42"


def test_node_that_leaves_service_and_returns_tells_so() -> None:
    told = has_told(serving("42"))
    assert occasion(serving("42", drained=True), told) == "drained"
    assert occasion(serving("42"), has_told(serving("42", drained=True))) == "undrained"
    assert occasion(serving("43", drained=True), told) == "activated"


def test_share_of_requests_that_changes_is_told() -> None:
    assert occasion(serving("42", canary="43 10"), has_told(serving("42"))) == "activated"


@given(TELLINGS, TELLINGS)
def test_what_is_told_is_told_once(before: Telling, after: Telling) -> None:
    told: Told | None = None
    for what in (before, after, after):
        if occasion(what, told) is not None:
            told = has_told(what)
    assert occasion(after, told) is None
    assert (occasion(before, told) is None) == before.is_same(after)


@given(TELLINGS, TELLINGS)
def test_note_survives_a_crash_at_any_point_and_forgets_no_telling(before: Telling, after: Telling) -> None:
    begun = Told.model_validate_json(about_to_tell(after, has_told(before)).model_dump_json())
    for what in (before, after):
        assert occasion(what, begun) == "activated"


def test_command_sees_what_is_served_and_no_secret_of_the_daemon() -> None:
    seen = environment(
        serving("43", 8, drained=True),
        path=Path("/data/models/hex8/43/hex8.pt"),
        previous="42",
        why="drained",
        inherited={"PATH": "/bin", "NATS_PASSWORD": "secret", "FLEETCAST_BUS_TOKEN": "secret", "NOTIFY_SOCKET": "/x"},
    )
    assert seen == {
        "PATH": "/bin",
        "FLEETCAST_MODEL": "hex8",
        "FLEETCAST_VERSION": "43",
        "FLEETCAST_PATH": "/data/models/hex8/43/hex8.pt",
        "FLEETCAST_GENERATION": "8",
        "FLEETCAST_SLOT": "production",
        "FLEETCAST_PREVIOUS": "42",
        "FLEETCAST_DRAINED": "1",
        "FLEETCAST_REASON": "drained",
    }


def test_hook_that_never_works_is_told_of_ever_more_seldom() -> None:
    assert [n for n in range(1, 100) if is_told_of(n)] == [1, 2, 4, 8, 16, 32, 64]


# -- settings


def test_first_rule_whose_patterns_match_holds() -> None:
    settings = HookSettings(
        rules=(HookRule(models=("hex8_*",), command=("/a",)), HookRule(signal="HUP", unit="web.service"))
    )
    first, second = settings.rules
    assert settings.rule_for("hex8_2p") is first
    assert settings.rule_for("fraud") is second
    assert HookSettings().rule_for("fraud") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"command": ["/a"], "signal": "HUP", "unit": "x.service"},
        {"signal": "HUP"},
        {"signal": "HUP", "unit": "x.service", "pid_file": "/run/x"},
        {"signal": "KILL", "unit": "x.service"},
        {"signal": "HUP", "pid_file": "run/x"},
        {"signal": "HUP", "unit": "x; rm -rf /"},
        {"command": ["/a"], "unit": "x.service"},
        {"command": ["/a"], "timeout_seconds": 0},
    ],
)
def test_rule_that_says_nothing_or_two_things_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HookRule.model_validate(wrong)
