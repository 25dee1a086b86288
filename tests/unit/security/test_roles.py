"""Roles as data: what must hold of every one of them, whatever else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.bus.streams import STREAMS
from fleetcast.security import roles
from fleetcast.security.roles import Account, Role, account_of, asked_services, covers, permissions


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.c", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.b", "a.b", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.>", "a.>", True),
        ("a.>", "a.*", True),
    ],
)
def test_a_pattern_covers_what_nats_would_match(pattern: str, subject: str, expected: bool) -> None:
    assert covers(pattern, subject) is expected


@given(st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4))
def test_a_pattern_covers_itself_and_is_covered_by_all(tokens: list[str]) -> None:
    pattern = ".".join(tokens)

    assert covers(pattern, pattern)
    assert covers(">", pattern)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SYSTEM])
def test_no_role_may_say_or_hear_everything(role: Role) -> None:
    allowed = permissions(role, "x")

    for wide in (">", "fc.>", "$JS.>", "$JS.API.>", "$JS.API.STREAM.>", "$KV.>", "fc.reg.>", "fc.ev.>"):
        assert wide not in allowed.publish
        assert wide not in allowed.hear
    assert allowed.hear[0] == "_INBOX.x.>"


@pytest.mark.parametrize("role", [role for role in Role if account_of(role) is Account.ASKING])
def test_what_those_who_ask_may_say_is_answered_by_the_account_of_the_fleet(role: Role) -> None:
    services = asked_services()

    for subject in permissions(role, "ada").publish:
        assert any(covers(service, subject) for service in services), subject


def test_no_two_services_take_the_same_message() -> None:
    services = asked_services()

    assert not [(a, b) for a in services for b in services if a != b and covers(a, b)]


def test_whoever_only_looks_may_publish_no_event_command_or_report() -> None:
    allowed = permissions(Role.ON_CALL, "x").publish

    assert not [s for s in allowed if s.startswith(("fc.ev.", "fc.perf.", "fc.svc.registry.transition", "$KV.", "$O."))]
    assert {s for s in allowed if s.startswith("fc.svc.remedy.")} == {
        "fc.svc.remedy.incidents.read",
        "fc.svc.remedy.playbooks.read",
    }


def test_a_node_speaks_in_its_own_name_only() -> None:
    allowed = permissions(Role.NODE, "gpu-1").publish

    for family in ("$KV.fc_nodes.", "fc.canary.", "fc.progress."):
        assert {s for s in allowed if s.startswith(family)} <= {f"{family}gpu-1", f"{family}gpu-1.*"}
    assert not [s for s in allowed if s.startswith(("fc.reg.", "fc.rem.", "fc.trn."))]


def test_other_peoples_consumers_are_closed_where_all_names_are_open() -> None:
    refused = permissions(Role.OPERATOR, "ada", ["gpu-1"]).refused

    for durable in (*(name for name, (stream, _) in roles.DURABLES.items() if stream == "FC_EVENTS"), "origin-gpu-1"):
        for verb in ("CREATE", "MSG.NEXT", "DELETE"):
            assert f"$JS.API.CONSUMER.{verb}.FC_EVENTS.{durable}" in refused


def test_every_stream_can_be_declared_by_deploy() -> None:
    allowed = permissions(Role.DEPLOY, "deploy").publish

    assert {f"$JS.API.STREAM.CREATE.{spec.name}" for spec in STREAMS} <= set(allowed)


def test_every_role_is_described() -> None:
    assert set(roles.ABOUT) == set(Role)
