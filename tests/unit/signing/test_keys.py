"""Private keys: their files, and what a signature by them says."""

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.signing import pre_authentication
from fleetcast.security import keys
from fleetcast.transport.errors import KeyUnusable
from fleetcast.transport.signing.keys import SigningKey, holds, read_key

KEY = SigningKey.new()


def test_a_key_read_from_its_file_signs_as_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.write_new(path, KEY.pem)

    read = read_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert (read.id, read.public) == (KEY.id, KEY.public)
    assert holds(read.seal("t", b"payload"), KEY.public, "t", b"payload")


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.write_new(path, KEY.pem)
    with pytest.raises(FileExistsError):
        keys.write_new(path, SigningKey.new().pem)
    assert read_key(path).id == KEY.id


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        keys.write_new(tmp_path / "a.key", KEY.pem)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    keys.write_new(path, KEY.pem)
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"can be read by others \\(mode {mode:04o}\\)") as refused:
        read_key(path)
    assert refused.value.next_step == f"chmod 600 {path}"


def test_a_key_that_the_service_manager_passes_on_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "publisher.key"
    keys.write_new(path, KEY.pem)
    path.chmod(0o440)  # its access list for the daemon's user shows as bits of the group
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key(path).id == KEY.id
    path.chmod(0o444)
    with pytest.raises(KeyUnusable, match="can be read by others"):
        read_key(path)


def test_a_half_written_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.write_new(path, KEY.pem)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        os.truncate(path, 0)
        path.write_bytes(whole[:length])
        with pytest.raises(KeyUnusable, match="no private key in PEM"):
            read_key(path)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p256.key"
    other = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(mode=0o600)
    path.write_bytes(other.private_bytes(*form))
    with pytest.raises(KeyUnusable, match="no ed25519 key"):
        read_key(path)
    with pytest.raises(KeyUnusable, match="cannot be read"):
        read_key(tmp_path / "none.key")


@given(st.binary(max_size=200), st.integers(min_value=0))
def test_no_flipped_bit_of_payload_or_signature_holds(payload: bytes, place: int) -> None:
    seal = KEY.seal("t", payload)
    made = bytearray(base64.b64decode(seal.sig))
    made[place % len(made)] ^= 1 << (place % 8)
    forged = seal.model_copy(update={"sig": base64.b64encode(made).decode()})

    assert holds(seal, KEY.public, "t", payload)
    assert not holds(forged, KEY.public, "t", payload)
    assert not holds(seal, KEY.public, "t", payload + b"x")
    assert not holds(seal, KEY.public, "u", payload)
    assert not holds(seal, SigningKey.new().public, "t", payload)


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_no_two_documents_have_the_same_signed_bytes(kind: str, payload: bytes, other: str, rest: bytes) -> None:
    same = (kind, payload) == (other, rest)
    assert (pre_authentication(kind, payload) == pre_authentication(other, rest)) is same
