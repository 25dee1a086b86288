"""A folder of exports over many looks: every file is judged once per state, and nothing is said twice."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.sightings import FileState, Sighting, Watched, unfinished


def state(size: int = 1, mtime: int = 1, inode: int = 1) -> FileState:
    return FileState(1, inode, size, mtime)


def at(name: str, size: int = 1, mtime: int = 1) -> Sighting:
    return Sighting(name, state(size, mtime))


def test_a_file_is_ready_when_two_looks_agree() -> None:
    watched = Watched()
    assert watched.look([at("a.npz")]).ready == ()
    assert watched.look([at("a.npz")]).ready == (("a.npz", state()),)


def test_a_judged_file_is_left_alone_until_it_changes() -> None:
    watched = Watched()
    watched.look([at("a")])
    watched.look([at("a")])
    watched.settle("a", state())
    assert watched.look([at("a")]).ready == ()
    assert watched.look([at("a", 2)]).ready == ()
    assert watched.look([at("a", 2)]).ready == (("a", state(2)),)


def test_a_file_that_grows_is_said_once_and_never_ready() -> None:
    watched = Watched()
    looks = [watched.look([at("a", size)]) for size in range(1, 9)]
    assert all(look.ready == () for look in looks)
    assert sum(len(look.news) for look in looks) == 1


def test_a_problem_is_said_once_until_it_is_another_one() -> None:
    watched = Watched()
    link = Sighting("a", problem="it is a link")
    assert [len(watched.look([link]).news) for _ in range(3)] == [1, 0, 0]
    assert watched.look([Sighting("a", problem="it is empty")]).news == (("a", "it is empty"),)
    watched.look([])
    assert len(watched.look([link]).news) == 1


def test_a_refused_file_is_said_once() -> None:
    watched = Watched()
    assert watched.settle("a", state(), "no archive")
    assert not watched.settle("a", state(2), "no archive")


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3)), max_size=3), max_size=12))
def test_no_state_of_a_file_is_judged_twice_in_a_row(rounds: list[list[tuple[str, int]]]) -> None:
    watched = Watched()
    judged: dict[str, FileState] = {}
    before: dict[str, FileState] = {}
    for lying in rounds:
        files = {name: state(size) for name, size in lying}
        look = watched.look([Sighting(name, found) for name, found in files.items()])
        for gone in judged.keys() - files.keys():
            del judged[gone]
        for name, found in look.ready:
            assert before[name] == found
            assert judged.get(name) != found
            judged[name] = found
            watched.settle(name, found)
        before = files


def test_names_of_writers_are_unfinished() -> None:
    assert all(map(unfinished, ["a.npz.tmp", ".a.npz.Xy12Zz", "a.npz~", "a.part", ".hidden.npz"]))
    assert not any(map(unfinished, ["a.npz", "tmp.npz", "a.tmp.npz"]))
