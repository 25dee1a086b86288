"""Lists of versions: what matches, in which order, page by page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.registry.readmodel import records as r

from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import Facts, StageName
from fleetcast.registry.readmodel import BadQuery, ReadModel, answer, listing
from fleetcast.registry.readmodel.flatten import version_key


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadModel]:
    writer = r.Writer()
    writer.register("hex8_2p", "9", 9, owner="anna", framework="pytorch", tags=("nlp", "weekly"), rating=r.rating(1700))
    writer.register(
        "hex8_2p", "10", 10, owner="anna", framework="onnx", tags=("nlp",), description="Better at Openings"
    )
    writer.register("hex8_4p", "1", 1, owner="ben", team="games", run_id="run-7", rating=r.rating(1500))
    writer.register("square8", "1.9", 19, team="games", rating=r.rating(1600))
    writer.register("square8", "1.10", 20, team="games", model_type="policy")
    said = Facts(owner="ben", team="games", rating=r.rating(1500))
    writer.entry("hex8_4p", "1", 1, stage=StageName.STAGING, since=r.at(500), registered_at=r.at(5), facts=said)
    writer.version("hex8_2p", "d1", 3, Kind.DATASET)
    writer.order("hex8_2p", "9")
    writer.order("hex8_2p", "10", canary="9")
    with r.made_of(tmp_path_factory.mktemp("listing") / "r.sqlite", writer) as made:
        yield made


def found(model: ReadModel, /, **asked: Any) -> list[str]:
    with model.reader() as db:
        return [f"{v['model']}@{v['version']}" for v in answer(db, "versions", asked)["versions"]]


def test_without_a_filter_all_models_come_by_name_each_with_its_highest_version_first(model: ReadModel) -> None:
    assert found(model) == ["hex8_2p@10", "hex8_2p@9", "hex8_4p@1", "square8@1.10", "square8@1.9"]


def test_what_was_taken_back_is_told_from_what_never_served_before_pages_are_cut(tmp_path: Path) -> None:
    writer = r.Writer()
    served = [{"stage": stage, "at": r.at(1)} for stage in ("production", "quarantined")]
    for number in range(1, 7):
        writer.register("m", str(number), number)
        stages = served if number % 3 == 0 else served[1:]
        writer.entry("m", str(number), number, stage=StageName.QUARANTINED, stages=stages)
    with r.made_of(tmp_path / "r.sqlite", writer) as model, model.reader() as db:
        page = answer(db, "versions", {"stage": "quarantined", "served": True, "limit": 2, "count": True})
    assert [each["version"] for each in page["versions"]] == ["6", "3"]
    assert (page["next"], page["total"]) == (None, 2)
    with r.made_of(tmp_path / "other.sqlite", writer) as model:
        assert found(model, served=False) == ["m@5", "m@4", "m@2", "m@1"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"model": "hex8_*"}, ["hex8_2p@10", "hex8_2p@9", "hex8_4p@1"]),
        ({"model": "hex8_2p"}, ["hex8_2p@10", "hex8_2p@9"]),
        ({"model": "*8_[4]p"}, ["hex8_4p@1"]),
        ({"model": "hex8"}, []),
        ({"stage": "staging"}, ["hex8_4p@1"]),
        ({"stage": ["staging", "development"], "model": "hex8_4p"}, ["hex8_4p@1"]),
        ({"tags": ["nlp"]}, ["hex8_2p@10", "hex8_2p@9"]),
        ({"tags": ["nlp", "weekly"]}, ["hex8_2p@9"]),
        ({"tags": ["nlp"], "framework": "onnx"}, ["hex8_2p@10"]),
        ({"owner": "anna", "framework": "pytorch"}, ["hex8_2p@9"]),
        ({"team": "games", "model_type": "policy"}, ["square8@1.10"]),
        ({"text": "OPENINGS better"}, ["hex8_2p@10"]),
        ({"text": "better weekly"}, []),
        ({"artifact": r.content(9).artifact}, ["hex8_2p@9"]),
        ({"artifact": r.content(9).artifact[:20]}, ["hex8_2p@9"]),
        ({"artifact": r.content(9).artifact[:16] + "f" * 48}, []),
        ({"kind": "dataset"}, ["hex8_2p@d1"]),
        ({"origin": "n1", "format": "opaque", "owner": "nobody"}, []),
    ],
)
def test_a_list_holds_what_matches_all_filters(model: ReadModel, asked: dict[str, Any], expected: list[str]) -> None:
    assert found(model, **asked) == expected


def test_a_later_statement_about_a_version_takes_the_earlier_one_out_of_lists(model: ReadModel) -> None:
    assert found(model, run_id="run-7") == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("registered", ["square8@1.10", "square8@1.9", "hex8_4p@1", "hex8_2p@10", "hex8_2p@9"]),
        ("-registered", ["hex8_2p@9", "hex8_2p@10", "hex8_4p@1", "square8@1.9", "square8@1.10"]),
        ("since", ["hex8_4p@1", "square8@1.10", "square8@1.9", "hex8_2p@10", "hex8_2p@9"]),
        ("elo", ["hex8_2p@9", "square8@1.9", "hex8_4p@1"]),
        ("-elo", ["hex8_4p@1", "square8@1.9", "hex8_2p@9"]),
        ("-model", ["square8@1.9", "square8@1.10", "hex8_4p@1", "hex8_2p@9", "hex8_2p@10"]),
    ],
)
def test_a_list_comes_in_the_order_that_was_asked_for(model: ReadModel, order: str, expected: list[str]) -> None:
    assert found(model, order=order) == expected


@given(
    order=st.sampled_from([f"{sign}{name}" for name in ("model", "registered", "since", "elo") for sign in ("", "-")]),
    limit=st.integers(1, 6),
    asked=st.fixed_dictionaries(
        {}, optional={"model": st.just("*8*"), "team": st.just("games"), "tags": st.just(["nlp"]), "text": st.just("8")}
    ),
)
def test_pages_together_are_the_whole_list(model: ReadModel, order: str, limit: int, asked: dict[str, Any]) -> None:
    whole, pages, after = found(model, order=order, **asked), [], None
    with model.reader() as db:
        while True:
            page = answer(db, "versions", {**asked, "order": order, "limit": limit, "after": after, "count": True})
            assert len(page["versions"]) <= limit
            assert page["total"] == len(whole)
            pages += [f"{v['model']}@{v['version']}" for v in page["versions"]]
            after = page["next"]
            if after is None:
                break

    assert pages == whole


def test_a_version_that_appears_between_two_pages_neither_doubles_nor_hides_another(tmp_path: Path) -> None:
    writer = r.Writer()
    for name in ("a", "c", "e"):
        writer.register(name, "1")
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        with model.reader() as db:
            first = answer(db, "versions", {"limit": 2})
        for name in ("b", "d"):
            writer.register(name, "1")
        model.apply("FC_REGISTRY", writer.registry.messages)
        assert [v["model"] for v in first["versions"]] == ["a", "c"]
        assert found(model, after=first["next"]) == ["d@1", "e@1"]


def test_a_list_says_in_which_slots_a_version_is(model: ReadModel) -> None:
    with model.reader() as db:
        shown = answer(db, "versions", {"model": "hex8_2p"})["versions"]

    assert {v["version"]: v["slots"] for v in shown} == {"10": ["production"], "9": ["canary", "previous"]}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"stage": "famous"}, "stage"),
        ({"limit": 0}, "limit"),
        ({"limit": 100_000}, "limit"),
        ({"order": "beauty"}, "order"),
        ({"stag": "staging"}, "stag"),
        ({"after": "rubbish!"}, "take `next`"),
        ({"artifact": "zz"}, "artifact"),
    ],
)
def test_a_question_that_is_none_is_refused_with_what_is_wrong(
    model: ReadModel, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadQuery, match=says):
        found(model, **asked)


def test_a_page_of_one_order_cannot_go_on_in_another(model: ReadModel) -> None:
    with model.reader() as db:
        page = answer(db, "versions", {"order": "since", "limit": 1})

    with pytest.raises(BadQuery, match="belongs to another list"):
        found(model, order="registered", after=page["next"])


@pytest.mark.parametrize("few", [0, 5000])
def test_the_way_into_the_table_changes_nothing_of_what_is_found(
    model: ReadModel, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0 no filter is rare enough to be the way in, and all are read in their order; with 5000 all are."""
    monkeypatch.setattr(listing, "FEW_ROWS", few)

    assert found(model, team="games", stage="development", order="registered") == ["square8@1.10", "square8@1.9"]
    assert found(model, tags=["nlp"], owner="anna", order="-registered") == ["hex8_2p@9", "hex8_2p@10"]


@pytest.mark.parametrize(
    ("version", "greater"),
    [("9", "10"), ("1.9", "1.10"), ("v2", "v10"), ("1", "01a"), ("", "0"), ("a", "b"), ("2", "2a")],
)
def test_versions_are_counted_as_people_count(version: str, greater: str) -> None:
    assert version_key(version) < version_key(greater)
