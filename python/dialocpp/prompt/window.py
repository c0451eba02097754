"""Which turns does the model still see? Two limits, and hysteresis between them.

The hard limit is the model's positions: prompt and reply must fit. The soft one is quality: DialoGPT was trained on
sequences of 128 tokens (microsoft/DialoGPT #34), and with a longer history its replies shrink and go empty (#84).

Positions are absolute in GPT-2, so a turn that falls out moves all others and they must be read again. Old exchanges
are therefore dropped down to half of the window at once, and most turns pay nothing. What is dropped depends on the
turns and the settings alone, never on when somebody had time to read: idle time changes what a turn costs, not what is
said.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dialocpp.errors import CapacityError

# The length that DialoGPT was trained at; with a reply of 64 tokens it is also the 192 of the bundled model.
TRAINED_TOKENS = 128


@dataclass(frozen=True)
class Window:
    """`positions` of the model, `pinned` tokens that never leave, `tokens` of history at most, `reply` set aside."""

    positions: int
    pinned: int
    tokens: int
    reply: int

    @classmethod
    def of(cls, positions: int, pinned: int, tokens: int, max_new_tokens: int) -> Window:
        """Room for the reply is at most half of what is not pinned. CapacityError if too much is."""
        if 2 * pinned > positions:
            raise CapacityError(
                f"expected a persona of at most half of the model's {positions} positions, found {pinned} tokens; "
                "shorten the persona"
            )
        return cls(positions, pinned, tokens, min(max_new_tokens, (positions - pinned) // 2))

    @property
    def room(self) -> int:
        """Tokens of a prompt that leaves room for the reply: the hard limit."""
        return self.positions - self.reply

    @property
    def limit(self) -> int:
        """Tokens of a prompt with which nothing is dropped."""
        return min(self.room, self.pinned + self.tokens)

    @property
    def keep(self) -> int:
        """Tokens of a prompt after a drop, at most."""
        return min(self.limit, self.pinned + min(self.tokens, self.positions - self.pinned) // 2)

    @property
    def margin(self) -> int:
        """Set aside for the next message, so that most drops are known when a reply ends: an eighth of a soft window.

        The hard limit has none: up to there nothing may be lost.
        """
        return self.tokens // 8 if self.pinned + self.tokens < self.positions else 0

    def before_message(self, size: Callable[[int], int], turns: int, first: int, starts: Sequence[int]) -> int:
        """The oldest visible one of these `turns`, when the next message is not known yet; `first` until now.

        `size(i)`: tokens of the turns from i on, with all that is pinned. `starts`: the turns that may be the oldest,
        ascending.
        """
        return _dropped(size, starts, turns, first, self.limit - self.margin, self.keep - self.margin)

    def with_message(self, size: Callable[[int], int], turns: int, first: int, starts: Sequence[int]) -> int:
        """The oldest visible turn, when the last of the `turns` is the message. CapacityError if that cannot fit."""
        if size(first) <= self.limit:
            return first
        tokens = size(turns - 1) - self.pinned
        if tokens + self.pinned > self.room:
            raise CapacityError(
                f"expected a message of at most {self.room - self.pinned - 1} tokens, beside a reply of {self.reply} "
                f"in the model's {self.positions} positions, found {tokens - 1} tokens; shorten the message"
            )
        return _dropped(size, starts, turns - 1, first, self.limit, self.keep)


def _dropped(
    size: Callable[[int], int], starts: Sequence[int], last: int, first: int, limit: int, keep: int
) -> int:
    """Whole exchanges go until at most `keep` is left, but the newest stays as long as `limit` allows it."""
    if size(first) <= limit:
        return first
    exchanges = [start for start in starts if first <= start < last]
    kept = bisect_left(exchanges, True, key=lambda i: size(i) <= keep)
    if kept < len(exchanges):
        return exchanges[kept]
    newest = exchanges[-1] if exchanges else last
    return newest if size(newest) <= limit else last
