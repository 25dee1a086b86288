"""What is generated from the catalogue: right, complete, and the same as what is committed."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events import asyncapi, export
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType

DOCS = Path(__file__).parents[3] / "docs"
every_event = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)


def references(value: Any) -> Iterator[str]:
    """All `$ref` in a document."""
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == "$ref" and isinstance(each, str))
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def resolved(document: dict[str, Any], reference: str) -> Any:
    """What a local reference points to; KeyError when there is nothing."""
    value: Any = document
    for token in reference.removeprefix("#/").split("/"):
        value = value[token.replace("~1", "/").replace("~0", "~")]
    return value


def test_what_is_committed_is_what_the_catalogue_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(DOCS), "--check"]) == 0, capsys.readouterr().err


def test_exporting_twice_changes_nothing(tmp_path: Path) -> None:
    assert export.main([str(tmp_path)]) == 0
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert export.main([str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == first
    assert len(first) == len(CATALOGUE) + 4


@pytest.mark.parametrize("name", ["schemas/model.promoted.v1.json", "asyncapi.json", "events.md"])
def test_drifted_file_is_named_with_the_command_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    export.main([str(tmp_path)])
    path = tmp_path / name
    path.write_text(path.read_text().replace("model", "modell", 1))
    capsys.readouterr()
    assert export.main([str(tmp_path), "--check"]) == 1
    talk = capsys.readouterr().err
    assert f"differs from the catalogue: {name}" in talk
    assert f"Next: python -m fleetcast.events.export {tmp_path}" in talk
    assert export.main([str(tmp_path)]) == 0
    assert export.main([str(tmp_path), "--check"]) == 0


def test_schema_of_an_event_that_is_gone_is_drift_and_is_removed(tmp_path: Path) -> None:
    export.main([str(tmp_path)])
    stale = tmp_path / "schemas" / "model.forgotten.v1.json"
    stale.write_text("{}")
    assert export.main([str(tmp_path), "--check"]) == 1
    export.main([str(tmp_path)])
    assert not stale.exists()


def test_missing_file_is_drift(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "schemas", tmp_path / "schemas")
    assert export.main([str(tmp_path), "--check"]) == 1


def test_what_is_written_by_hand_around_the_table_stays(tmp_path: Path) -> None:
    export.main([str(tmp_path)])
    page = tmp_path / "events.md"
    page.write_text("before\n" + page.read_text() + "after\n")
    export.main([str(tmp_path)])
    assert page.read_text().startswith("before\n# Events")
    assert page.read_text().endswith("after\n")


@every_event
def test_every_schema_stands_alone_and_describes_its_payload(entry: EventType) -> None:
    schema = asyncapi.payload_schema(entry)
    assert schema["$schema"] == asyncapi.DIALECT
    assert set(schema["properties"]) == set(entry.payload.model_fields)
    assert set(schema.get("required", ())) <= EXAMPLES[entry.name].keys()
    for reference in references(schema):
        resolved(schema, reference)


@every_event
def test_patterns_in_schemas_are_patterns(entry: EventType) -> None:
    for pattern in re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(asyncapi.payload_schema(entry))):
        re.compile(json.loads(pattern))


@every_event
def test_names_in_schemas_carry_their_rule(entry: EventType) -> None:
    for name in {"model", "node", "lane"} & entry.payload.model_fields.keys():
        text = json.dumps(asyncapi.payload_schema(entry)["properties"][name])
        assert "[a-z0-9_-]{0,47}" in text or name == "node"


def test_schemas_let_newer_emitters_add_fields() -> None:
    assert '"additionalProperties": false' not in json.dumps(asyncapi.document())


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi.document()
    found = list(references(document))
    assert len(found) > 3 * len(CATALOGUE)
    for reference in found:
        resolved(document, reference)


@every_event
def test_every_event_has_its_channel_message_and_operation(entry: EventType) -> None:
    document = asyncapi.document()
    channel = document["channels"][entry.name]
    parameters = re.findall(r"{(\w+)}", channel["address"])
    assert channel["address"] == entry.subject("{" + parameters[0] + "}")
    assert set(parameters) == set(channel["parameters"])
    message = resolved(document, channel["messages"][entry.type]["$ref"])
    assert message["payload"]["properties"]["type"] == {"const": entry.type}
    assert resolved(document, document["operations"][f"emit.{entry.name}"]["channel"]["$ref"]) == channel


@every_event
def test_every_example_in_the_documents_is_an_event_that_reads_back(entry: EventType) -> None:
    from fleetcast.events.envelope import parse

    example = asyncapi.envelope_example(entry)
    event = parse(json.dumps(example).encode())
    assert event.type is entry
    assert set(example) <= set(asyncapi.envelope_schema()["properties"])


@every_event
def test_every_event_says_what_it_means(entry: EventType) -> None:
    assert asyncapi.summary(entry.payload).endswith(".")


def test_the_page_of_events_has_a_row_for_every_event() -> None:
    page = (DOCS / "events.md").read_text()
    for entry in CATALOGUE:
        assert f"| {entry.name} | `{entry.alias}` | `{entry.type}` |" in page
