"""Export and import: nothing is lost on the way, nothing wrong gets in, and nobody's flag becomes somebody else's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.lifecycle import EntryState, Evaluation, Facts, Flag, Rating, StageName
from fleetcast.events.payloads import ObjectRef
from fleetcast.events.state import Cause
from fleetcast.registry.commands import Describe
from fleetcast.registry.documents import DocumentUnreadable, Form
from fleetcast.registry.exchange import ExchangeRefused, Mistake, Plan, export, parse, plan

FORMS: tuple[Form, ...] = ("yaml", "json")
AT = "2026-11-21T09:30:00Z"
ARTIFACT = "a" * 64
CAUSE = Cause(event="e", sequence=1, by="/fleet/gpu-1/train", correlation="e")
FACTS = Facts(
    display_name="Hex, wide",
    owner="no",
    tags=("nlp", "1.0"),
    git_commit="4b825dc6",
    evaluation_metrics={"accuracy": 0.96, "f1": 1e-05},
    evaluations={"random": Evaluation(wins=95, losses=3, draws=2), "heuristic": Evaluation(wins=66, losses=34)},
    rating=Rating(elo=1712.5, error=22.0, games=200),
    training_timestamp=AT,
    data_sets=("b" * 64,),
)
FLAGS = {
    "bias_check_passed": Flag(value=True, by="/fleet/gpu-1/cli", at=AT, reason="audit of November"),
    "parity": Flag(value=False, by="ci", at=AT, report=ObjectRef(name="report/x", sha256="c" * 64, size=7)),
}


def entry(model: str = "hex8_2p", version: str = "43", **changes: Any) -> EntryState:
    base: dict[str, Any] = {
        "model": model,
        "version": version,
        "artifact": ARTIFACT,
        "since": AT,
        "origin": "gpu-1",
        "registered_at": AT,
        "registered_by": "/fleet/gpu-1/train",
        "cause": CAUSE,
    }
    return EntryState(**(base | changes))


def told(*entries: EntryState, form: Form = "yaml") -> str:
    return export(entries, form, at=AT)


def imported(text: str, *present: EntryState, form: Form = "yaml") -> Plan:
    return plan(parse(text, form), {(each.model, each.version): each for each in present})


def after(known: EntryState, made: Plan, by: str = "importer") -> EntryState:
    """What a registry keeps once the statements are carried out."""
    for statement in made.statements:
        command = statement.command
        said = command.facts.model_dump(exclude_unset=True, exclude={"evaluations"})
        evaluations = (known.facts.evaluations or {}) | (command.facts.evaluations or {})
        told = Facts(**said, evaluations=evaluations or None).model_dump(exclude_none=True)
        facts = Facts.model_validate(known.facts.model_dump() | told)
        flags = {
            name: Flag(value=f.value, by=by, at=AT, reason=statement.reason, report=f.report)
            for name, f in command.flags.items()
        }
        metadata = known.metadata | dict(command.metadata)
        known = known.model_copy(update={"facts": facts, "flags": known.flags | flags, "metadata": metadata})
    return known


@pytest.mark.parametrize("form", FORMS)
def test_everything_that_was_said_comes_back(form: Form) -> None:
    source = entry(facts=FACTS, flags=FLAGS, metadata={"note": "x", "deep": {"a": [1, None]}, "nothing": None})
    made = imported(told(source, form=form), entry(), form=form)
    result = after(entry(), made)
    assert result.facts == FACTS
    assert {name: (flag.value, flag.report) for name, flag in result.flags.items()} == {
        name: (flag.value, flag.report) for name, flag in FLAGS.items()
    }
    assert result.metadata == {"note": "x", "deep": {"a": [1, None]}}


def test_an_imported_flag_says_who_had_set_it_and_never_that_the_importer_did() -> None:
    made = imported(told(entry(flags=FLAGS)), entry())
    reasons = {next(iter(each.command.flags)): each.reason for each in made.statements}
    assert reasons == {
        "bias_check_passed": f"imported: set by /fleet/gpu-1/cli at {AT}: audit of November",
        "parity": f"imported: set by ci at {AT}",
    }


def test_a_flag_that_is_imported_a_second_time_keeps_its_first_origin() -> None:
    first = after(entry(), imported(told(entry(flags=FLAGS)), entry()), by="importer-1")
    second = after(entry(), imported(told(first), entry()), by="importer-2")
    assert second.flags["bias_check_passed"].reason == f"imported: set by /fleet/gpu-1/cli at {AT}: audit of November"


@pytest.mark.parametrize("form", FORMS)
def test_importing_twice_changes_nothing(form: Form) -> None:
    text = told(entry(facts=FACTS, flags=FLAGS, metadata={"note": "x"}), form=form)
    first = after(entry(), imported(text, entry(), form=form))
    again = imported(text, first, form=form)
    assert again.statements == ()
    assert again.unchanged == (("hex8_2p", "43"),)


def test_an_export_says_nothing_new_to_its_own_registry() -> None:
    source = entry(facts=FACTS, flags=FLAGS, metadata={"note": "x"})
    assert imported(told(source), source).statements == ()


def test_only_what_differs_is_said() -> None:
    random = {"random": Evaluation(wins=95, losses=3, draws=2)}
    known = entry(facts=FACTS.model_copy(update={"owner": "old", "evaluations": random}))
    (statement,) = imported(told(entry(facts=FACTS)), known).statements
    assert statement.command == Describe(
        model="hex8_2p",
        version="43",
        facts=Facts(owner="no", evaluations={"heuristic": Evaluation(wins=66, losses=34)}),
    )


def test_a_version_that_is_not_here_is_named_and_one_with_other_bytes_is_left_alone() -> None:
    made = imported(
        told(entry(facts=FACTS), entry(version="44", facts=FACTS), entry("other", facts=FACTS)),
        entry(artifact="d" * 64),
        entry("other"),
    )
    assert made.missing == (("hex8_2p", "44"),)
    assert made.other_content == (("hex8_2p", "43"),)
    assert [statement.command.model for statement in made.statements] == ["other"]


def test_a_stage_is_shown_and_never_imported() -> None:
    text = told(entry(stage=StageName.PRODUCTION))
    assert "stage: production" in text
    assert imported(text, entry()).statements == ()


WRONG = """registry_export: 1
entries:
  - model: hex8_2p
    version: "43"
    facts:
      ownr: somebody
      calibration_error: 1.7
      git_commit: HEAD
      evaluations:
        random: {wins: -3, losses: 1}
      tags: nlp
    flags:
      Bias: {value: true}
      parity: {value: "yes"}
      fair: {by: me}
  - model: Hex 8
    version: 1.5
    artifact: abc
