"""What has been said in a conversation, how much of it does the model see, and what of that has it read?

Pure: it holds no model. A format that turns turns into token ids, and the number of the model's positions, are enough.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dialocpp.prompt.turns import Turn
from dialocpp.prompt.window import Window


class Encodes(Protocol):
    """What a history needs of a chat format."""

    def encode(self, turns: Sequence[Turn]) -> list[int]:
        """The ids of these turns, with all that stands before them."""
        ...


@dataclass(frozen=True)
class Exchange:
    """What a message and its reply were said under: the oldest turn that was visible, and the attempt that stayed.

    `start`: the number of the message among the turns; its reply is the next one.
    """

    first_visible: int = 0
    attempt: int = 0
    start: int = 0


@dataclass(frozen=True)
class State:
    """All that a history is at one moment; it changes by being replaced.

    An exchange has two turns. There may be others between them, which somebody has appended: several messages in a row,
    or a word with which the bot begins.

    `unread`: tokens at the end of what has been said that the model has never read. `prepared`: tokens read in idle
    time since the last reply, of which `recomputed` had been read once before.
    """

    turns: tuple[Turn, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    unread: int = 0
    prepared: int = 0
    recomputed: int = 0


@dataclass(frozen=True)
class Draft:
    """A message to which there is no reply yet, and what the model is to read for one.

    `turns`: all of them, the message last. `before`: the state that the reply will follow on. `read_before`: tokens of
    the prompt that the model has read at some time; what it has to read of them again is counted as recomputed.
    """

    turns: tuple[Turn, ...]
    exchange: Exchange
    prompt: list[int]
    before: State
    read_before: int

    @property
    def number(self) -> int:
        """Turns before the message."""
        return len(self.turns) - 1

    @property
    def visible(self) -> tuple[Turn, ...]:
        """The turns that the model sees, the message last."""
        return self.turns[self.exchange.first_visible :]

    @property
    def previous(self) -> str:
        """The bot's last reply, whether or not the model still sees it; empty before the first."""
        return next((turn.content for turn in reversed(self.turns[:-1]) if turn.role == "assistant"), "")

    @property
    def dropped_turns(self) -> int:
        """Turns that leave the model's window for this exchange."""
        return max(0, self.exchange.first_visible - _first_visible(self.before, self.number))


