"""The gates file: what it says, which profile holds, and what a mistake in it looks like."""

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.unit.registry.gates.builders import COMMITTED, committed

from fleetcast.config.errors import ConfigError
from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates.loading import load
from fleetcast.registry.gates.policy import (
    ALL_STAGES,
    Approvals,
    Gates,
    ModelPolicy,
    Policy,
    RejectRule,
    StageGates,
)

GOVERNANCE = {
    "flags": ("constitutional_compliance", "bias_check_passed"),
    "reproducibility_hash": True,
    "max_calibration_error": 0.1,
    "latency_objective": True,
    "tested_format": True,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gates.toml"


def loaded(file: Path, text: str) -> Policy:
    file.write_text(text)
    return load(file)


def refusal(file: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text)
    return str(caught.value).replace(str(file), "FILE")


def test_committed_file_asks_for_what_the_seeds_ask_for() -> None:
    assert committed() == ModelPolicy(
        decides="gates",
        pipeline=ALL_STAGES,
        confidence=0.95,
        metadata=("experiment_id", "git_commit", "checksums"),
        canary_steps=(10,),
        bake_seconds=600,
        quorum_ratio=0.5,
        distribute_seconds=3600,
        reject=RejectRule(elo_below=1400, min_games=100),
        gates=Gates(
            staging=StageGates(min_games=50, elo_delta_above=0, win_rates={"random": 0.85}),
            canary=StageGates.model_validate(GOVERNANCE),
            production=StageGates.model_validate(
                {
                    **GOVERNANCE,
                    "min_games": 100,
                    "min_elo": 1650,
                    "win_rates": {"random": 0.90, "heuristic": 0.60},
                    "evidence": ("training_succeeded", "parity", "e2e"),
                    "soak_seconds": 0,
                    "approvals": Approvals(count=0, expires_seconds=7 * 86400),
                }
            ),
        ),
    )
    assert load(COMMITTED).profiles == ()


def test_every_key_of_the_committed_file_is_explained_above_it_or_stands_under_one_that_is() -> None:
    unexplained = []
    lines = COMMITTED.read_text().splitlines()
    for above, line in pairwise(lines):
        starts_a_key = line and line[0] not in "#[ "
        if starts_a_key and not above:
            unexplained.append(line)
    assert not unexplained


def test_every_setting_that_a_file_can_have_stands_in_the_committed_one() -> None:
    values = tomllib.loads(COMMITTED.read_text())["default"]
    text = COMMITTED.read_text()
    for key in set(ModelPolicy.model_fields) - {"profile", "freeze"}:
        assert key in values, key
    for key in StageGates.model_fields:
        assert any(key in table for table in values["gates"].values()), key
    assert "# [[default.freeze]]" in text


def test_commented_examples_of_the_committed_file_can_be_used(file: Path) -> None:
    lines = COMMITTED.read_text().splitlines()
    tail = lines[lines.index("# [[default.freeze]]") :]
    examples = [line[2:] for line in tail if line.startswith("# [") or " = " in line]
    policy = loaded(file, "[default]\n" + "\n".join(examples))

    assert len(policy.base.freeze) == 1
    assert policy.for_model("hex8_4p").gates.production.min_games == 200
    assert policy.for_model("vendor_a").decides == "external"


def test_without_a_file_whoever_promotes_decides_and_half_of_the_nodes_must_be_ready() -> None:
    policy = Policy.default().for_model("any")

    assert policy.decides == "external"
    assert policy.pipeline == ALL_STAGES
    assert policy.canary_steps == ()
    assert policy.quorum_ratio == 0.5
    assert policy.gates == Gates()
    assert Policy.default().name == ""


def test_first_profile_that_names_a_model_holds_and_default_for_all_others(file: Path) -> None:
    policy = loaded(
        file,
        """
        [default]
        bake_seconds = 1
        [profile.hex]
        models = ["hex*"]
        bake_seconds = 2
        [profile.all_2p]
        models = ["*_2p", "fraud"]
        bake_seconds = 3
        """,
    )

    found = {model: policy.for_model(model).bake_seconds for model in ("hex8_2p", "square8_2p", "fraud", "other")}
    assert found == {"hex8_2p": 2, "square8_2p": 3, "fraud": 3, "other": 1}
    assert policy.for_model("fraud").profile == "all_2p"


def test_profile_takes_from_default_what_it_leaves_out_but_its_gates_of_a_stage_stand_for_themselves(
    file: Path,
) -> None:
    policy = loaded(
        file,
        """
        [default]
        confidence = 0.9
        [default.gates.staging]
        min_games = 50
        [default.gates.production]
        min_games = 100
        min_elo = 1650
        [profile.a]
        models = ["a"]
        [profile.a.gates.production]
        min_elo = 1500
        """,
    ).for_model("a")

    assert policy.confidence == 0.9
    assert policy.gates.staging.min_games == 50
    assert policy.gates.production == StageGates(min_elo=1500)


def test_profile_with_a_shorter_pipeline_leaves_behind_what_default_says_of_the_other_stages(file: Path) -> None:
    policy = loaded(
        file,
        """
        [default]
        canary_steps = [10]
        [default.gates.staging]
        min_games = 50
        [profile.a]
        models = ["a"]
        pipeline = ["development", "production"]
        """,
    ).for_model("a")

    assert policy.canary_steps == ()
    assert policy.gates == Gates()


def test_a_file_decides_unless_it_says_otherwise(file: Path) -> None:
    assert loaded(file, "[default]").base.decides == "gates"


def test_digest_is_of_what_is_asked_for_and_not_of_how_it_is_written(file: Path, tmp_path: Path) -> None:
    one = loaded(file, "[default]\nconfidence = 0.9\n")
    other = loaded(tmp_path / "other.toml", "# comment\n[default]\nconfidence = 0.90 # the same\n")
    changed = loaded(file, "[default]\nconfidence = 0.91\n")

    assert one.digest == other.digest != changed.digest
    assert one.base.digest == other.base.digest != changed.base.digest


def test_mistake_names_file_line_key_and_what_is_allowed(file: Path) -> None:
    assert refusal(file, '[default]\n\ndecides = "me"\n') == (
        "FILE:3:11: default.decides should be 'gates' or 'external'\n"
        '    3 | decides = "me"\n'
        "      |           ^^^^\n"
        '  help: Who decides a promotion: "gates", or "external": whoever promotes; then only freezes are asked.'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default]\npipelin = []", "unknown key 'pipelin' in [default]"),
        ("[default]\npipelin = []", "did you mean pipeline?"),
        ("[default]\nzzz = 1", "allowed here: decides, pipeline, confidence"),
        ('[default]\nprofile = "x"', "FILE:2:1: unknown key 'profile'"),
        ('[default]\nmodels = ["*"]', "FILE:2:1: unknown key 'models'"),
        ("[defaults]", "did you mean [default]?"),
        ("", "there is no [default]"),
        ("default = 4", "default is a table"),
        ("[default]\n[profile]\na = 3", "profile is a table"),
        ("[default]\nconfidence = 2", "FILE:2:14: default.confidence should be less than or equal to 0.9999"),
        ("[default]\ncanary_steps = [10, 5]", "must rise from step to step"),
        ("[default]\ncanary_steps = [100]", "less than or equal to 99"),
        ('[default]\npipeline = ["production"]', "must begin with development, end with production"),
        ('[default]\npipeline = ["development", "production", "staging"]', "must begin with development"),
        ("[default]\nquorum_ratio = 1.5", "less than or equal to 1"),
        ("[default]\nquorum_ratio = nan", "FILE:2:16: default.quorum_ratio should be"),
        ("[default]\nbake_seconds = -1", "greater than or equal to 0"),
        ("[default]\nbake_seconds = true", "should be a valid number"),
        (
            "[default.gates.production]\nmin_games = true",
            "production.min_games should be a valid integer",
        ),
        ("[default.gates.production]\nmin_elo = inf", "should be a finite number"),
        ("[default.gates.production]\nwin_rates = {random = 1.7}", "win_rates.random should be less than 1"),
        ("[default.gates.production]\nwin_rates = {random = 1.0}", "win_rates.random should be less than 1"),
        ("[default.gates.production]\nwin_rates = {a = 0.5, A = 0.6}", "names an opponent twice"),
        ('[default.gates.production]\nflags = ["A B"]', "should match pattern"),
        ("[default.gates.production]\nmetrics = {a = {}}", "has no limit: set min, max or both"),
        ("[default.gates.production]\nmetrics = {a = {min = 2, max = 1}}", "allows nothing"),
        ("[default.gates.production]\nmetrics = {a = {mni = 2}}", "did you mean min?"),
        ("[default.gates.development]\nmin_games = 1", "allowed here: sandbox, staging, canary, production"),
        ("[default.reject]\nmin_games = 1", "FILE:1:1: default.reject.elo_below is missing"),
        ('[[default.freeze]]\nfrom = "25:00"\nto = "01:00"', "FILE:2:8: default.freeze.0.from '25:00' is not a time"),
        ('[[default.freeze]]\nfrom = "1:00"\nto = "01:00"\nzone = "Mars/Base"', "is no time zone that this machine"),
        ('[[default.freeze]]\ndays = []\nfrom = "01:00"\nto = "02:00"', "default.freeze.0.days is empty"),
        ("[default]\n[profile.a]\nbake_seconds = 1", "FILE:2:1: profile.a.models is missing"),
        ('[default]\n[profile.a]\nmodels = ["a"]\nbake = 1', "FILE:4:1: unknown key 'bake' in [profile.a]"),
        ('[default]\npipeline = ["development", "production"]\ncanary_steps = [5]', "its pipeline leaves canary out"),
        (
            '[default]\n[profile.a]\nmodels=["a"]\npipeline=["development","production"]\n[profile.a.gates.staging]\nmin_games=1',
            "profile.a has gates to staging, which its pipeline leaves out",
        ),
        ("[default", "help: correct it, then run: fleetcast gates check FILE"),
    ],
)
def test_mistakes_in_a_gates_file_are_refused_with_their_place(file: Path, text: str, said: str) -> None:
    assert said in refusal(file, text)


def test_mistake_in_default_is_told_once_however_many_profiles_take_it_over(file: Path) -> None:
    text = '[default]\nconfidence = 7\n[profile.a]\nmodels = ["a"]\n[profile.b]\nmodels = ["b"]\n'
    assert refusal(file, text).count("confidence should be") == 1


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    said = refusal(file, '[default]\nconfidence = 7\nfoo = 1\n[profile.a]\nmodels = []\nbake_seconds = "x"\n')
    assert all(f"FILE:{line}:" in said for line in (2, 3, 5, 6))


def test_missing_file_is_refused_with_a_command(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "fleetcast gates check" in caught.value.next_step


def test_gates_of_a_stage_that_a_version_falls_back_to_are_none() -> None:
    assert committed().gates.to(StageName.ARCHIVED) == StageGates()


def test_policy_cannot_be_changed_once_it_is_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        committed().confidence = 0.5  # type: ignore[misc]  # that is the point
