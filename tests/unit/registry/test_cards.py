"""Model cards: nothing is invented, nothing missing is hidden, and nobody's text becomes markup."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import EntryState, Evaluation, Facts, Flag, Rating, StageName
from fleetcast.events.state import Cause
from fleetcast.registry.cards import NOT_STATED, card

AT = "2026-11-21T09:30:00Z"
SECTIONS = (
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
)
FULL = Facts(
    display_name="Hex, wide",
    description="Plays Hex on boards of 8 x 8.",
    license="Apache-2.0",
    framework="PyTorch",
    model_type="policy value network",
    owner="ml_team",
    tags=("hex", "1.0"),
    data_sets=("b" * 64,),
    training_dataset_size=120_000,
    evaluation_metrics={"policy_accuracy": 0.58, "loss": 0.41},
    evaluations={"random": Evaluation(wins=95, losses=3, draws=2)},
    rating=Rating(elo=1712.5, error=22.0, games=200),
    expected_latency_p95_ms=12.5,
    calibration_error=0.03,
)
CONTENT = Content(
    kind=Kind.MODEL,
    format=Format.TORCH,
    files=(ContentFile(path="hex_8.pt", size=7, sha256="c" * 64, pieces_root="d" * 64),),
)


def entry(facts: Facts = Facts(), **changes: Any) -> EntryState:  # noqa: B008  # frozen
    base: dict[str, Any] = {
        "model": "hex8_2p",
        "version": "43",
        "artifact": "a" * 64,
        "since": AT,
        "origin": "gpu-1",
        "registered_at": AT,
        "registered_by": "/fleet/gpu-1/train",
        "cause": Cause(event="e", sequence=1, by="x", correlation="e"),
        "facts": facts,
    }
    return EntryState(**(base | changes))


def parts(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Front matter, and the sections by title."""
    _, front, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    titled = re.split(r"^## (.+)$", body, flags=re.MULTILINE)
    return yaml.safe_load(front), dict(zip(titled[1::2], titled[2::2], strict=True))


def test_a_version_that_everything_is_known_of_has_the_front_matter_of_the_hub() -> None:
    front, _ = parts(card(entry(FULL), CONTENT))
    assert front == {
        "license": "apache-2.0",
        "library_name": "pytorch",
        "tags": ["fleetcast", "hex", "1.0"],
        "datasets": ["b" * 64],
        "metrics": ["loss", "policy_accuracy"],
        "model_name": "Hex, wide",
        "version": "43",
        "model-index": [
            {
                "name": "Hex, wide",
                "results": [
                    {
                        "task": {"type": "policy-value-network"},
                        "dataset": {"type": "not-stated", "name": "not stated"},
                        "metrics": [
                            {"type": "loss", "name": "loss", "value": 0.41},
                            {"type": "policy_accuracy", "name": "policy_accuracy", "value": 0.58},
                        ],
                    }
                ],
            }
        ],
    }


def test_numbers_come_with_what_they_rest_on() -> None:
    _, sections = parts(card(entry(FULL), CONTENT))
    assert "| random | 100 | 95 | 3 | 2 | 0.960 |" in sections["Quantitative analyses"]
    assert "Elo 1712.5 ± 22 (95 %), from 200 games." in sections["Quantitative analyses"]
    assert "| Latency p95, objective | 12.5 ms |" in sections["Metrics"]
    assert f"| hex\\_8.pt | 7 | `{'c' * 64}` |" in sections["Files"]


def test_what_nobody_said_is_named_in_every_section() -> None:
    front, sections = parts(card(entry()))
    assert front == {"license": "unknown", "tags": ["fleetcast"], "model_name": "hex8_2p", "version": "43"}
    for title in SECTIONS:
        assert NOT_STATED in sections[title], title


def test_flags_name_whoever_answers_for_them_and_unset_ones_are_not_taken_for_passed() -> None:
    flags = {"bias_check_passed": Flag(value=False, by="/fleet/gpu-1/cli", at=AT, reason="audit | 2026")}
    _, sections = parts(card(entry(flags=flags)))
    told = sections["Ethical considerations"]
    assert f"| `bias_check_passed` | no | /fleet/gpu-1/cli, {AT}: audit \\| 2026 |" in told
    assert f"| `constitutional_compliance` | {NOT_STATED} |  |" in told


def test_what_only_a_person_can_write_comes_from_the_metadata() -> None:
    said = {"intended_use": "Play Hex.", "limitations": "Small boards.", "caveats": "None known.", "other": "x"}
    _, sections = parts(card(entry(metadata=said)))
    assert sections["Intended use"].strip() == "Play Hex."
    assert sections["Caveats and recommendations"].strip() == "Small boards.\n\nNone known."


@pytest.mark.parametrize(
    ("said", "license_", "name"),
    [("MIT", "mit", None), ("Apache 2.0", "apache-2.0", None), ("ACME Internal 3", "other", "ACME Internal 3")],
)
def test_a_licence_that_the_hub_does_not_know_keeps_its_name(said: str, license_: str, name: str | None) -> None:
    front, _ = parts(card(entry(Facts(license=said))))
    assert (front["license"], front.get("license_name")) == (license_, name)


def test_the_order_in_which_things_were_said_does_not_matter() -> None:
    facts = FULL.model_copy(update={"evaluation_metrics": {"loss": 0.41, "policy_accuracy": 0.58}})
    assert card(entry(FULL), CONTENT) == card(entry(facts), CONTENT) == card(entry(FULL), CONTENT)


NASTY = st.text(st.sampled_from("ab|-`#*_<>[]()\\:~ é{}&"), min_size=1, max_size=20)


@given(NASTY, NASTY, NASTY)
def test_nobodys_text_becomes_markup_or_front_matter(name: str, owner: str, reason: str) -> None:
    facts = Facts(display_name=name, owner=owner, description=reason, tags=(name,))
    front, sections = parts(card(entry(facts, stage=StageName.STAGING)))
    assert front["model_name"] == name
    assert front["tags"] == list(dict.fromkeys(["fleetcast", name]))
    assert list(sections) == [*SECTIONS, "Files"]
    (row,) = [line for line in sections["Model details"].splitlines() if line.startswith("| Owner ")]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3
