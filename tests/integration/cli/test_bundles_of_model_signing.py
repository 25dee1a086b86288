"""Bundles of OpenSSF Model Signing: what is exported here, its own tool verifies, and nothing else."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from tests.integration.cli.stand import Ended, Stand, called_here, standing

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.signing import MANIFEST_TYPE
from fleetcast.events.state import Cause, VersionState
from fleetcast.registry import Registry
from fleetcast.transport.manifest import signed_bytes, state, with_signature
from fleetcast.transport.signing.keys import SigningKey, read_key
from fleetcast.transport.signing.oms import BundleKey, bundle


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FILES = {"config.json": b"{}", "model.bin": b"weights", "tok-b/c.txt": b"c", "tok/a.txt": b"a"}
CONTENT = Content(
    kind=Kind.BUNDLE,
    format=Format.MIXED,
    files=tuple(
        ContentFile(path=path, size=len(data), sha256=sha256(data), pieces_root="0" * 64)
        for path, data in FILES.items()
    ),
)
Keys = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a version, as a node has them."""
    place = tmp_path / "hex8" / "42"
    for path, data in FILES.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    return place


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path) as found:
        yield found


@pytest.fixture
def keys(stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Keys:
    def call(*words: str) -> Ended:
        return called_here(stand.home, stand.url, ["keys", *words, "--json"], monkeypatch, capsys)

    return call


def verify(folder: Path, signature: Path, public: Path) -> tuple[bool, str]:
    """What the tool of Model Signing says, typed as the export prints it."""
    tool = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    done = subprocess.run(
        [*tool, "--signature", str(signature), "--public_key", str(public)], capture_output=True, text=True, timeout=120
    )
    return done.returncode == 0, done.stdout + done.stderr


def wrong(folder: Path, signature: Path, public: Path) -> str:
    """The same, in this process: what it finds wrong."""
    from model_signing import verifying  # only here: it takes a second

    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=public).verify(folder, signature)
    except InvalidSignature:
        return "InvalidSignature"
    except ValueError as refused:
        return str(refused)
    return ""


async def reserve(stand: Stand, version: str, key: SigningKey | None) -> None:
    """A version of hex8, signed by a publisher or not."""
    envelope, at = state(CONTENT, "hex8", version), datetime.now(UTC).isoformat()
    if key is not None:
        envelope = with_signature(envelope, key.seal(MANIFEST_TYPE, signed_bytes(envelope.statement, at)), at)
    known = VersionState(
        model="hex8",
        version=version,
        artifact=CONTENT.artifact,
        content=CONTENT,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"e{version}", sequence=int(version), by="/test", correlation="c"),
        at=at,
        envelope=envelope if key is not None else None,
    )
    await Registry(stand.bus).reserve_version(known, request=f"reserve/{version}", actor="/test")


def test_a_version_that_a_publisher_signed_is_exported_and_its_bundle_verifies(
    stand: Stand, keys: Keys, folder: Path
) -> None:
    root = str(keys("init").document["root_key"])
    (stand.home / "fleetcast.toml").write_text(f'[signing]\nroot_keys = ["{root}"]\nunsigned = "refuse"\n')
    assert keys("add", "team-a").document["published"]
    stand.do(reserve(stand, "42", read_key(stand.home / "fleet-keys/team-a.key")))
    stand.do(reserve(stand, "43", None))

    early = keys("export-oms", "hex8@42", "hex8.sig")
    assert (early.code, early.document["error"]["next"]) == (1, "fleetcast keys init-oms --folder fleet-keys")
    assert keys("init-oms").code == 0
    assert (stand.home / "fleet-keys/oms.key").stat().st_mode & 0o777 == 0o600
    assert keys("init-oms").document["error"]["code"] == "exists"

    assert keys("export-oms", "hex8@42", "hex8.sig", "--dry-run").code == 0
    assert not (stand.home / "hex8.sig").exists()
    assert keys("export-oms", "hex8@42", "hex8.sig").document["files"] == 4
    verified = verify(folder, stand.home / "hex8.sig", stand.home / "fleet-keys/oms.pub")
    assert verified[0], verified[1]

    for words, code, said in (
        (("hex8@42", "hex8.sig"), 1, "is there already"),
        (("hex8@43", "43.sig"), 1, "is not signed"),
        (("hex8@44", "44.sig"), 3, "no version 44 of hex8"),
        (("hex8", "all.sig"), 2, "of one version"),
    ):
        refused = keys("export-oms", *words)
        assert (refused.code, said in refused.document["error"]["message"]) == (code, True), refused.out
    assert keys("revoke", "team-a", "--reason", "laptop lost").code == 0
    assert "was revoked" in keys("export-oms", "hex8@42", "late.sig").document["error"]["message"]
    assert not list(stand.home.glob("4*.sig"))
    assert not (stand.home / "late.sig").exists()


def flipped(folder: Path, signature: Path) -> None:
    (folder / "model.bin").write_bytes(b"weighus")


def longer(folder: Path, signature: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")


def shorter(folder: Path, signature: Path) -> None:
    (folder / "tok/a.txt").unlink()


def forged(folder: Path, signature: Path) -> None:
    """The digest of another file in the list, under the signature of the true one."""
    (folder / "model.bin").write_bytes(b"weighus")
    made = json.loads(signature.read_text())
    payload = base64.b64decode(made["dsseEnvelope"]["payload"])
    other = payload.replace(sha256(b"weights").encode(), sha256(b"weighus").encode())
    assert other != payload
    made["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()
    signature.write_text(json.dumps(made))


def intact(folder: Path, signature: Path) -> None:
    """Nothing is done to it."""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (intact, ""),
        (flipped, "Hash mismatch for 'model.bin'"),
        (longer, "Extra files found"),
        (shorter, "Missing files"),
        (forged, "InvalidSignature"),
    ],
)
def test_a_bundle_holds_for_these_very_files_only(
    damage: Callable[[Path, Path], None], said: str, folder: Path, tmp_path: Path
) -> None:
    key = BundleKey.new()
    signature, public = tmp_path / "hex8.sig", tmp_path / "oms.pub"
    signature.write_text(bundle(CONTENT, "hex8@42", key))
    public.write_text(key.public_pem)
    damage(folder, signature)
    found = wrong(folder, signature, public)
    assert said in found
    assert bool(found) is (damage is not intact)


def test_a_bundle_is_no_other_keys(folder: Path, tmp_path: Path) -> None:
    signature, public = tmp_path / "hex8.sig", tmp_path / "oms.pub"
    signature.write_text(bundle(CONTENT, "hex8@42", BundleKey.new()))
    public.write_text(BundleKey.new().public_pem)
    assert "Key mismatch" in wrong(folder, signature, public)
