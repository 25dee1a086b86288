from fleetcast.bus.lookout import OVERDUE_SECONDS, SUBJECTS_AT_ONCE, Lookout, floor_of

EVERY = 10.0


def on_time(low: float, high: float) -> float:
    return (low + high) / 2


def lookout(floor: int | None = 0, subjects: tuple[str, ...] = ("a.*",)) -> Lookout:
    return Lookout(subjects, floor, EVERY, now=100.0, uniform=on_time)


def test_the_stream_is_asked_when_the_time_has_come_for_what_follows_the_newest_that_was_heard() -> None:
    own = lookout()
    own.hear(7)

    assert own.patience_seconds(104.0) == 6.0
    assert own.patience_seconds(120.0) == 0.0
    assert own.questions() == [{"seq": 8, "next_by_subj": "a.*"}]


def test_what_the_stream_has_and_did_not_come_is_overdue_until_it_or_something_later_comes() -> None:
    own = lookout()
    own.answer([9], 110.0)

    assert (own.overdue, own.patience_seconds(110.0)) == (9, OVERDUE_SECONDS)
    own.hear(8)
    assert own.overdue == 9
    own.hear(9)
    assert (own.overdue, own.patience_seconds(110.0)) == (0, EVERY)


def test_an_answer_without_anything_new_leaves_nothing_overdue() -> None:
    own = lookout()
    own.hear(7)
    own.answer([], 110.0)

    assert (own.overdue, own.patience_seconds(110.0)) == (0, EVERY)


def test_a_reader_of_many_subjects_goes_through_them_in_turn() -> None:
    own = lookout(subjects=tuple("abcdef"))
    first, second, third = ([q["next_by_subj"] for q in own.questions()] for _ in range(3))

    assert len(first) == SUBJECTS_AT_ONCE
    assert {*first, *second} == set("abcdef")
    assert (first, third) == (list("abcd"), list("cdef"))


def test_a_reader_of_everything_asks_for_everything() -> None:
    assert lookout(subjects=()).questions() == [{"seq": 1, "next_by_subj": ">"}]


def test_where_a_reader_begins_says_what_it_wants() -> None:
    assert floor_of({"deliver_policy": "last_per_subject"}) == 0
    assert floor_of({"deliver_policy": "by_start_sequence", "opt_start_seq": 12}) == 11
    assert floor_of({"deliver_policy": "by_start_time", "opt_start_time": "2026-01-01T00:00:00Z"}) is None


def test_a_reader_that_does_not_know_its_beginning_asks_nothing_before_it_has_heard_something() -> None:
    own = lookout(floor=None)

    assert own.questions() == []
    own.hear(5)
    assert own.questions() == [{"seq": 6, "next_by_subj": "a.*"}]
