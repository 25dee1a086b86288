"""The commented file says what the settings say."""

import re
import tomllib
from pathlib import Path

from fleetcast.config.loader import load, named_fields
from fleetcast.config.settings import BusSettings, NodeSettings, Settings, StoreSettings
from fleetcast.config.template import render

SHIPPED = Path(__file__).parents[3] / "config" / "fleetcast.toml"


def test_shipped_file_is_what_the_settings_render() -> None:
    assert SHIPPED.read_text() == render(), "run: python -m fleetcast.config.template > config/fleetcast.toml"


def test_untouched_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fleetcast.toml"
    path.write_text(render())

    loaded = load(path, env={})

    assert loaded.settings == Settings()
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}


def test_every_line_that_shows_a_default_is_one() -> None:
    active = re.sub(r"(?m)^#(?=\w+ = )", "", render())

    shown = {f"{table}.{key}": value for table, keys in tomllib.loads(active).items() for key, value in keys.items()}
    assert list(shown) == [name for name, _ in named_fields()]
    examples = {name for name, info in named_fields() if info.default is None}
    defaults = Settings().model_dump(mode="json")
    for name in set(shown) - examples:
        table, key = name.split(".")
        assert shown[name] == defaults[table][key]


def test_chosen_values_are_set_and_read_back_the_same(tmp_path: Path) -> None:
    chosen = Settings(
        node=NodeSettings(id="gpu-1", labels={"gpu": 'nvidia "A"'}),
        bus=BusSettings(
            url="nats://n1,nats://n2", creds=Path("/etc/x.creds"), replicas=3, request_timeout_seconds=1e-3
        ),
        store=StoreSettings(data=Path("/data/ä"), publish_roots=(Path("/m"), Path("/n")), reserve_bytes=0),
    )

    for comments in (True, False):
        path = tmp_path / "fleetcast.toml"
        path.write_text(render(chosen, comments=comments))
        assert load(path, env={}).settings == chosen


def test_without_comments_only_what_was_chosen_remains() -> None:
    assert render(Settings(node=NodeSettings(id="gpu-1")), comments=False) == '[node]\nid = "gpu-1"\n'
    assert render(comments=False) == ""


def test_lines_are_short_enough_to_read() -> None:
    assert max(len(line) for line in render().splitlines()) <= 120
