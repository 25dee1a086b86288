"""Commands of fleetcast whose traces go to a collector."""

import subprocess
import sys
from pathlib import Path

from fleetcast.config.settings import Settings, TracingSettings

SECONDS = 60.0


def fleetcast(*arguments: str, config: Path, program: str = "") -> "subprocess.CompletedProcess[str]":
    """A command of fleetcast, run as a person would."""
    start = ["-c", program] if program else ["-m", "fleetcast"]
    command = [sys.executable, *start, *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def traced_by(url: str, settings: Settings) -> Settings:
    return settings.model_copy(update={"tracing": TracingSettings(endpoint=url)})
