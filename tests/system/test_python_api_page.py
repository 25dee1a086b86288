"""docs/python-api.md: everything that people copy from it runs."""

import re
from pathlib import Path

import pytest
from tests.integration.registry.small_fleet import GATES, small_fleet

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_example_of_the_page_runs_in_its_order(tmp_path: Path) -> None:
    assert len(EXAMPLES) >= 8
    with small_fleet(tmp_path / "page", gates=GATES) as fleet:
        fleet.start(fleet.keeper)
        fleet.publish("models/fraud_detector.pkl", {"weights": [1.0]})
        done = fleet.python("\n".join(EXAMPLES))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "# Fraud Detector" in done.stdout
        assert "version.reserved /fleet/node-1/python" in done.stdout
        assert fleet.registry().get_model("fraud_detector").deploy_status == "production"


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([A-Z]\w+(?:Refused|Failed|Found|Version|Conflict|Keeper))`", PAGE.read_text())))
)
def test_every_error_that_the_page_names_is_there(name: str) -> None:
    import fleetcast.registry

    assert issubclass(getattr(fleetcast.registry, name), Exception)
