"""docs/nats-cli.md: everything that people paste is right."""

from pathlib import Path

import pytest

from fleetcast.events.envelope import parse
from fleetcast.events.names import CATALOGUE, find
from fleetcast.events.performance import parse_snapshot
from fleetcast.events.recipes import Publication, Recipe, recipes

DOCS = Path(__file__).parents[3] / "docs"
PAGE = list(recipes((DOCS / "nats-cli.md").read_text()))
PUBLISHING = [recipe for recipe in PAGE if recipe.publication and recipe.publication.subject.startswith("fc.ev.")]
SNAPSHOTS = [recipe for recipe in PAGE if recipe.publication and recipe.publication.subject.startswith("fc.perf.")]


@pytest.mark.parametrize("recipe", PUBLISHING, ids=lambda recipe: recipe.title)
def test_every_recipe_that_publishes_is_an_event(recipe: Recipe) -> None:
    publication = recipe.publication
    assert publication is not None
    event = parse(
        publication.body, subject=publication.subject, headers=publication.headers, stream="FC_EVENTS", sequence=7
    )
    assert event.key in ({"hex8-2p-0042"} if event.type.key_field == "run_id" else {"hex8_2p", "gpu-2"})


def test_every_other_recipe_that_publishes_is_a_snapshot() -> None:
    assert SNAPSHOTS
    assert {recipe for recipe in PAGE if recipe.publication} == {*PUBLISHING, *SNAPSHOTS}
    for publication in (recipe.publication for recipe in SNAPSHOTS):
        assert publication is not None
        snapshot = parse_snapshot(publication.body, stored_at=0.0, subject=publication.subject)
        assert (snapshot.model, snapshot.version, snapshot.requests) == ("hex8_2p", "43", 1000)


@pytest.mark.parametrize("recipe", [*PUBLISHING, *SNAPSHOTS], ids=lambda recipe: recipe.title)
def test_every_recipe_waits_for_the_stream(recipe: Recipe) -> None:
    assert "-J" in recipe.command


@pytest.mark.parametrize("recipe", PAGE, ids=lambda recipe: " ".join(recipe.command)[:60])
def test_no_recipe_would_be_expanded_by_the_cli(recipe: Recipe) -> None:
    assert recipe.command[0] == "nats"
    assert "--no-templates" in recipe.command or not any("{{" in word for word in recipe.command)


def test_every_event_that_people_may_type_has_a_recipe() -> None:
    subjects = {recipe.publication.subject for recipe in PUBLISHING if recipe.publication}
    assert {find(".".join(subject.split(".")[2:4])).name for subject in subjects if "PROMOTED" not in subject} == {
        entry.name for entry in CATALOGUE if entry.manual
    }
    assert "fc.ev.MODEL_PROMOTED.hex8_2p" in subjects


def test_all_three_shapes_have_a_recipe() -> None:
    ids = set()
    for recipe in PUBLISHING:
        publication = recipe.publication
        assert publication is not None
        ids.add(parse(publication.body, subject=publication.subject, headers=publication.headers, sequence=7).id)
    assert ids == {"FC_EVENTS:7", "promote-hex8_2p-43", "ci-8812", "ci-8813"}


@pytest.mark.parametrize("words", ["nats micro ls", "nats sub", "fc.dead.>", "fleetcast-distributor", "nats req"])
def test_the_other_triggers_have_a_recipe(words: str) -> None:
    assert any(words in " ".join(recipe.command) for recipe in PAGE)


def test_recipes_are_read_as_a_shell_and_the_cli_read_them() -> None:
    page = """## Title
```sh
# a comment
nats pub -J -H 'A:b: c' \\
  some.subject '{"a":"it'"'"'s"}' | jq .
```
```json
{"nats": "pub"}
```
"""
    (recipe,) = recipes(page)
    assert recipe.title == "Title"
    assert recipe.publication == Publication("some.subject", b'{"a":"it\'s"}', {"A": "b: c"})


GLOSSARY = (
    "node daemon model version lane bucket ledger job content artifact manifest keyring slot origin transfer "
    "install wants straggler hook drained form archive stage gate snapshot trigger incident playbook run supervisor "
    "reader role backup drill"
)


def test_the_glossary_has_exactly_these_words_and_none_by_accident() -> None:
    rows = [line.split("|")[1].strip() for line in (DOCS / "glossary.md").read_text().splitlines() if "| **" in line]
    assert rows == [f"**{word}**" for word in GLOSSARY.split()]
