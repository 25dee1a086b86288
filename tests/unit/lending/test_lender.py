"""What a lender promises, whatever borrowers do."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.transport.lending.lender import HELP_SECONDS, SETTLE_SECONDS, SILENT_SECONDS, STARVE_SECONDS, Lender

PIECES = 24
ALL = (1 << PIECES) - 1


def bits(*pieces: int) -> int:
    return sum(1 << piece for piece in pieces)


def test_each_piece_is_lent_to_one_node_only() -> None:
    lender = Lender(4, 0)
    assert lender.borrow("a", 0, 0.0, 1) == (0,)
    assert lender.borrow("b", 0, 0.0, 1) == (1,)
    assert lender.borrow("a", 0, 0.1, 1) == (2,)


def test_what_somebody_has_is_left_to_the_swarm() -> None:
    lender = Lender(3, 0)
    lender.borrow("a", bits(0), 0.0, 1)
    assert lender.borrow("b", 0, 0.1, 1) == (2,)


def test_small_pieces_are_lent_side_by_side_and_singly_towards_the_end() -> None:
    lender = Lender(16, 0)
    assert lender.borrow("a", 0, 0.0, 4) == (0, 1, 2, 3)
    assert lender.borrow("a", 0, 0.0, 4) == (4, 5, 6)
    assert [len(lender.borrow("a", 0, 0.0, 4)) for _ in range(3)] == [2, 1, 1]


def lend_and_send(lender: Lender, borrower: str, now: float) -> tuple[int, ...]:
    pieces = lender.borrow(borrower, 0, now, 1)
    for piece in pieces:
        lender.sent(borrower, piece, now)
    return pieces


def steady(lender: Lender, borrower: str, count: int, now: float, apart: float) -> float:
    """Lend *count* pieces, one each *apart* seconds; returns when the last one went."""
    for n in range(count):
        assert lend_and_send(lender, borrower, now + n * apart)
    return now + (count - 1) * apart


def test_who_was_lent_far_more_than_the_others_lets_them_go_first() -> None:
    lender = Lender(100, 0)
    for name in ("a", "b", "c"):
        lender.opened(name, 0.0)
    now = steady(lender, "a", 2, 0.0, 0.1)
    assert lend_and_send(lender, "a", now) == ()
    assert lend_and_send(lender, "b", now) == (2,)
    assert lend_and_send(lender, "c", now) == (3,)
    assert lend_and_send(lender, "a", now) == (4,)


def test_the_more_borrowers_share_the_line_the_smaller_are_their_loans() -> None:
    for borrowers, pieces in ((1, 8), (4, 4), (8, 2), (16, 1), (40, 1)):
        lender = Lender(10_000, 0)
        for n in range(borrowers):
            lender.opened(f"node-{n}", 0.0)
        assert len(lender.borrow("node-0", 0, 0.0, 8)) == pieces


def test_a_slow_minority_holds_nobody_back() -> None:
    lender = Lender(100, 0)
    for name in ("quick", "quick too", "slow"):
        lender.opened(name, 0.0)
    for n in range(30):
        assert lend_and_send(lender, "quick", n / 10)
        assert lend_and_send(lender, "quick too", n / 10)


def test_nobody_is_held_back_for_long_while_the_line_rests() -> None:
    lender = Lender(200, 0)
    for name in ("quick", "slow", "slow too"):
        lender.opened(name, 0.0)
    for n in range(20):
        for name in ("quick", "slow", "slow too"):
            assert lend_and_send(lender, name, n / 10)
    now = 2.0
    while lend_and_send(lender, "quick", now):
        now += 0.05
    assert lend_and_send(lender, "quick", now + 0.1) == ()
    assert lend_and_send(lender, "quick", now + 20)


def test_one_borrower_alone_is_never_held_back() -> None:
    steady(Lender(100, 0), "a", 100, 0.0, 0.1)


def test_a_request_that_has_waited_does_not_bring_old_news() -> None:
    lender = Lender(2, 0)
    lender.opened("a", 0.0)
    assert lender.borrow("a", 0, 0.0, 1) + lender.borrow("a", 0, 0.0, 1) == (0, 1)
    lender.sent("a", 0, 0.0)
    lender.sent("a", 1, 0.0)
    assert lender.borrow("a", bits(0, 1), 0.1, 1) == ()
    assert lender.borrow("a", None, 0.2, 1) == ()


def test_a_piece_of_a_broken_connection_goes_to_the_next() -> None:
    lender = Lender(1, 0)
    lender.opened("a", 0.0)
    pieces = lender.borrow("a", 0, 0.0, 1)
    lender.opened("b", 0.1)
    assert lender.borrow("b", 0, 0.1, 1) == ()
    lender.closed("a", pieces, 0.2)
    assert lender.borrow("b", 0, 0.2, 1) == (0,)


def test_a_piece_that_was_sent_to_a_node_that_fell_silent_goes_to_the_next() -> None:
    lender = Lender(1, 0)
    lender.opened("a", 0.0)
    pieces = lender.borrow("a", 0, 0.0, 1)
    lender.sent("a", 0, 0.1)
    lender.closed("a", pieces, 0.1)
    assert lender.borrow("b", 0, 0.2, 1) == ()
    assert lender.borrow("b", 0, 0.2 + SILENT_SECONDS, 1) == (0,)


def test_a_piece_that_its_borrower_lost_on_the_way_to_the_disk_is_lent_again() -> None:
    lender = Lender(1, 0)
    lender.opened("a", 0.0)
    lender.borrow("a", 0, 0.0, 1)
    lender.sent("a", 0, 0.0)
    assert lender.borrow("a", 0, SETTLE_SECONDS, 1) == ()
    assert lender.borrow("a", 0, SETTLE_SECONDS + 0.1, 1) == (0,)


def test_a_slow_borrowers_piece_is_lent_a_second_time_within_the_spare() -> None:
    lender = Lender(2, 1)
    lender.opened("a", 0.0)
    lender.borrow("a", 0, 0.0, 1)
    lender.borrow("a", 0, 0.0, 1)
    for piece in (0, 1):
        lender.sent("a", piece, 0.0)
    later = HELP_SECONDS + 0.1
    assert lender.borrow("b", 0, later, 1) == (0,)
    assert lender.borrow("b", 0, later, 1) == (), "the spare is used up"


def test_a_node_that_the_others_give_nothing_is_lent_what_it_lacks() -> None:
    lender = Lender(4, 0)
    lender.borrow("rich", 0b1111, 0.0, 1)
    assert lender.borrow("cut_off", 0, 0.0, 1) == ()
    for at in (STARVE_SECONDS / 2, STARVE_SECONDS):  # both go on asking, as nodes do
        lender.borrow("rich", 0b1111, at, 1)
        assert lender.borrow("cut_off", 0, at, 1) == ()
    assert lender.borrow("cut_off", 0, STARVE_SECONDS + 0.1, 1) == (0,)
    assert lender.borrow("cut_off", 0b1, STARVE_SECONDS + 0.2, 1) == (1,)
    assert lender.borrow("cut_off", 0b111, STARVE_SECONDS + 0.3, 1) == (), "piece 2 came from another node"


@dataclass
class World:
    """Borrowers that take, report, lose and die as told; the clock moves with every step."""

    lender: Lender
    have: dict[str, int] = field(default_factory=dict)
    now: float = 0.0
    sent: int = 0
    lost: int = 0

    def step(self, node: str, what: str) -> None:
        self.now += 0.5
        if what == "die":
            self.lost += self.have.pop(node, 0).bit_count()
            return
        have = self.have.setdefault(node, 0)
        self.lender.opened(node, self.now)
        pieces = self.lender.borrow(node, have, self.now, 4)
        assert not any(have >> piece & 1 for piece in pieces), "it was lent what it has"
        for piece in pieces:
            self.sent += 1
            if what == "lose":
                self.lost += 1
                continue
            self.lender.sent(node, piece, self.now)
            self.have[node] |= 1 << piece
        self.lender.closed(node, pieces, self.now)


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "take", "take", "lose", "die"])), max_size=60
)


@given(steps=STEPS, spare=st.integers(0, 4))
@settings(deadline=None)
def test_every_piece_reaches_a_live_node_and_little_is_sent_twice(steps: list[tuple[str, str]], spare: int) -> None:
    world = World(Lender(PIECES, spare))
    for node, what in steps:
        world.step(node, what)
    dead = sum(what == "die" for _, what in steps)
    world.now += 2 * SETTLE_SECONDS
    for _ in range(4 * PIECES):
        world.step("a", "take")
    assert world.have["a"] == ALL
    # What a node has that is taken for gone is sent again; and each of three may have been cut off from the others.
    silences = dead + len({node for node, _ in steps}) + 1
    assert world.sent <= PIECES * (silences + 3) + world.lost + spare


@given(nodes=st.integers(1, 8), spare=st.integers(0, 4))
def test_borrowers_that_live_cost_the_file_once_and_the_spare(nodes: int, spare: int) -> None:
    world = World(Lender(PIECES, spare))
    for _ in range(PIECES):
        for name in range(nodes):
            world.step(str(name), "take")
            world.now -= 0.499
    assert world.sent <= PIECES + spare
    union = 0
    for have in world.have.values():
        union |= have
    assert union == ALL
