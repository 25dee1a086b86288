"""Playbooks as people write them: what is wrong is shown with its place and what helps."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.errors import ConfigError
from fleetcast.daemons.remedy.playbooks.loading import Playbooks, load_all
from fleetcast.daemons.remedy.playbooks.steps import params_of, registered
from fleetcast.daemons.remedy.playbooks.template import filled, names_in
from fleetcast.events.incidents import IncidentOpened, ResourceType, Severity

GOOD = """name = "mine"
description = "Mine."
[params]
unit = "a"
[[on]]
resource_type = "node"
trigger = "node_*"
severity = "high"
[[steps]]
name = "first"
command = ["echo", "{unit}", "{resource_id}"]
[[steps]]
name = "second"
action = "webhook"
params = { url = "http://x/{steps.first.said}" }
"""


def loaded(folder: Path, text: str) -> Playbooks:
    (folder / "mine.toml").write_text(text)
    return load_all(folder, params_of(registered()))


def test_the_shipped_playbooks_are_there_and_a_folder_adds_to_them(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD)

    assert {"model_rollback", "node_drain", "restart_service", "retrain_requested", "mine"} == set(found.all)
    rollback = found.find("model_rollback")
    assert rollback is not None
    assert [step.does for step in rollback.steps] == [
        "find_previous_stable",
        "update_deployment",
        "notify_dependents",
        "verify_rollback",
        "update_trust_metrics",
    ]


def test_a_playbook_of_ones_own_replaces_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD.replace('"mine"', '"node_drain"'))

    assert found.all["node_drain"].file == tmp_path / "mine.toml"


@pytest.mark.parametrize(
    ("was", "becomes", "where", "says", "helps"),
    [
        ('action = "webhook"', 'action = "webhok"', "14:10", "no action is called 'webhok'", "did you mean webhook?"),
        ("{unit}", "{unti}", "11:11", "nothing is called {unti}", "did you mean {unit}?"),
        ('trigger = "node_*"', 'triger = "x"', "7:1", "unknown key 'triger'", "did you mean trigger?"),
        ('severity = "high"', 'severity = "loud"', "8:12", "severity", "low, medium, high or critical"),
        ("params = { url", "params = { adress", "15:", "adress", "url"),
        ('name = "second"', 'name = "first"', "1:", "more than one step first", ""),
        ('description = "Mine."', "", "", "description is missing", "What it does"),
        ('command = ["echo"', 'timeout_seconds = "5"\ncommand = ["echo"', "11:19", "timeout_seconds", "Seconds"),
        ("{steps.first.said}", "{steps.second.said}", "15:", "nothing is called {steps.second.said}", ""),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_what_helps(
    tmp_path: Path, was: str, becomes: str, where: str, says: str, helps: str
) -> None:
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, GOOD.replace(was, becomes))

    told = str(wrong.value)
    assert f"mine.toml:{where}" in told
    assert says in told
    assert helps in told


def test_two_files_of_one_folder_cannot_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)

    with pytest.raises(ConfigError, match=r"is in a\.toml as well"):
        loaded(tmp_path, GOOD)


def test_an_incident_starts_what_it_matches_in_every_point(tmp_path: Path) -> None:
    playbook = loaded(tmp_path, GOOD).find("mine")
    assert playbook is not None
    (rule,) = playbook.on
    opened = IncidentOpened(
        incident="inc-1",
        source="remedy",
        resource_type=ResourceType.NODE,
        resource_id="n1",
        trigger="node_lost",
        severity=Severity.CRITICAL,
        title="n1 is lost",
        phase="open",
        opened_at="2026-11-21T00:00:00Z",
        by="t",
    )

    assert rule.matches(opened)
    assert not rule.matches(opened.model_copy(update={"severity": Severity.MEDIUM}))
    assert not rule.matches(opened.model_copy(update={"resource_type": ResourceType.MODEL}))


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_put_in_is_never_read_again(value: str, other: str) -> None:
    assert filled("{a} {b}", {"a": value, "b": other}) == f"{value} {other}"
    assert filled(["{a}", {"x": "{a}"}], {"a": value}) == [value, {"x": value}]


@given(st.text(max_size=80))
def test_any_text_can_be_filled_and_names_nothing_unknown(text: str) -> None:
    assert isinstance(filled(text, {}), str)
    assert all(name for name in names_in(text))


def test_doubled_braces_are_braces() -> None:
    assert filled("{{model}} {model}", {"model": "m"}) == "{model} m"
