"""What the reference tunnel makes of a path: how large datagrams may be, and that its own questions are no loss."""

from __future__ import annotations

from towpath.extensions.wire_tunnel.path import Path
from towpath.extensions.wire_tunnel.sessions import Traffic
from towpath.extensions.wire_tunnel.units import PIECE, SMALL_PIECE
from towpath.extensions.wireguard.keypair import Keypair


def asked(path: Path, seconds: float, answer: tuple[int, ...] = (), since: float = 0.0) -> int:
    """How often it asks in so many seconds, when probes of the sizes in `answer` are answered at once."""
    count, now = 0, since
    while now < since + seconds:
        for size in path.probes(now):
            count += 1
            if size in answer:
                path.answered(size, now)
        now += 0.25
    return count


def test_nobody_asks_while_nothing_is_sent() -> None:
    path = Path()
    assert asked(path, 60) == 0
    path.used = True
    assert asked(path, 60, (PIECE, SMALL_PIECE)) == 2, "once for what was sent"


def test_only_the_small_size_answered_makes_datagrams_small_until_the_large_one_is() -> None:
    path = Path()
    path.used = True
    asked(path, 2, (SMALL_PIECE,))
    assert path.piece == SMALL_PIECE
    path.used = True
    asked(path, 10, (SMALL_PIECE, PIECE), since=10)
    assert path.piece == PIECE


def test_a_path_that_answers_nothing_says_nothing_of_sizes() -> None:
    path = Path()
    path.used = True
    asked(path, 10)
    assert path.piece == PIECE


def test_another_path_is_asked_at_once() -> None:
    path = Path()
    path.used = True
    asked(path, 2, (SMALL_PIECE, PIECE))
    path.another()
    assert path.probes(2.25) == (PIECE, SMALL_PIECE)


def test_probes_that_are_swallowed_are_no_loss_of_units() -> None:
    path, traffic = Path(), Traffic(Keypair(1, 2, b"s" * 32, b"r" * 32, 0.0, initiator=True))
    path.used = True
    asked(path, 2, (SMALL_PIECE,))
    traffic.pieces_sent = 104
    path.report(traffic, 100, 104, 3.0)
    assert path.level == 0
    path.report(traffic, 200, 208, 4.0)
    assert path.level > 0, "and others are"


def test_units_that_others_have_overtaken_are_no_loss() -> None:
    here, there = (Traffic(Keypair(1, 2, b"s" * 32, b"r" * 32, 0.0, initiator=True)) for _ in range(2))
    path = Path()
    arrivals = (range(0, 90), [*range(91, 180), 90], [*range(181, 270), 180], range(270, 360))
    for now, numbers in enumerate(arrivals):
        for counter in numbers:
            there.came(counter)
        path.report(here, there.whole, there.settled, float(now))
        there.settle()
        here.pieces_sent += 90
    assert path.level == 0
    for counter in [*range(360, 400), *range(410, 450)]:
        there.came(counter)
    for later in (5.0, 6.0):
        there.settle()
        path.report(here, there.whole, there.settled, later)
    assert path.level > 0, "and those that never come are"


def test_a_unit_that_is_lost_at_the_end_of_a_burst_is_one_of_many_pieces() -> None:
    path, traffic = Path(), Traffic(Keypair(1, 2, b"s" * 32, b"r" * 32, 0.0, initiator=True))
    traffic.pieces_sent = 300 * 45
    path.report(traffic, 200, 200, 1.0)
    path.report(traffic, 299, 300, 2.0)
    assert path.level == 0, "one of 13,500 datagrams"
