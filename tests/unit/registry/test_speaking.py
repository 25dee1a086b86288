"""In whose name a program speaks, by what the trainer gave to it."""

import pytest

from fleetcast.registry.speaking import Speaker, claim_for, speaker

JOB = {"FLEETCAST_RUN_ID": "hex8-1", "FLEETCAST_CLAIM": "2"}


def test_a_job_of_a_lane_speaks_for_its_run_under_its_claim() -> None:
    assert speaker(JOB) == Speaker("hex8-1", 2)


@pytest.mark.parametrize("environ", [{}, {"FLEETCAST_RUN_ID": "My Run/7"}, {"FLEETCAST_CLAIM": "2"}])
def test_a_program_outside_lanes_speaks_for_no_run(environ: dict[str, str]) -> None:
    assert speaker(environ) is None
    assert claim_for("run-7", speaker(environ)) == ("run-7", None)
    assert claim_for(None, speaker(environ)) == (None, None)


def test_the_claim_is_said_of_the_own_run_and_of_no_other() -> None:
    own = speaker(JOB)
    assert claim_for(None, own) == claim_for("hex8-1", own) == ("hex8-1", 2)
    assert claim_for("hex8-9", own) == ("hex8-9", None)
