"""`python -m fleetcast.daemons.gateway.export docs` writes the OpenAPI document into a folder."""

import json
import sys
from pathlib import Path

from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway.app import description, make_app

NAME = "openapi.json"


def rendered() -> str:
    """The document, as it is kept in docs/."""
    return json.dumps(description(make_app(GatewaySettings())), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1], NAME).write_text(rendered(), encoding="utf-8")