"""


def test_every_mistake_is_named_with_its_field_and_line() -> None:
    with pytest.raises(ExchangeRefused) as caught:
        parse(WRONG, "yaml")
    found = {(mistake.line, mistake.field): mistake.reason for mistake in caught.value.mistakes}
    assert found[6, "entries.0.facts.ownr"] == "there is no such field; did you mean owner?"
    assert found[7, "entries.0.facts.calibration_error"].startswith("input should be less than or equal to 1")
    assert (8, "entries.0.facts.git_commit") in found
    assert found[10, "entries.0.facts.evaluations.random.wins"].endswith("(it is -3)")
    assert (11, "entries.0.facts.tags") in found
    assert (13, "entries.0.flags.Bias") in found
    assert (14, "entries.0.flags.parity.value") in found
    assert found[15, "entries.0.flags.fair.value"] == "is missing"
    assert found[16, "entries.1.model"].startswith("'Hex 8' is not a name")
    assert found[17, "entries.1.version"] == 'is text; write it in quotes: "1.5"'
    assert (18, "entries.1.artifact") in found
    assert "line 6: entries.0.facts.ownr: there is no such field" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("entries: []", "line 1: registry_export: is missing"),
        ("registry_export: 2\nentries: []", "line 1: registry_export: input should be less than or equal to 1"),
        ("- a", "line 1: the document: "),
        ("registry_export: 1", "line 1: entries: is missing"),
        (
            "registry_export: 1\nentries:\n- {model: a, version: 1}\n- {model: a, version: '1'}",
            "line 4: entries.1: a@1 occurs twice",
        ),
        ("registry_export: 1\nentries:\n- {model: a}", "line 3: entries.0.version: is missing"),
        ("registry_export: 1\nentries:\n- {model: a, version: 1, facts: {rating: {elo: .inf}}}", "is not a number"),
    ],
)
def test_a_document_that_is_no_export_is_refused(text: str, reason: str) -> None:
    with pytest.raises((ExchangeRefused, DocumentUnreadable)) as caught:
        parse(text, "yaml")
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", ["1e999", "NaN", "-Infinity"])
def test_a_number_that_is_none_is_refused_in_json(value: str) -> None:
    text = '{"registry_export": 1, "entries": [{"model": "a", "version": "1", "facts": {"calibration_error": %s}}]}'
    with pytest.raises((ExchangeRefused, DocumentUnreadable), match=r"number|less than"):
        parse(text % value, "json")


KEYS = st.sampled_from(["registry_export", "entries", "model", "version", "facts", "flags", "value", "owner", "x"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=10,
)


@given(DOCUMENTS)
def test_whatever_a_document_holds_is_read_or_refused_with_lines(value: object) -> None:
    refused: tuple[Mistake, ...] = ()
    try:
        parse(json.dumps(value), "json")
    except ExchangeRefused as error:
        refused = error.mistakes
    else:
        return
    assert refused
    assert all(mistake.line >= 1 for mistake in refused)
