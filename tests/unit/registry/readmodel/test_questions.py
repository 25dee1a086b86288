"""What is answered about one version, two of them, a model, the past and the whole."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.registry.readmodel import records as r

from fleetcast.events.lifecycle import Facts, Phase, StageName
from fleetcast.events.payloads import Checks, VersionActivated, VersionInstalled, VersionRemoved
from fleetcast.registry.readmodel import QUERIES, BadQuery, NothingFound, ReadModel, answer

CHECKS = Checks(size="ok", sha256="ok", format="ok")


def told(kind: type[Any], version: str, node: str, **more: Any) -> Any:
    artifact = r.content(int(version)).artifact
    return kind(model="hex8_2p", version=version, artifact=artifact, node=node, **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadModel]:
    writer = r.Writer()
    writer.register("hex8_2p", "1", 1)
    writer.register("hex8_2p", "2", 2)
    writer.register("alone", "1", 1)
    weak = {"random": r.games(80, 15, 5)}
    strong = {"random": r.games(95, 5), "heuristic": r.games(60, 40)}
    writer.entry(
        "hex8_2p", "1", 1, facts=Facts(evaluations=weak, rating=r.rating(1600), evaluation_metrics={"loss": 0.5})
    )
    writer._clock = 4
    writer.order("hex8_2p", "1")  # at 5 s
    n = writer.record(
        "hex8_2p", "version.promoted", None, {"version": "2"}, r.at(6), evidence={"gates": []}, reason="weekly"
    )
    writer.entry(
        "hex8_2p",
        "2",
        2,
        stage=StageName.PRODUCTION,
        stages=(r.stage_change(StageName.DEVELOPMENT, 0), r.stage_change(StageName.PRODUCTION, 6, n)),
        flags={"parity": r.flag(value=True), "bias_check_passed": r.flag(value=False)},
        facts=Facts(evaluations=strong, rating=r.rating(1700), evaluation_metrics={"loss": 0.25}, run_id="run-1"),
        metadata={"note": "x"},
    )
    writer._clock = 9
    writer.order("hex8_2p", "1", canary="2", percent=25)  # at 10 s
    writer._clock = 19
    writer.order("hex8_2p", "2")  # at 20 s
    writer.rollout("hex8_2p", "2", Phase.BAKING)
    writer.rollout("alone", "1", Phase.PROMOTED)
    writer.freeze("alone", frozen=True)
    for node in ("n1", "n2"):
        writer.say(told(VersionInstalled, "1", node, checks=CHECKS))
        writer.say(told(VersionActivated, "1", node, generation=1, slot="production"))
        writer.say(told(VersionInstalled, "2", node, checks=CHECKS))
    writer.say(told(VersionActivated, "2", "n1", generation=3, slot="production"))
    writer.say(told(VersionRemoved, "1", "n1"))
    with r.made_of(tmp_path_factory.mktemp("questions") / "r.sqlite", writer) as made:
        yield made


def ask(model: ReadModel, query: str, /, **arguments: Any) -> dict[str, Any]:
    with model.reader() as db:
        return answer(db, query, arguments)


def test_a_model_is_one_row(model: ReadModel) -> None:
    alone, hexes = ask(model, "models")["models"]

    assert (hexes["production"], hexes["previous"], hexes["canary"], hexes["generation"]) == ("2", "1", None, 3)
    assert (hexes["versions"], hexes["newest"], hexes["rollout"], hexes["freeze"]) == (2, "2", "baking", None)
    assert (alone["production"], alone["generation"], alone["freeze"]["reason"]) == (None, 0, "holidays")
    assert [m["model"] for m in ask(model, "models", stage="production")["models"]] == ["hex8_2p"]
    assert [m["model"] for m in ask(model, "models", model="al*")["models"]] == ["alone"]
    first = ask(model, "models", limit=1)
    assert [m["model"] for m in ask(model, "models", after=first["next"])["models"]] == ["hex8_2p"]


def test_info_tells_everything_about_a_version(model: ReadModel) -> None:
    info = ask(model, "info", model="hex8_2p", version="2")

    assert (info["stage"], info["slots"], info["bytes"], info["format"]) == ("production", ["production"], 2, "opaque")
    assert info["evaluations"]["heuristic"] == {"wins": 60, "losses": 40, "draws": 0, "games": 100, "win_rate": 0.6}
    assert {name: flag["value"] for name, flag in info["flags"].items()} == {"parity": True, "bias_check_passed": False}
    [_, promoted] = info["stages"]
    assert (promoted["stage"], promoted["at"], promoted["actor"], promoted["reason"]) == (
        "production",
        r.at(6),
        "/fleet/n1/cli",
        "weekly",
    )
    assert info["metadata"] == {"note": "x"}
    assert info["lineage"]["run_id"] == "run-1"
    assert info["consumption"] == {"installed": 2, "activated": 1}
    assert info["content"]["files"][0]["size"] == 2
    assert info["rollout"]["phase"] == "baking"
    assert "version.promoted" in {d["action"] for d in info["decisions"]}


def test_the_same_content_elsewhere_is_named(model: ReadModel) -> None:
    assert ask(model, "info", model="hex8_2p", version="1")["siblings"] == ["alone@1"]


def test_two_versions_are_compared_field_by_field_and_number_by_number(model: ReadModel) -> None:
    compared = ask(model, "compare", a="hex8_2p@1", b="hex8_2p@2")

    metrics = {m["metric"]: (m["a"], m["b"], m["difference"]) for m in compared["metrics"]}
    assert metrics["elo"] == (1600, 1700, 100)
    assert metrics["loss"] == (0.5, 0.25, -0.25)
    assert metrics["win_rate/heuristic"] == (None, 0.6, None)
    assert metrics["win_rate/random"][2] == pytest.approx(0.15)
    fields = {f["field"]: (f["a"], f["b"], f["same"]) for f in compared["fields"]}
    assert fields["stage"] == ("development", "production", False)
    assert fields["framework"] == (None, None, True)
    assert {f["field"]: (f["a"], f["b"]) for f in compared["flags"]}["parity"] == (None, True)


def test_history_comes_newest_first_and_page_by_page(model: ReadModel) -> None:
    whole = ask(model, "history", model="hex8_2p")["records"]
    first = ask(model, "history", model="hex8_2p", limit=4)
    rest = ask(model, "history", model="hex8_2p", before=first["next"])

    assert [record["n"] for record in whole] == sorted((record["n"] for record in whole), reverse=True)
    assert first["records"] + rest["records"] == whole
    assert rest["next"] is None
    assert [record["action"] for record in whole[:2]] == ["slot.ordered", "slot.ordered"]
    assert {record["version"] for record in ask(model, "history", model="hex8_2p", version="2")["records"]} == {"2"}


def test_a_canary_order_is_told_of_the_canary(model: ReadModel) -> None:
    [first, *_] = ask(model, "history", model="hex8_2p", action="slot.ordered", before=6)["records"]

    assert (first["version"], first["after"]["canary"]["percent"]) == ("2", 25)


def test_a_decision_carries_its_evidence_and_history_only_says_that_there_is_some(model: ReadModel) -> None:
    [record] = ask(model, "history", model="hex8_2p", action="version.promoted")["records"]
    whole = ask(model, "decision", model="hex8_2p", n=record["n"])

    assert record["has_evidence"]
    assert "evidence" not in record
    assert whole["evidence"] == {"gates": []}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (4.999, None),
        (5, ("1", None, None, 1)),
        (9.999, ("1", None, None, 1)),
        (10, ("1", "2", 25, 2)),
        (19.999, ("1", "2", 25, 2)),
        (20, ("2", None, None, 3)),
        (10**6, ("2", None, None, 3)),
    ],
)
def test_the_registry_at_a_time_is_what_was_served_then(
    model: ReadModel, seconds: float, expected: tuple[object, ...] | None
) -> None:
    slots = ask(model, "registry_at", at=r.at(seconds))["slots"]

    found = [(s["production"], s["canary"], s["percent"], s["generation"]) for s in slots]
    assert found == ([] if expected is None else [expected])


def test_a_time_may_come_from_any_zone_but_needs_one(model: ReadModel) -> None:
    [slot] = ask(model, "registry_at", at="2026-11-20T12:00:10+02:00", model="hex8_2p")["slots"]
    assert slot["canary"] == "2"
    with pytest.raises(BadQuery, match="no time zone"):
        ask(model, "registry_at", at="2026-11-20T12:00:10")
    with pytest.raises(BadQuery, match="is no time"):
        ask(model, "registry_at", at="yesterday")


def test_consumption_is_a_record_like_the_one_of_decisions(model: ReadModel) -> None:
    told = ask(model, "consumption", model="hex8_2p", limit=3)
    rest = ask(model, "consumption", model="hex8_2p", after=told["next"])

    newest = told["events"][0]
    assert (newest["what"], newest["version"], newest["node"]) == ("removed", "1", "n1")
    assert len(told["events"]) + len(rest["events"]) == 8
    assert told["nodes"] == {"1": {"installed": 1, "activated": 1}, "2": {"installed": 2, "activated": 1}}
    assert {e["node"] for e in ask(model, "consumption", model="hex8_2p", node="n2")["events"]} == {"n2"}


def test_rollouts_are_those_under_way_unless_ended_ones_are_asked_for(model: ReadModel) -> None:
    assert [x["model"] for x in ask(model, "rollouts")["rollouts"]] == ["hex8_2p"]
    assert {x["model"] for x in ask(model, "rollouts", ended=True)["rollouts"]} == {"hex8_2p", "alone"}
    assert ask(model, "rollouts", model="alone")["rollouts"] == []


def test_statistics_count_every_stage_even_those_where_nothing_is(model: ReadModel) -> None:
    stats = ask(model, "stats")

    assert (stats["models"], stats["versions"], stats["in_production"], stats["frozen"]) == (2, 3, 1, 1)
    assert stats["by_stage"]["production"] == 1
    assert stats["by_stage"]["rejected"] == 0
    assert set(stats["by_stage"]) == {stage.value for stage in StageName}


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("info", {"model": "hex8_2p", "version": "99"}),
        ("compare", {"a": "hex8_2p@1", "b": "hex8_2p@99"}),
        ("history", {"model": "nobody"}),
        ("decision", {"model": "hex8_2p", "n": 99}),
        ("run", {"run_id": "none"}),
    ],
)
def test_what_is_not_there_is_said_not_to_be_there(model: ReadModel, query: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(NothingFound, match="there is no"):
        ask(model, query, **arguments)


@pytest.mark.parametrize("query", sorted(QUERIES))
def test_a_wrong_argument_is_answered_with_those_that_a_query_takes(model: ReadModel, query: str) -> None:
    with pytest.raises(BadQuery, match="it takes") as refused:
        ask(model, query, nonsense=1)
    assert all(name in str(refused.value) for name in QUERIES[query].takes)


def test_an_unknown_query_is_answered_with_all_there_are(model: ReadModel) -> None:
    with pytest.raises(BadQuery) as refused:
        ask(model, "drop_tables")
    assert all(name in str(refused.value) for name in QUERIES)


def test_a_version_is_compared_by_its_whole_name(model: ReadModel) -> None:
    with pytest.raises(BadQuery, match="MODEL@VERSION"):
        ask(model, "compare", a="hex8_2p", b="hex8_2p@2")
