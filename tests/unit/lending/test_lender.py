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
