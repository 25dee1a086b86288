"""What may name things."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fleetcast.events.ids import FilePath, Name, Sha256, Version, canonical_json, crockford, derived_id, is_name

NAME = TypeAdapter(Name)
VERSION = TypeAdapter(Version)
SHA256 = TypeAdapter(Sha256)
FILE_PATH = TypeAdapter(FilePath)


@pytest.mark.parametrize("name", ["a", "hex8_2p", "gpu-1", "0", "a" * 48])
def test_names_of_the_fleet_are_accepted(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a.b", "a b", "a/b", "..", "a\n", "\na", "a\0", "é", "a" * 49, "*", ">", "$js"]
)
def test_what_could_break_a_subject_or_a_path_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError, match="is not a name"):
        NAME.validate_python(name)
    assert not is_name(name)


@pytest.mark.parametrize(
    ("given_", "version"), [("43", "43"), (43, "43"), (0, "0"), ("1.2.0-rc1+build_7", "1.2.0-rc1+build_7")]
)
def test_versions_are_text_and_integers_become_text(given_: object, version: str) -> None:
    assert VERSION.validate_python(given_) == version


@pytest.mark.parametrize(
    "version", ["", ".", "..", "1/2", "1\\2", "43\n", "4\n3", "-1", "+1", "1 2", "1\0", "v" * 65, "…", "-43"]
)
def test_version_that_could_leave_its_folder_or_break_a_line_is_refused(version: str) -> None:
    with pytest.raises(ValidationError, match="is not a version"):
        VERSION.validate_python(version)


@pytest.mark.parametrize("version", ["current", "previous", "canary"])
def test_name_of_a_pointer_cannot_be_a_version(version: str) -> None:
    with pytest.raises(ValidationError, match="name of a slot"):
        VERSION.validate_python(version)


@pytest.mark.parametrize("version", [1.5, True, None, ["43"]])
def test_fractions_and_truth_values_are_no_versions(version: object) -> None:
    with pytest.raises(ValidationError):
        VERSION.validate_python(version)


def test_a_negative_integer_is_no_version() -> None:
    with pytest.raises(ValidationError, match="is not a version"):
        VERSION.validate_python(-1)


@pytest.mark.parametrize("digest", ["A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "g" * 64])
def test_digest_in_another_spelling_is_refused(digest: str) -> None:
    with pytest.raises(ValidationError):
        SHA256.validate_python(digest)


@pytest.mark.parametrize("path", ["m.pt", "./m.pt", "../m.pt", "~/m.pt", ""])
def test_relative_path_of_a_file_is_refused_for_nobody_knows_where_it_begins(path: str) -> None:
    with pytest.raises(ValidationError):
        FILE_PATH.validate_python(path)


@pytest.mark.parametrize("path", ["/a\0b", "/a\nb", "/\x7f", "/\ud800", "/" + "a" * 4096])
def test_path_that_no_system_call_takes_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        FILE_PATH.validate_python(path)


def test_the_same_cause_type_and_key_give_the_same_id() -> None:
    assert derived_id("c", "model.promoted.v1", "hex8") == derived_id("c", "model.promoted.v1", "hex8")


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_derived_ids_look_like_ulids_and_differ_when_anything_differs(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert len(derived_id(*one)) == 26
    # Parts that hold newlines could be cut elsewhere; ids, types and keys hold none.
    if one != other and not any("\n" in part for part in one + other):
        assert derived_id(*one) != derived_id(*other)


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_crockford_digits_read_back(number: int) -> None:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    value = 0
    for digit in crockford(number, 26):
        value = value * 32 + alphabet.index(digit)
    assert value == number


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode() == canonical_json({"a": "é", "b": 1})


def test_canonical_json_of_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
