"""Lanes as people write them: what is wrong is shown with its place and what helps."""

import re
from pathlib import Path

import pytest
from tests.unit.trainer.lanes.builders import CAUSE, START, data, lane

from fleetcast.config.errors import ConfigError
from fleetcast.daemons.trainer.lanes.definition import Bucket, Checkpoints, Export, LaneDefinition, Resources
from fleetcast.daemons.trainer.lanes.loading import Lanes, load_all
from fleetcast.daemons.trainer.lanes.queue import new_run, run_id
from fleetcast.daemons.trainer.lanes.template import filled
from fleetcast.events.ids import is_name
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import WorkClass

GOOD = """
[default]
cwd = "/srv/train"
cpu_fallback = true
[default.bucket]
quiet_seconds = 30
[lane.hex8_2p]
command = ["train", "--data", "{data}"]
[lane.hex8_2p.bucket]
required = 500
[lane.tiny]
command = ["train"]
work_class = "cpu"
model = "other"
retries = { oom = 7 }
"""


def loaded(folder: Path, text: str, name: str = "lanes.toml") -> Lanes:
    (folder / name).write_text(text)
    return load_all(folder / name)


def said(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        loaded(folder, text)
    return str(refused.value)


def test_a_lane_has_what_default_says_table_by_table(tmp_path: Path) -> None:
    lanes = loaded(tmp_path, GOOD)
    hex8, tiny = lanes.find("hex8_2p"), lanes.find("tiny")
    assert hex8 is not None
    assert tiny is not None
    assert (hex8.bucket.required, hex8.bucket.quiet_seconds, hex8.cwd, hex8.model) == (
        500,
        30,
        "/srv/train",
        "hex8_2p",
    )
    assert (tiny.work_class, tiny.model, tiny.gpus, hex8.gpus) == (WorkClass.CPU, "other", 0, 1)
    assert (tiny.retries[FaultClass.OOM], tiny.retries[FaultClass.HARDWARE]) == (7, 3)


def test_a_folder_of_files_is_one_set_of_lanes_and_a_name_is_in_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[lane.a]\ncommand = ["x"]\n')
    (tmp_path / "b.toml").write_text('[lane.b]\ncommand = ["x"]\n')
    assert list(load_all(tmp_path).all) == ["a", "b"]
    (tmp_path / "c.toml").write_text('[lane.a]\ncommand = ["x"]\n')
    with pytest.raises(ConfigError, match="the lane a is in"):
        load_all(tmp_path)


def test_without_a_file_there_is_no_lane() -> None:
    assert load_all(None).all == {}


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ('[lane.a]\ncommand = ["x"]\n[lane.a.bucket]\nrequird = 3\n', ":4:1", "did you mean required?"),
        ('[lane.a]\ncommand = ["x"]\npriority = "high"\n', ":3:12", "should be a valid integer"),
        ("[lane.a]\ncpu_fallback = true\n", ":1:1", "lane.a.command is missing"),
        ('[lane.a]\ncommand = ["x", "{dat}"]\n', ":1:1", "says {dat} in command; known: run, claim"),
        ('[lane.a]\ncommand = ["x"]\nbucket = { cap = 3 }\n', ":3:10", "cap 3 below required 200"),
        ('[lane.a]\ncommand = ["x"]\nretries = { nothing = 2 }\n', ":3:11", "lane.a.retries.nothing"),
        ('[lane.a]\ncommand = ["x"]\nwork_class = "tpu"\n', ":3:14", "'gpu', 'cpu' or 'control'"),
        ('[lane.a]\ncommand = ["x"]\nwork_class = "cpu"\nresources = { gpus = 2 }\n', ":1:1", "its class is gpu"),
        ('[lane."A B"]\ncommand = ["x"]\n', ":1:1", "'A B' names no lane"),
        ('[lanes.a]\ncommand = ["x"]\n', ":1:1", "did you mean [lane]?"),
        ('[default]\npriority = true\n[lane.a]\ncommand = ["x"]\n', ":2:12", "default.priority should be"),
        ('[lane.a]\nname = "b"\ncommand = ["x"]\n', ":2:1", "the name of a lane is that of its table"),
        ('[lane.a]\ncommand = ["x"\n', ":2:15", "unclosed array"),
        (
            '[lane.a]\ncommand = ["x"]\nexport = { command = ["y"], every_seconds = 10 }\n',
            ":3:10",
            "time_limit_seconds above every_seconds",
        ),
        (
            '[lane.a]\ncommand = ["x"]\n[lane.a.export]\ncommand = ["y"]\nfolder = "exports"\n',
            ":5:10",
            "an absolute path is needed",
        ),
        ('[lane.a]\ncommand = ["x", "a\\u0000b"]\n', ":2:11", "lane.a.command"),
        ('[lane.a]\ncommand = ["x"]\nenv = { A = "\\u0000" }\n', ":3:7", "lane.a.env.A"),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_what_helps(tmp_path: Path, text: str, place: str, what: str) -> None:
    message = said(tmp_path, text)
    assert f"lanes.toml{place}: " in message
    assert what in message
    assert "help: " in message


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    message = said(tmp_path, '[lane.a]\ncommand = []\npriority = 5000\n[lane.b]\ncommand = ["x"]\nrrun = 1\n')
    assert message.count("help: ") == 3


def test_what_a_run_keeps_of_its_lane_is_read_by_another_fleetcast() -> None:
    definition = lane(bucket={"required": 7}, checkpoints={"keep_best": {"metric": "loss"}}, retries={"oom": 4})
    kept = definition.kept()
    kept["of_a_newer_one"] = 1
    kept["bucket"]["of_a_newer_one"] = 1
    kept["retries"]["of_a_newer_one"] = 1
    assert LaneDefinition.of(kept) == definition


def test_the_same_lane_data_code_and_command_are_the_same_run() -> None:
    one = data("a", 10)
    assert run_id(lane(), one.artifact) == run_id(lane(priority=9, bucket={"required": 3}), one.artifact)
    others = [
        run_id(lane(code="4f2a"), one.artifact),
        run_id(lane(env={"A": "1"}), one.artifact),
        run_id(lane(command=["train", "--fast"]), one.artifact),
        run_id(lane("other"), one.artifact),
        run_id(lane(), data("b", 10).artifact),
        run_id(lane(), one.artifact, asked_for="01ARZ"),
    ]
    assert len({run_id(lane(), one.artifact), *others}) == 7


def test_the_longest_lane_gives_a_run_that_has_a_name() -> None:
    run = new_run(lane("a" * 48), data("a", 10), START, CAUSE)
    assert is_name(run.run)
    assert LaneDefinition.of(run.definition).name == run.lane


def test_words_of_a_command_stay_words_whatever_is_put_in() -> None:
    words = ("train", "--data={data}", "{{literal}}", "{unknown}")
    assert filled(words, {"data": "/a b/{run}"}) == ("train", "--data=/a b/{run}", "{literal}", "")


COMMITTED = Path(__file__).parents[4] / "config" / "lanes.toml"


def test_the_committed_file_has_the_seeds_lanes_and_changes_no_default() -> None:
    lanes = load_all(COMMITTED)
    assert len(lanes.all) == 8
    hex8 = lanes.find("hex8_2p")
    assert hex8 is not None
    plain = lane(command=list(hex8.command))
    assert hex8 == plain


def test_every_setting_that_the_committed_file_shows_is_one(tmp_path: Path) -> None:
    text = COMMITTED.read_text()
    shown = [re.sub(r"^#(?=[\[a-z_]+)", "", line) if _is_setting(line) else line for line in text.splitlines()]
    lanes = loaded(tmp_path, "\n".join(shown))
    hex8 = lanes.find("hex8_2p")
    assert hex8 is not None
    assert hex8.export is not None
    said = set(re.findall(r"^#?([a-z_]+) = ", text, flags=re.MULTILINE))
    groups = (LaneDefinition, Bucket, Resources, Checkpoints, Export)
    named = {name for group in groups for name in group.model_fields}
    tables = {"name", "bucket", "resources", "checkpoints", "retries", "export"}
    assert named - tables <= said


def _is_setting(line: str) -> bool:
    return re.match(r"#(\[lane|[a-z_]+ = )", line) is not None
