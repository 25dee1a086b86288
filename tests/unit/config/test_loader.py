"""File, environment, flags: who wins, where each value came from, and what a mistake looks like."""

from pathlib import Path

import pytest

from fleetcast.config.errors import ConfigError
from fleetcast.config.loader import HIDDEN, Loaded, load, variable
from fleetcast.config.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleetcast.toml"


def loaded(file: Path | None = None, **env: str) -> Loaded:
    return load(file, env=env, searched=())


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        loaded(file)
    return str(caught.value).replace(str(file), "FILE")


def test_nothing_said_means_defaults() -> None:
    found = loaded()

    assert found.settings == Settings()
    assert found.file is None
    assert {str(origin) for origin in found.origins.values()} == {"default"}


def test_flag_wins_over_variable_and_variable_over_file(file: Path) -> None:
    file.write_text('[node]\nid = "file"\n[http]\nport = 1\n[bittorrent]\nport = 2\n')

    found = load(
        file,
        env={"FLEETCAST_NODE_ID": "variable", "FLEETCAST_HTTP_PORT": "11"},
        flags={"node.id": "flag", "log.level": None},
    )

    assert (found.settings.node.id, found.settings.http.port, found.settings.bittorrent.port) == ("flag", 11, 2)
    shown = {name: str(found.origins[name]) for name in ("node.id", "http.port", "bittorrent.port", "log.level")}
    assert shown == {
        "node.id": "flag node.id",
        "http.port": "FLEETCAST_HTTP_PORT",
        "bittorrent.port": f"{file}:6",
        "log.level": "default",
    }


def test_variables_name_section_and_field_and_take_lists_and_tables() -> None:
    found = loaded(
        FLEETCAST_NODE_MODELS="hex8_*, fraud",
        FLEETCAST_NODE_LABELS="gpu=nvidia,zone = a",
        FLEETCAST_STORE_PUBLISH_ROOTS="/a,/b",
        FLEETCAST_BITTORRENT_ENABLED="false",
        FLEETCAST_STORE_RESERVE_BYTES="5",
        FLEETCAST_BUS_CREDS="",
        FLEETCAST_MODE="offline",
    )

    settings = found.settings
    assert settings.node.models == ("hex8_*", "fraud")
    assert settings.node.labels == {"gpu": "nvidia", "zone": "a"}
    assert settings.store.publish_roots == (Path("/a"), Path("/b"))
    assert not settings.bittorrent.enabled
    assert settings.store.reserve_bytes == 5
    assert settings.bus.creds is None
    assert variable("store.reserve_bytes") == "FLEETCAST_STORE_RESERVE_BYTES"


def test_relative_paths_in_a_file_start_at_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[store]\ndata = "data"\npublish_roots = ["models", "/abs", "~/m"]\n')
    monkeypatch.chdir("/")

    found = loaded(file, FLEETCAST_BUS_CA="ca.pem")

    assert found.settings.store.data == tmp_path / "data"
    assert found.settings.store.publish_roots == (tmp_path / "models", Path("/abs"), Path.home() / "m")
    assert found.settings.bus.ca == Path("/ca.pem")


def test_file_is_searched_in_its_usual_places(tmp_path: Path) -> None:
    here, there, asked = (tmp_path / name for name in ("here.toml", "there.toml", "asked.toml"))
    there.write_text('[node]\nid = "there"\n')
    asked.write_text('[node]\nid = "asked"\n')

    assert load(env={}, searched=(here, there)).settings.node.id == "there"
    here.write_text('[node]\nid = "here"\n')
    assert load(env={}, searched=(here, there)).settings.node.id == "here"
    assert load(env={"FLEETCAST_CONFIG": str(asked)}, searched=(here, there)).settings.node.id == "asked"
    assert load(there, env={"FLEETCAST_CONFIG": str(asked)}, searched=(here,)).settings.node.id == "there"


def test_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file") as caught:
        loaded(FLEETCAST_CONFIG=str(tmp_path / "nowhere.toml"))

    assert "fleetcast init" in caught.value.next_step


