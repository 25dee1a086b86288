"""Which cloud this machine is asked about, as the settings say."""

from collections.abc import Callable
from datetime import datetime

from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.trainer.spot.aws import BASE as AWS_BASE
from fleetcast.daemons.trainer.spot.aws import Aws
from fleetcast.daemons.trainer.spot.gcp import BASE as GCP_BASE
from fleetcast.daemons.trainer.spot.gcp import Gcp
from fleetcast.daemons.trainer.spot.notices import Adapter


def adapter_of(settings: TrainerSettings, now: Callable[[], datetime]) -> Adapter | None:
    """The metadata service to ask; None: none."""
    match settings.reclaim_notices:
        case "aws":
            return Aws(settings.metadata_address or AWS_BASE, now=now)
        case "gcp":
            base = settings.metadata_address or GCP_BASE
            return Gcp(base, notice_seconds=settings.gcp_notice_seconds, now=now)
        case _:
            return None
