"""Files to test, written by the field's own libraries, and a short way to test them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetcast.config.settings import VerifySettings
from fleetcast.events.content import Format
from fleetcast.transport.checks import FormatReport, check_format, detect_format


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., FormatReport]:
    def run(file: Path | bytes, format: Format | None = None, **more: Any) -> FormatReport:  # noqa: A002
        if isinstance(file, bytes):
            (tmp_path / "file").write_bytes(file)
            file = tmp_path / "file"
        whole = more.pop("whole", False)
        return asyncio.run(check_format(file, format or detect_format(file), VerifySettings(**more), whole=whole))

    return run
