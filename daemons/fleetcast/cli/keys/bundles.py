"""`fleetcast keys init-oms|export-oms`: what others verify with the tools of OpenSSF Model Signing."""

from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, absolute, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.security.told import told
from fleetcast.cli.waiting import split_target
from fleetcast.daemons.distributor.contents import offer_of
from fleetcast.events.content import Content
from fleetcast.events.signing import KeyRing
from fleetcast.registry import Registry
from fleetcast.security import keys
from fleetcast.security.publishers.folder import OMS, OMS_PUBLIC, create_oms, opened, read_oms
from fleetcast.transport import manifest
from fleetcast.transport.errors import BadData
from fleetcast.transport.manifest import Trust
from fleetcast.transport.signing.oms import bundle


def init(call: Call, path: Path, *, dry_run: bool) -> Exit:
    """Make the key that bundles are signed with."""
    with told(), opened(path) as folder:
        if dry_run:
            call.out.document({"key": str(path / OMS), "dry_run": True})
            call.out.text(f"dry run: would make {path / OMS} (0600) and {path / OMS_PUBLIC}")
            return Exit.OK
        create_oms(folder)
    call.out.document({"key": str(path / OMS), "public": str(path / OMS_PUBLIC)})
    call.out.text(
        f"{path / OMS} made: it signs bundles and nothing that nodes look at\n"
        f"{path / OMS_PUBLIC} is for whoever verifies them"
    )
    return Exit.OK


def export(call: Call, path: Path, wanted: str, to: Path, *, dry_run: bool) -> Exit:
    """Write the bundle of one version."""
    model, version = split_target(wanted)
    if version is None:
        raise usage("a bundle is of one version", next_step=f"fleetcast keys export-oms {model}@VERSION FILE")
    file, aim = absolute(to), target(call)
    if file.exists():
        raise Problem("exists", f"{file} is there already", next_step="another FILE, or move it away")
    with told(), opened(path) as folder:
        key = read_oms(folder)
        content = run_async(_content(aim, model, version, folder.ring))
        made = bundle(content, wanted, key)
        if not dry_run:
            _write(file, made)
    body = {"model": model, "version": version, "artifact": content.artifact, "files": len(content.files)}
    call.out.document({**body, "bundle": str(file), "public": str(path / OMS_PUBLIC), "dry_run": dry_run})
    call.out.text(f"{'dry run: would write' if dry_run else 'written:'} {file}, for {_files(content)} of {wanted}")
    if not dry_run:
        call.out.text(
            "who has the files in a folder, and nothing else in it, verifies them:\n"
            f"  model_signing verify key FOLDER --signature {file.name} --public_key {OMS_PUBLIC}"
        )
    return Exit.OK


async def _content(aim: Target, model: str, version: str, ring: KeyRing) -> Content:
    """What the registry says the version is, once its manifest was held against the ring of the folder: nothing is
    vouched for here that nodes would refuse.

    Raises:
        Problem: there is no such version, or its manifest does not count.
    """
    async with connected(aim) as bus:
        state = await Registry(bus).version(model, version)
        if state is None:
            raise not_found(f"no version {version} of {model} is known", next_step=f"fleetcast info {model}")
        try:
            offer = await offer_of(bus, state)
            manifest.check(offer.envelope, offer.content, trust=Trust(aim.settings.signing.unsigned, ring))
        except BadData as refused:
            what = f"{model}@{version} is not vouched for: {refused.reason}"
            raise Problem("manifest", what, next_step=refused.next_step) from refused
    return offer.content


def _write(file: Path, made: str) -> None:
    try:
        keys.write(file, made, mode=keys.PUBLIC)
    except OSError as fault:
        raise Problem("file", f"{file} cannot be written: {fault.strerror}", next_step="another FILE") from fault


def _files(content: Content) -> str:
    return "the file" if len(content.files) == 1 else f"the {len(content.files)} files"
