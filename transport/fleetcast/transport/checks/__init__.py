"""Format tests: does a file load, and can loading it do harm? The file is looked at in a child process that is bounded
in memory and time and has no network (ADR 0008); integrity is the business of digests, not of these tests.

The child imports this package too and has to start fast, so only the standard library is imported here, and what needs
more is imported where it is called.
"""

from typing import TYPE_CHECKING

from fleetcast.transport.checks.report import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.config.settings import VerifySettings
    from fleetcast.events.content import Format
    from fleetcast.transport.checks.outcome import FormatReport

__all__ = ["FormatReport", "Verdict", "check_format", "detect_format", "has_telling_name"]


def __getattr__(name: str) -> object:
    """`FormatReport`, which the child does not need (PEP 562)."""
    if name != "FormatReport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fleetcast.transport.checks.outcome import FormatReport

    return FormatReport


def detect_format(path: "Path", *, name: str = "") -> "Format":
    """How the file at *path* is to be tested, by its suffix and first bytes.

    Args:
        name: the file's own name, where *path* is a blob.

    Raises:
        OSError: it cannot be read.
    """
    from fleetcast.transport.checks.detect import detect

    return detect(path, name or path.name)


def has_telling_name(name: str) -> bool:
    """Whether the format of a file follows from its name alone."""
    from fleetcast.transport.checks.detect import is_telling

    return is_telling(name)


async def check_format(
    path: "str | Path",
    format: "Format",  # noqa: A002 - the word of the glossary
    settings: "VerifySettings",
    *,
    whole: bool = False,
    nice: int = 0,
) -> "FormatReport":
    """Test whether a file loads, without running anything that is in it.

    Args:
        path: a file on this node; symbolic links are refused.
        whole: also read every member of an archive and compare its CRC, as an origin does: there the bytes have no
            digest from elsewhere yet.
        nice: niceness of the test's process; 0: that of this one.

    Returns:
        Always a report: a file that exceeds memory or time, or makes the test fail in any other way, is refused.

    Raises:
        StoreError: the file cannot be opened, or the child process not be started.
    """
    from pathlib import Path

    from fleetcast.transport.checks.parent import check

    return await check(Path(path), format, settings, whole=whole, nice=nice)
