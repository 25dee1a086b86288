"""Settings are frozen, grouped, and every one of them says what it means."""

import pytest
from pydantic import ValidationError

from fleetcast.config.loader import named_fields
from fleetcast.config.settings import SECRETS, BusSettings, NodeSettings, Settings

ALL = dict(named_fields())


@pytest.mark.parametrize("name", ALL)
def test_setting_says_what_it_means(name: str) -> None:
    description = ALL[name].description

    assert description
    assert description.endswith((".", "}"))
    assert len(description) > 20


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("_seconds")])
def test_setting_in_seconds_says_so(name: str) -> None:
    assert "second" in (ALL[name].description or "").lower()


@pytest.mark.parametrize("name", [name for name, info in ALL.items() if info.default is None])
def test_setting_without_a_default_has_an_example(name: str) -> None:
    assert ALL[name].examples


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().bus.url = "nats://elsewhere"  # type: ignore[misc]


def test_secrets_are_settings_and_stay_out_of_what_is_printed() -> None:
    assert set(ALL) >= SECRETS
    assert "hunter2" not in repr(BusSettings(password="hunter2", token="hunter2"))


@pytest.mark.parametrize("name", ["GPU-1", "a" * 49, "-a", "gpu.1", "a\n", "a/b", "é"])
def test_node_name_that_could_not_be_part_of_a_subject_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        NodeSettings(id=name)
