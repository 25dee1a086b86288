"""Tools of the rungs, by what they say of themselves."""

import pytest

from fleetcast.cli.doctor import RSYNC_HOLES, Finding, check_tool, judge_tool


def rsync(shown: str) -> Finding:
    return judge_tool("rsync", "/usr/bin/rsync", shown, "apt install rsync", RSYNC_HOLES)


def test_an_rsync_with_known_holes_is_not_used_and_the_holes_are_named() -> None:
    old = rsync("rsync  version 3.2.7  protocol version 31")
    assert old.state == "warn"
    assert "3.2.7 at /usr/bin/rsync is older than 3.5.0" in old.detail
    assert "the rsync rung (the last fallback) is off" in old.detail
    assert "CVE-2024-12084" in old.detail
    assert rsync("rsync  version 3.5.0  protocol version 32").state == "ok"


def test_an_aria2c_that_is_too_old_costs_its_rung() -> None:
    old = judge_tool("aria2c", "/usr/bin/aria2c", "aria2 version 1.35.0", "apt install aria2", "")
    assert (old.state, old.detail) == (
        "warn",
        "1.35.0 at /usr/bin/aria2c is older than 1.36; the aria2 rung (HTTP from many nodes) is off",
    )
    assert judge_tool("aria2c", "/x", "aria2 version 1.36.0", "", "").state == "ok"


@pytest.mark.parametrize(("tool", "package"), [("aria2c", "aria2"), ("rsync", "rsync"), ("ssh", "openssh-client")])
def test_a_missing_tool_is_one_line_with_its_package_and_what_it_costs(
    tool: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = check_tool(tool, package)
    assert found.state == "warn"
    assert found.detail.startswith("not found; the ")
    assert found.fix == f"apt install {package}"
