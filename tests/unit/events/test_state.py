"""Where the registry keeps what it knows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events import state

TOKEN = re.compile(r"[A-Za-z0-9_-]+")


@given(version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True))
def test_version_never_breaks_a_subject(version: str) -> None:
    tokens = state.version_subject("hex8_2p", version).split(".")
    assert tokens[:5] == ["fc", "reg", "state", "version", "hex8_2p"]
    assert len(tokens) == 6
    assert TOKEN.fullmatch(tokens[5])


@given(request=st.text(max_size=200))
def test_request_of_any_spelling_is_one_token(request: str) -> None:
    assert TOKEN.fullmatch(state.request_subject("hex8_2p", request).split(".")[5])


def test_versions_that_differ_only_in_what_subjects_cannot_hold_are_kept_apart() -> None:
    assert len({state.version_subject("m", version) for version in ("1.0", "1-0", "1_0", "1+0")}) == 4


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (state.slot_subject("hex8_2p"), "fc.reg.state.slot.hex8_2p"),
        (state.chain_subject("hex8_2p"), "fc.reg.state.chain.hex8_2p"),
        (state.log_subject("hex8_2p", 7), "fc.reg.log.hex8_2p.00000007"),
        (state.progress_subject("gpu-1"), "fc.progress.gpu-1"),
        (state.peer_subject("0123456789abcdef" * 4), "fc.peer.0123456789abcdef"),
    ],
)
def test_subjects_are_those_of_the_design(subject: str, expected: str) -> None:
    assert subject == expected
