"""Is a conversation's history right by itself? No model: a format of numbers, and turns of a given length."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from dialocpp import CapacityError
from dialocpp.chat.history import Exchange, History
from dialocpp.prompt.turns import Role, Turn
from dialocpp.prompt.window import Window
from hypothesis import given
from hypothesis import strategies as st
from sentences import one_sentence

END, PINNED = 0, [1, 2, 3]


class Numbers:
    """A format: what is pinned, then each turn's ids and an end."""

    def encode(self, turns: Sequence[Turn]) -> list[int]:
        return PINNED + [id_ for turn in turns for id_ in (*turn.token_ids, END)]


def turn(role: Role, number: int, length: int) -> Turn:
    """Its ids are those of no other number."""
    return Turn(role, f"{role} {number}", (100 + number,) * length)


def new(positions: int = 100) -> History:
    return History(Numbers(), positions)


def say(history: History, window: Window, message: int = 4, reply: int = 4, *, again: bool = False) -> list[int]:
    """One exchange whose reply is read to its last token but one, as an engine does; what the cache holds then."""
    number = len(history.turns) - (2 if again else 0)
    draft = history.draft(turn("user", number, message), window, again=again)
    said = turn("assistant", number + 1, reply)
    read = [*draft.prompt, *said.token_ids[:-1]]
    history.commit(draft, said, read)
    return read


@pytest.fixture
def history() -> History:
    return new()


@pytest.fixture
def window(history: History) -> Window:
    return history.window(100, 10)


def test_a_new_history_has_read_nothing(history: History) -> None:
    assert (history.turns, history.pinned, history.state.unread) == ((), 3, 3)
    for call in (history.undo, history.last_message):
        with one_sentence(ValueError, "no turn yet"):
            call()


def test_a_draft_changes_nothing(history: History, window: Window) -> None:
    say(history, window)
    before = history.state
    history.draft(turn("user", 2, 5), window)
    history.draft(turn("user", 0, 4), window, again=True)
    with one_sentence(CapacityError, "shorten"):
        history.draft(turn("user", 2, 95), window)
    assert history.state is before


def test_a_commit_is_one_assignment(history: History, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at any moment sees whole exchanges, and no moment is between them."""
    states = [history.state]

    def noted(self: History, name: str, value: Any) -> None:
        states.append(value)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(History, "__setattr__", noted)
    draft = history.draft(turn("user", 0, 4), window)
    assert len(states) == 1
    history.commit(draft, turn("assistant", 1, 4), draft.prompt)
    assert [len(state.turns) for state in states] == [0, 2]
    assert [len(state.exchanges) for state in states] == [0, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        states[1].turns = ()  # type: ignore[misc]


def test_what_a_reply_left_unread_is_not_read_again(history: History, window: Window) -> None:
    """Of a reply the last token and its end are unread; the next draft counts them as new, not as read before."""
    read = say(history, window)
    assert history.state.unread == 2
    draft = history.draft(turn("user", 2, 5), window)
    assert draft.prompt[: len(read)] == read
    assert draft.read_before == len(read)
    assert len(draft.prompt) - draft.read_before == 2 + 5 + 1


def test_another_reply_takes_the_place_of_the_last(history: History, window: Window) -> None:
    say(history, window)
    say(history, window)
    first = history.turns[:2]
    draft = history.draft(turn("user", 2, 4), window, again=True)
    assert (draft.number, draft.exchange.attempt, draft.turns[:2]) == (2, 1, first)
    assert draft.read_before == len(draft.prompt) - 5, "all but the message has been read"
    history.commit(draft, turn("assistant", 7, 3), draft.prompt)
    assert history.turns[:2] == first and history.turns[3].content == "assistant 7" and len(history.turns) == 4
    assert [exchange.attempt for exchange in history.state.exchanges] == [0, 1]


def test_undo_takes_back_one_exchange_and_leaves_nothing_unread(history: History, window: Window) -> None:
    say(history, window)
    before = history.state
    say(history, window)
    assert history.undo() == "user 2"
    assert history.state == dataclasses.replace(before, unread=0)
    assert history.undo() == "user 0"
    assert history.turns == history.state.exchanges == ()


def test_forks_share_the_state_and_go_on_alone(history: History, window: Window) -> None:
    say(history, window)
    twin = history.fork()
    assert twin.state is history.state
    say(history, window)
    assert (len(twin.turns), len(history.turns)) == (2, 4)
    twin.clear()
    assert (twin.turns, twin.state.unread, len(history.turns)) == ((), 3, 4)


def test_what_was_prepared_is_counted_once(history: History, window: Window) -> None:
    say(history, window)
    history.note_prepared(9)  # of which 2 had never been read
    assert (history.state.prepared, history.state.recomputed, history.state.unread) == (9, 7, 0)
    history.note_prepared(4)
    assert (history.state.prepared, history.state.recomputed) == (13, 11)
    draft = history.draft(turn("user", 2, 4), window)
    assert (draft.before.prepared, draft.before.recomputed) == (13, 11)
    history.commit(draft, turn("assistant", 3, 4), draft.prompt)
    assert (history.state.prepared, history.state.recomputed) == (0, 0)


def test_a_restored_history_has_been_read(history: History, window: Window) -> None:
    say(history, window)
    other = new()
    other.restore(list(history.turns), [Exchange(0, 3)])
    assert (other.turns, other.state.unread, other.state.exchanges) == (history.turns, 0, (Exchange(0, 3),))
    assert other.draft(turn("user", 0, 4), window, again=True).exchange.attempt == 4


def test_a_persona_that_leaves_no_room() -> None:
    with one_sentence(CapacityError, "persona"):
        new(positions=5).window(5, 1)


LENGTHS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=40)


@given(LENGTHS, st.integers(20, 200))
def test_what_leaves_the_window_leaves_it_whole(lengths: list[tuple[int, int]], tokens: int) -> None:
    """Prompts are the visible turns, they fit, what was dropped is counted, and undo leads back to each state."""
    history = new(200)
    window, dropped, states = history.window(tokens, 20), 0, []
    for message, reply in lengths:
        states.append(history.state)
        upcoming = history.upcoming(window)
        draft = history.draft(turn("user", len(history.turns), message), window)
        first = draft.exchange.first_visible
        dropped += draft.dropped_turns
        assert first == dropped and first % 2 == 0
        assert draft.visible == draft.turns[first:] and draft.prompt == Numbers().encode(draft.visible)
        assert len(draft.prompt) + window.reply <= 200
        assert len(draft.prompt) <= max(window.limit, 3 + message + 1)
        assert len(upcoming) + message + 1 > window.limit or draft.prompt[: len(upcoming)] == upcoming
        history.commit(draft, turn("assistant", len(history.turns) + 1, reply), draft.prompt)
        assert history.state.unread == reply + 1
    for state in reversed(states):
        history.undo()
        assert (history.state.turns, history.state.exchanges) == (state.turns, state.exchanges)
