"""The policy file: the seeds' values, whose table holds, where a value comes from, and what a mistake looks like."""

from pathlib import Path

import pytest

from fleetcast.config.errors import ConfigError
from fleetcast.daemons.monitor.loading import load
from fleetcast.daemons.monitor.policy import Dependent, Mode, ModelPolicy, Policy, Rules
from fleetcast.events.lifecycle import Facts

COMMITTED = Path(__file__).parents[3] / "config" / "monitor.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "monitor.toml"


def loaded(file: Path, text: str) -> Policy:
    file.write_text(text)
    return load(file)


def refusal(file: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text)
    return str(caught.value).replace(str(file), "FILE")


def test_the_committed_file_holds_what_holds_without_a_file() -> None:
    assert load(COMMITTED).base.model_dump() == Policy.default().base.model_dump()


def test_the_limits_are_those_of_the_seeds_and_nothing_acts_by_itself() -> None:
    rules = Policy.default().base
    assert (rules.error_rate, rules.error_rate_critical, rules.latency_p95_ratio) == (0.05, 0.10, 1.5)
    assert (rules.ood_rate, rules.drift, rules.window_minutes) == (0.20, 0.3, 10)
    assert rules.mode is Mode.OBSERVE


def test_every_key_of_the_file_is_a_rule_and_every_rule_stands_in_the_file() -> None:
    keys = {line.lstrip("#").split("=")[0].strip() for line in COMMITTED.read_text().splitlines() if "=" in line}
    missing = set(Rules.model_fields) - keys - {"dependents"}
    assert not missing
    assert "[[default.dependents]]" in COMMITTED.read_text()


def test_a_model_has_its_own_over_default_over_the_seeds_each_with_its_place(file: Path) -> None:
    policy = loaded(file, '[default]\nmode = "approve"\nood_rate = 0.3\n[model."fraud_*"]\nood_rate = 0.4\n')
    ours = policy.for_model("fraud_detector")
    rows = {name: (value, unit, origin) for name, value, unit, origin in ours.rows()}
    assert rows["ood_rate"] == (0.4, "ratio", "monitor.toml:5")
    assert rows["mode"] == ("approve", "", "monitor.toml:2")
    assert rows["error_rate"] == (0.05, "ratio", "default")
    assert policy.for_model("hex8_2p").ood_rate == 0.3


def test_the_first_table_that_fits_holds(file: Path) -> None:
    policy = loaded(file, '[model."a*"]\ndrift = 0.5\n[model."ab"]\ndrift = 0.9\n')
    assert policy.for_model("ab").drift == 0.5


def test_dependents_are_named_one_way_each(file: Path) -> None:
    text = '[[default.dependents]]\nname = "cache"\ncommand = ["true"]\n[[default.dependents]]\nsubject = "a.b"\n'
    assert loaded(file, text).base.dependents == (
        Dependent(name="cache", command=("true",)),
        Dependent(subject="a.b"),
    )
    assert "exactly one of command, webhook and subject" in refusal(file, '[[default.dependents]]\nname = "x"\n')


def test_the_latency_that_a_version_states_holds_unless_the_file_says_it(file: Path) -> None:
    facts = Facts(expected_latency_p95_ms=40)
    stated = Policy.default().base.for_version("7", facts)
    assert stated.expected_latency_p95_ms == 40
    assert "facts of 7" in str(stated.origin("expected_latency_p95_ms"))
    said = loaded(file, "[default]\nexpected_latency_p95_ms = 25\n").base
    assert said.for_version("7", facts).expected_latency_p95_ms == 25
    assert ModelPolicy().for_version("7", None).expected_latency_p95_ms is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default]\nerror_rate = 8\n", "FILE:2:14: default.error_rate should be less than or equal to 1"),
        ("[default]\nerror_rat = 0.1\n", "did you mean error_rate?"),
        ("[default]\nmode = 'act'\n", "FILE:2:8"),
        ("[defaults]\n", "did you mean [default]?"),
        ("[model]\nx = 1\n", "model.x is no table"),
        ("model = 3\n", "model is a table"),
        ("[default]\nerror_rate_critical = 0.01\n", "error_rate_critical 0.01 below error_rate 0.05"),
        ('[model."a*"]\ndrift = true\n', "model.a*.drift"),
        ("[default]\nwindow_minutes = 1.5\n", "default.window_minutes"),
        ("[default]\nerror_rate = nan\n", "default.error_rate"),
        ("[default\n", "FILE:1"),
    ],
)
def test_a_mistake_is_shown_at_its_place_with_what_is_allowed(file: Path, text: str, said: str) -> None:
    assert said in refusal(file, text)


def test_what_is_wrong_in_default_is_said_once(file: Path) -> None:
    text = '[default]\nerror_rate = 8\n[model."a"]\ndrift = 1\n[model."b"]\ndrift = 1\n'
    assert refusal(file, text).count("should be") == 1