class History:
    """The turns of one conversation. A turn is said by one assignment: there is nothing between before and after it."""

    def __init__(self, chat_format: Encodes, positions: int, max_turns: int | None = None) -> None:
        self._max_turns = max_turns  # that are visible, beside the message
        self._format = chat_format
        self._positions = positions
        self.pinned = len(chat_format.encode(()))
        """Tokens before the first turn, which never leave the window."""
        self.state = State(unread=self.pinned)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return self.state.turns

    def window(self, tokens: int, max_new_tokens: int) -> Window:
        """The window with `tokens` of history at most. CapacityError when what is pinned leaves no room."""
        return Window.of(self._positions, self.pinned, tokens, max_new_tokens)

    def last_message(self) -> str:
        """What was said last to the bot. ValueError before the first turn."""
        return self.turns[self._last()].content

    def draft(self, message: Turn, window: Window, *, again: bool = False) -> Draft:
        """What a reply to this message follows on; `again`: in the place of the last exchange.

        CapacityError for a message that cannot fit. Nothing is changed.
        """
        state = self.state
        base = self._last() if again else len(state.turns)
        turns = (*state.turns[:base], message)
        before = self._next_first(state, window, base)
        first = window.with_message(self._size(turns), len(turns), before, _starts(turns))
        attempts = [exchange.attempt + 1 for exchange in state.exchanges if exchange.start == base]
        past = len(self._format.encode(turns[first:-1]))
        replaced = len(self._format.encode(state.turns[first:])) - past
        return Draft(
            turns=turns,
            exchange=Exchange(first, attempts[0] if attempts else 0, base),
            prompt=self._format.encode(turns[first:]),
            before=state,
            read_before=past - max(0, state.unread - replaced),
        )

    def upcoming(self, window: Window) -> list[int]:
        """The ids that the next message will follow on, as far as they are known now."""
        return self._format.encode(self.turns[self._next_first(self.state, window, len(self.turns)) :])

    def note_prepared(self, fresh: int) -> None:
        """So many tokens of what is upcoming have just been read; now the model has read all of it."""
        state = self.state
        self.state = replace(
            state,
            unread=0,
            prepared=state.prepared + fresh,
            recomputed=state.recomputed + max(0, fresh - state.unread),
        )

    def commit(self, draft: Draft, reply: Turn, read: Sequence[int]) -> None:
        """The message and the reply to it have been said. `read`: the ids that the model has read by now."""
        turns = (*draft.turns, reply)
        exchanges = (*_before(draft.before.exchanges, draft.number), draft.exchange)
        visible = self._format.encode(turns[draft.exchange.first_visible :])
        self.state = State(turns, exchanges, unread=len(visible) - _common(visible, read))

    def undo(self) -> str:
        """Take back the last message and what followed it; returns the message. ValueError before the first one."""
        message, state, base = self.last_message(), self.state, self._last()
        self.state = replace(state, turns=state.turns[:base], exchanges=_before(state.exchanges, base), unread=0)
        return message

    def extend(self, said: Sequence[Turn]) -> None:
        """These turns were said elsewhere. A reply right after a message is an exchange with it."""
        state = self.state
        turns, exchanges = (*state.turns, *said), list(state.exchanges)
        first = _first_visible(state, len(state.turns))
        exchanges += [
            Exchange(first, 0, number - 1)
            for number in range(max(1, len(state.turns)), len(turns))
            if (turns[number - 1].role, turns[number].role) == ("user", "assistant")
        ]
        more = self._size(turns)(first) - self._size(state.turns)(first)
        self.state = replace(state, turns=turns, exchanges=tuple(exchanges), unread=state.unread + more)

    def clear(self) -> None:
        """As if nothing had been said."""
        self.state = State(unread=self.pinned)

    def restore(self, turns: Sequence[Turn], exchanges: Sequence[Exchange]) -> None:
        """Go on from these turns, which were read once, though by another cache."""
        self.state = State(tuple(turns), tuple(exchanges))

    def fork(self) -> History:
        """A second history with the same past."""
        return copy.copy(self)

    def _next_first(self, state: State, window: Window, base: int) -> int:
        """The oldest turn that stays visible after the first `base` turns, whatever message follows them."""
        turns = state.turns[:base]
        starts = _starts(turns)
        first = window.before_message(self._size(turns), base, _first_visible(state, base), starts)
        if self._max_turns is None or base - first <= self._max_turns:
            return first
        return next((start for start in starts if base - start <= self._max_turns), base)

    def _last(self) -> int:
        """The number of the last message; one without a reply too. ValueError before the first one."""
        turns, exchanges = self.state.turns, self.state.exchanges
        if turns and turns[-1].role == "user":
            return len(turns) - 1
        if not exchanges:
            raise ValueError("expected a message that was said before, found no turn yet; say something first")
        return exchanges[-1].start

    def _size(self, turns: Sequence[Turn]) -> Callable[[int], int]:
        """Tokens of the turns from the i-th on, with all that is pinned."""
        return lambda first: len(self._format.encode(turns[first:]))


def _first_visible(state: State, base: int) -> int:
    """The oldest turn that was visible in the exchange before turn number `base`."""
    before = _before(state.exchanges, base)
    return before[-1].first_visible if before else 0


def _before(exchanges: Sequence[Exchange], number: int) -> tuple[Exchange, ...]:
    """Those that began before that turn."""
    return tuple(exchange for exchange in exchanges if exchange.start < number)


def _starts(turns: Sequence[Turn]) -> list[int]:
    """The turns with which what the model sees may begin: the user's."""
    return [number for number, turn in enumerate(turns) if turn.role == "user"]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of what two sequences begin with alike."""
    return next((i for i, (left, right) in enumerate(zip(a, b, strict=False)) if left != right), min(len(a), len(b)))
