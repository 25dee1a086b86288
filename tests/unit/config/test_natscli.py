"""The variables and contexts of the NATS command line are honoured."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleetcast.config.errors import ConfigError
from fleetcast.config.loader import Loaded, load


class NatsHome:
    """The folder where the NATS command line keeps its contexts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "nats"
        (self.folder / "context").mkdir(parents=True)
        self.env = {"XDG_CONFIG_HOME": str(folder)}

    def add(self, name: str, **fields: Any) -> Path:
        path = self.folder / "context" / f"{name}.json"
        path.write_text(json.dumps(fields))
        return path

    def select(self, name: str) -> None:
        (self.folder / "context.txt").write_text(name + "\n")


@pytest.fixture
def home(tmp_path: Path) -> NatsHome:
    return NatsHome(tmp_path / "xdg")


def loaded(env: dict[str, str], file: Path | None = None) -> Loaded:
    return load(file, env=env, searched=())


def test_usual_variables_are_honoured() -> None:
    env = {
        "NATS_URL": "nats://n1:4222",
        "NATS_CREDS": "/c",
        "NATS_NKEY": "/n",
        "NATS_USER": "u",
        "NATS_PASSWORD": "p",
        "NATS_TOKEN": "t",
        "NATS_CERT": "/cert",
        "NATS_KEY": "/key",
        "NATS_CA": "/ca",
        "NATS_TIMEOUT": "1m30s",
    }

    found = loaded(env)

    bus = found.settings.bus
    assert (bus.url, bus.creds, bus.nkey, bus.user, bus.password, bus.token) == (
        "nats://n1:4222",
        Path("/c"),
        Path("/n"),
        "u",
        "p",
        "t",
    )
    assert (bus.cert, bus.key, bus.ca, bus.request_timeout_seconds) == (Path("/cert"), Path("/key"), Path("/ca"), 90)
    assert str(found.origins["bus.request_timeout_seconds"]) == "NATS_TIMEOUT"


def test_user_without_password_is_a_token() -> None:
    found = loaded({"NATS_USER": "secret"})

    assert (found.settings.bus.user, found.settings.bus.token) == (None, "secret")
    assert str(found.origins["bus.token"]) == "NATS_USER"


def test_our_own_variable_wins_over_that_of_nats() -> None:
    found = loaded({"NATS_URL": "nats://theirs", "FLEETCAST_BUS_URL": "nats://ours"})

    assert found.settings.bus.url == "nats://ours"


def test_empty_variable_says_nothing() -> None:
    assert loaded({"NATS_URL": "", "NATS_CREDS": ""}).settings.bus.url == "nats://127.0.0.1:4222"


def test_duration_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"NATS_TIMEOUT: 'soon' is no duration"):
        loaded({"NATS_TIMEOUT": "soon"})


def test_selected_context_is_used_when_nothing_else_names_a_server(home: NatsHome) -> None:
    path = home.add("lab", url="nats://lab", creds="~/lab.creds", description="x", token="")
    home.select("lab")

    found = loaded(home.env)

    assert found.settings.bus.url == "nats://lab"
    assert found.settings.bus.creds == Path.home() / "lab.creds"
    assert str(found.origins["bus.url"]) == f"nats context lab ({path})"
    assert found.origins["bus.token"].kind == "default"


def test_credentials_of_the_selected_context_are_not_sent_to_a_server_named_elsewhere(
    home: NatsHome, tmp_path: Path
) -> None:
    home.add("lab", url="nats://lab", user="u", password="p")
    home.select("lab")
    file = tmp_path / "fleetcast.toml"
    file.write_text('[bus]\nurl = "nats://other"\n')

    for found in (loaded(home.env, file), loaded({**home.env, "NATS_URL": "nats://other"})):
        assert (found.settings.bus.url, found.settings.bus.user) == ("nats://other", None)


def test_named_context_wins_over_the_file_and_over_the_selected_one(home: NatsHome, tmp_path: Path) -> None:
    home.add("lab", url="nats://lab")
    home.add("prod", url="nats://prod")
    home.select("lab")
    file = tmp_path / "fleetcast.toml"
    file.write_text('[bus]\nurl = "nats://file"\n')

    assert loaded({**home.env, "NATS_CONTEXT": "prod"}, file).settings.bus.url == "nats://prod"


def test_variables_win_over_the_named_context(home: NatsHome) -> None:
    home.add("prod", url="nats://prod", user="u", password="p")

    found = loaded({**home.env, "NATS_CONTEXT": "prod", "NATS_URL": "nats://tunnel"})

    assert (found.settings.bus.url, found.settings.bus.user) == ("nats://tunnel", "u")


def test_unknown_context_is_refused_with_the_closest_one(home: NatsHome) -> None:
    home.add("prod", url="nats://prod")

    with pytest.raises(ConfigError, match=r"there is no context 'prd'.*did you mean prod\?"):
        loaded({**home.env, "NATS_CONTEXT": "prd"})


@pytest.mark.parametrize("name", ["../../secret", "a/b"])
def test_context_name_cannot_climb_out_of_its_folder(home: NatsHome, name: str) -> None:
    (home.folder / "secret.json").write_text('{"url": "nats://x"}')
    home.select(name)

    assert loaded(home.env).settings.bus.url == "nats://127.0.0.1:4222"
    with pytest.raises(ConfigError, match="there is no context"):
        loaded({**home.env, "NATS_CONTEXT": name})


def test_named_context_that_is_no_json_is_refused_at_its_place(home: NatsHome) -> None:
    path = home.add("lab")
    path.write_text('{"url":\n  nats}')

    with pytest.raises(ConfigError) as caught:
        loaded({**home.env, "NATS_CONTEXT": "lab"})

    assert str(caught.value).startswith(f"{path}:2:3: ")


def test_selected_context_that_cannot_be_used_is_left_to_the_program_it_is_for(home: NatsHome) -> None:
    home.add("nsc", url="nats://x", nsc="nsc://o/a/u")
    home.select("nsc")
    assert loaded(home.env).settings.bus.url == "nats://127.0.0.1:4222"

    home.add("nsc").write_text("{")
    assert loaded(home.env).settings.bus.url == "nats://127.0.0.1:4222"

    with pytest.raises(ConfigError):
        loaded({**home.env, "NATS_CONTEXT": "nsc"})


def test_named_context_that_needs_more_than_we_know_is_refused(home: NatsHome) -> None:
    home.add("domain", url="nats://x", jetstream_domain="hub")

    with pytest.raises(ConfigError, match="uses jetstream_domain"):
        loaded({**home.env, "NATS_CONTEXT": "domain"})