def test_unknown_key_is_shown_with_a_caret_and_the_key_that_was_meant(file: Path) -> None:
    assert refusal(file, '[store]\ndata = "/d"\n\tpublish_rots = ["/m"]\n') == (
        "FILE:3:2: unknown key 'publish_rots' in [store]\n"
        '    3 | \tpublish_rots = ["/m"]\n'
        "      | \t^^^^^^^^^^^^\n"
        "  help: did you mean publish_roots?"
    )


def test_value_that_is_wrong_is_shown_with_a_caret_and_what_the_setting_means(file: Path) -> None:
    shown = refusal(file, "[bus]\nreplicas = 9 # many\n")

    assert shown.splitlines()[:3] == [
        "FILE:2:12: bus.replicas should be less than or equal to 5",
        "    2 | replicas = 9 # many",
        "      |            ^",
    ]
    assert "Copies of every stream" in shown


@pytest.mark.parametrize(
    ("text", "first", "hint"),
    [
        ("[buss]\n", "FILE:1:1: unknown table [buss]", "did you mean [bus]?"),
        ("[http]\nprot = 1\n", "FILE:2:1: unknown key 'prot' in [http]", "did you mean port?"),
        ("[node]\nport = 1\n", "FILE:2:1: unknown key 'port' in [node]", "port in [bittorrent] or port in [http]"),
        ('url = "x"\n', "FILE:1:1: unknown key 'url' outside of any table", "url in [bus]"),
        ("bus = 1\n", "FILE:1:1: bus is a table", "write [bus] above its keys"),
        ("[bus]\nreplicas = true\n", "FILE:2:12: bus.replicas should not be true or false", "Copies"),
        ("[node]\nlabels.gpu = 3\n", "FILE:2:14: node.labels should be a valid string", "Facts"),
        ('[log]\nlevel = "loud"\n', "FILE:2:9: log.level should be 'debug', 'info', 'warning' or 'error'", "Least"),
        ("[[bus]]\nurl = 'x'\n", "FILE:1:1: bus is a table", "write [bus]"),
    ],
)
def test_mistake_names_its_place_and_what_helps(file: Path, text: str, first: str, hint: str) -> None:
    shown = refusal(file, text)

    assert shown.splitlines()[0] == first
    assert hint in shown.splitlines()[-1]


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    file.write_text("[bus]\nreplicas = 9\nurll = 1\n")

    with pytest.raises(ConfigError) as caught:
        load(file, env={"FLEETCAST_HTTP_PRT": "1", "FLEETCAST_HTTP_PORT": "x"}, flags={"bus.ur": "x"})

    assert [mistake.where.replace(str(file), "FILE") for mistake in caught.value.mistakes] == [
        "FILE:3:1",
        "FLEETCAST_HTTP_PRT",
        "bus.ur",
        "FILE:2:12",
        "FLEETCAST_HTTP_PORT",
    ]


def test_wrong_variable_is_named_with_its_value_unless_that_is_secret() -> None:
    with pytest.raises(ConfigError, match=r"^FLEETCAST_HTTP_PORT: http\.port .*, not '77777'"):
        loaded(FLEETCAST_HTTP_PORT="77777")
    with pytest.raises(ConfigError) as caught:
        load(env={}, flags={"bus.password": 12345}, searched=())
    assert "12345" not in str(caught.value)


def test_secrets_are_hidden_where_settings_are_shown() -> None:
    rows = {row.name: row for row in loaded(FLEETCAST_BUS_PASSWORD="hunter2").rows()}

    assert rows["bus.password"].value == HIDDEN
    assert rows["bus.token"].value is None
    assert str(rows["bus.password"].origin) == "FLEETCAST_BUS_PASSWORD"


def test_mistake_in_a_row_of_an_array_of_tables_is_shown_in_its_own_line(tmp_path: Path) -> None:
    windows = '[[limits.windows]]\nfrom = "{}"\nto = "06:00"\nupload_bytes_per_second = 0\n'
    path = tmp_path / "fleetcast.toml"
    path.write_text(windows.format("22:00") + windows.format("7:00"))

    with pytest.raises(ConfigError) as refused:
        load(path, env={})

    assert f"{path}:6:" in str(refused.value)
    assert "limits.windows.1.from '7:00' is not a time of day" in str(refused.value)
