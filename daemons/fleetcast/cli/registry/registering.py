"""`fleetcast register`: a file becomes a version; or what is known of all versions is written to a file, or read."""

from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit, usage


def run(
    call: Call,
    model: str,
    version: str | None,
    file: Path | None,
    *,
    node: str | None,
    reason: str | None,
    wait: bool,
    timeout: str,
    dry_run: bool,
) -> Exit:
    """Register a file; without one, *model* is the word `export` or `import`, and *version* its file."""
    if version is not None and file is not None:
        from fleetcast.cli.submit import register

        return register(
            call, model, version, file, node=node, reason=reason, wait=wait, timeout=timeout, dry_run=dry_run
        )
    if file is None and model == "export":
        from fleetcast.cli.registry.papers import export

        return export(call, Path(version) if version else None)
    if file is None and model == "import" and version is not None:
        from fleetcast.cli.registry.papers import import_

        return import_(call, Path(version), reason=reason, dry_run=dry_run)
    raise usage(
        "a model, its version and its file are needed",
        next_step="fleetcast register MODEL VERSION FILE, register export [FILE], or register import FILE",
    )
