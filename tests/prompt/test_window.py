"""Is the window ever exceeded, are the newest turns kept, and do most turns pay nothing?"""

import itertools

from dialocpp import CapacityError
from dialocpp.prompt.window import Window
from hypothesis import given
from hypothesis import strategies as st
from sentences import one_sentence

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)


def walk(window: Window, lengths: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(first visible turn, tokens of the prompt, turns) of each exchange of a conversation."""
    turns: list[int] = []
    first, seen = 0, []
    for message, reply in lengths:

        def size(start: int) -> int:
            return window.pinned + sum(turns[start:])

        first = window.before_message(size, len(turns), first, range(0, len(turns), 2))
        turns.append(message)
        first = window.with_message(size, len(turns), first, range(0, len(turns), 2))
        seen.append((first, size(first), len(turns)))
        turns.append(reply)
    return seen


@given(LENGTHS, st.integers(100, 600), st.integers(0, 50), st.integers(1, 700), st.integers(1, 200))
def test_no_limit_is_exceeded(
    lengths: list[tuple[int, int]], positions: int, pinned: int, tokens: int, max_new_tokens: int
) -> None:
    window = Window.of(positions, pinned, min(tokens, positions), max_new_tokens)
    if any(pinned + message > window.room for message, _ in lengths):
        return
    before = 0
    for (first, size, turns), (message, _) in zip(walk(window, lengths), lengths, strict=True):
        assert size + window.reply <= positions
        assert size <= pinned + max(window.tokens, message), "only a message alone may be longer than the soft window"
        assert first >= before and first % 2 == 0 and first < turns
        before = first


@given(LENGTHS)
def test_after_a_drop_there_is_peace(lengths: list[tuple[int, int]]) -> None:
    """What a drop frees must be said again before the next one: about half a window, less one exchange."""
    window = Window.of(1024, 0, 400, 64)
    seen = walk(window, lengths)
    drops = [i for i in range(1, len(seen)) if seen[i][0] > seen[i - 1][0]]
    said = [message + reply for message, reply in lengths]
    for earlier, later in itertools.pairwise(drops):
        assert sum(said[earlier - 1 : later + 1]) >= window.limit - window.margin - window.keep - 80
    for drop in drops:
        assert seen[drop][1] <= window.keep


def test_nothing_is_dropped_that_fits() -> None:
    window = Window.of(256, 0, 256, 16)
    assert walk(window, [(12, 12)] * 10)[-1] == (0, 9 * 24 + 12, 19)
    assert walk(window, [(12, 12)] * 11)[-1][0] > 0


def test_the_newest_exchange_stays_while_it_fits() -> None:
    """Half of the window would not hold it, but a bot that forgets what it just said is worse."""
    window = Window.of(1024, 0, 100, 64)
    assert walk(window, [(5, 5), (5, 70), (20, 5)])[-1][0] == 2


def test_a_message_that_cannot_fit() -> None:
    window = Window.of(100, 20, 100, 1000)
    assert (window.reply, window.room) == (40, 60)
    assert window.with_message(lambda first: 60, 1, 0, [0]) == 0
    with one_sentence(CapacityError, "at most 39 tokens, .* found 41 tokens"):
        window.with_message(lambda first: 62, 1, 0, [0])
    with one_sentence(CapacityError, "persona .* found 51 tokens"):
        Window.of(100, 51, 100, 10)
