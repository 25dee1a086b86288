"""Who may ask, and where a gateway may listen."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway.access import (
    AccessRefused,
    Role,
    Token,
    Tokens,
    bearer,
    caller_of,
    check_listening,
    digest,
    foreign,
    is_loopback,
    new_token,
)
from fleetcast.daemons.gateway.tokens import TokenBook, TokenFileWrong, read, with_token, without_token, write


def token(name: str = "ada", role: Role = Role.VIEWER, secret: str = "s") -> Token:
    at = "2026-01-01T00:00:00.000Z"
    return Token(name=name, role=role, sha256=digest(secret), created_at=at, created_by="test")


def test_each_role_may_do_what_those_before_it_may() -> None:
    allowed = {(mine.value, needed.value) for mine in Role for needed in Role if mine.may(needed)}
    assert allowed == {
        ("viewer", "viewer"),
        ("operator", "viewer"),
        ("operator", "operator"),
        ("promoter", "viewer"),
        ("promoter", "operator"),
        ("promoter", "promoter"),
    }


def test_tokens_cannot_be_guessed_and_only_their_hashes_are_kept() -> None:
    made = {new_token() for _ in range(50)}
    assert len(made) == 50
    assert all(len(each) > 40 and each.startswith("fcg_") for each in made)
    secret = made.pop()
    kept = token(secret=secret)
    assert secret not in kept.model_dump_json()
    found = caller_of(secret, [token("other", secret="x"), kept])
    assert found is not None
    assert found.name == "ada"
    assert caller_of(secret[:-1], [kept]) is None


@given(st.text())
def test_no_header_lets_anybody_in_who_has_no_token(header: str) -> None:
    found = bearer(header)
    assert found is None or caller_of(found, [token(secret=new_token())]) is None


@pytest.mark.parametrize(
    ("header", "found"), [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer", None)]
)
def test_a_bearer_header_is_read(header: str, found: str | None) -> None:
    assert bearer(header) == found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_tokens_and_no_certificate(host: str) -> None:
    assert is_loopback(host)
    check_listening(GatewaySettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.evil.example"])
def test_anything_else_needs_both(host: str) -> None:
    secrets = {"certificate": Path("/c"), "key": Path("/k")}
    with pytest.raises(AccessRefused, match="token"):
        check_listening(GatewaySettings(host=host, **secrets))
    with pytest.raises(AccessRefused, match="plain"):
        check_listening(GatewaySettings(host=host, tokens=Path("/t")))
    check_listening(GatewaySettings(host=host, tokens=Path("/t"), **secrets))


def test_a_certificate_without_its_key_is_half() -> None:
    with pytest.raises(AccessRefused, match=r"gateway\.key"):
        check_listening(GatewaySettings(certificate=Path("/c")))


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("localhost:8000", None, None),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "same-origin"),
        ("[::1]:8000", None, "none"),
    ],
)
def test_programs_and_pages_of_the_gateway_are_answered(host: str, origin: str | None, site: str | None) -> None:
    assert foreign(host, origin, site) is None


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        (None, None, None),
        ("evil.example", None, None),
        ("localhost.evil.example:8000", None, None),
        ("localhost:8000", "https://evil.example", None),
        ("localhost:8000", "null", None),
        ("localhost:8000", "http://localhost:9999", None),
        ("localhost:8000", None, "cross-site"),
        ("localhost:8000", None, "same-site"),
    ],
)
def test_pages_of_others_are_not(host: str | None, origin: str | None, site: str | None) -> None:
    assert foreign(host, origin, site) is not None


# -- the file


def test_a_token_file_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "below" / "tokens.json"
    write(path, with_token(Tokens(), token()))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read(path).tokens == (token(),)
    write(path, without_token(read(path), "ada"))
    assert read(path).tokens == ()
    assert [each.name for each in path.parent.iterdir()] == ["tokens.json"]


def test_a_name_is_taken_once_and_only_what_is_there_can_be_revoked() -> None:
    with pytest.raises(ValueError, match="already"):
        with_token(Tokens(tokens=(token(),)), token(role=Role.PROMOTER))
    with pytest.raises(LookupError):
        without_token(Tokens(), "ada")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o777])
def test_a_token_file_that_others_can_read_or_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens.json"
    write(path, Tokens())
    path.chmod(mode)
    with pytest.raises(TokenFileWrong, match="mode"):
        read(path)


def test_what_the_service_manager_passes_on_may_show_bits_of_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    write(path, Tokens())
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read(path) == Tokens()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tokens": [{"name": "a"}]}', '{"tokens": "all"}'])
def test_a_token_file_that_is_not_whole_lets_nobody_in(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    write(path, with_token(Tokens(), token(secret="s")))
    book = TokenBook(path)
    book.refresh()
    assert book.caller("s") is not None
    path.write_text(text)
    with pytest.raises(TokenFileWrong, match="not whole"):
        book.refresh()
    assert book.caller("s") is None


def test_a_revoked_token_is_forgotten_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write(path, with_token(Tokens(), token(secret="s")))
    book = TokenBook(path)
    book.refresh()
    write(path, Tokens())
    book.refresh()
    assert (book.caller("s"), book.count) == (None, 0)
    path.unlink()
    with pytest.raises(TokenFileWrong, match="cannot be read"):
        book.refresh()


def test_a_look_says_whether_the_file_was_another_one(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write(path, Tokens())
    book = TokenBook(path)
    assert [book.refresh(), book.refresh()] == [True, False]
    write(path, with_token(Tokens(), token()))
    assert [book.refresh(), book.refresh()] == [True, False]


def test_nobody_is_locked_out_while_the_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    write(path, with_token(Tokens(), token(secret="s")))
    book = TokenBook(path)
    book.refresh()
    write(path, with_token(read(path), token("ben", secret="t")))
    meanwhile = []

    def slow(file: Path) -> Tokens:
        meanwhile.append(book.caller("s"))
        return read(file)

    monkeypatch.setattr("fleetcast.daemons.gateway.tokens.read", slow)
    book.refresh()
    assert [known.name for known in meanwhile if known] == ["ada"]
    assert book.caller("t") is not None


def test_an_empty_token_file_is_one(tmp_path: Path) -> None:
    assert json.loads(Tokens().model_dump_json(by_alias=True)) == {"schema": 1, "tokens": []}
