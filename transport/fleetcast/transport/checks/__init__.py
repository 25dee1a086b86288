from pathlib import Path
from fleetcast.events.content import Format
def detect_format(path: Path, *, name: str = "") -> Format:
    return Format.OPAQUE
