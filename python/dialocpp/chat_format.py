"""How do turns become one sequence of token ids, and which of them does the model still see?"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import CapacityError

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One utterance. `token_ids` are what the model read or wrote, without the end-of-text behind them."""

    role: Role
    content: str
    token_ids: tuple[int, ...]

    def __len__(self) -> int:
        """Positions that the turn takes: its tokens and the end-of-text."""
        return len(self.token_ids) + 1


def turn_ids(turns: Sequence[Turn], eos_token_id: int) -> list[int]:
    """DialoGPT's format: turn, end-of-text, turn, end-of-text, … (Zhang et al. 2020, arXiv:1911.00536)."""
    return [token for turn in turns for token in (*turn.token_ids, eos_token_id)]


def check_message(text: str) -> str:
    """The text, if it can be a turn: a string that is not empty and holds no control characters."""
    if not isinstance(text, str):
        raise TypeError(f"A message must be a str, but is {type(text).__name__}; decode or convert it first.")
    if not text.strip():
        raise ValueError("A message must hold some text, but is empty; nothing was added to the conversation.")
    for index, character in enumerate(text):
        if unicodedata.category(character) == "Cc" and character not in "\t\n\r":
            raise ValueError(
                f"A message must be plain text, but has the control character U+{ord(character):04X} "
                f"at index {index}; remove it."
            )
    return text


def first_visible(turns: Sequence[Turn], first: int, window: int, max_new_tokens: int) -> int:
    """Index of the oldest turn that stays in the window, given that it was `first` until now.

    Positions are absolute in GPT-2, so a turn that falls out moves all others and they must be read again. Old
    turns are therefore dropped down to half of the window at once, and most turns pay nothing. Room for the reply
    (at most half of the window) is set aside first. CapacityError if the last turn alone does not fit.
    """
    reply = min(max_new_tokens, window // 2)
    if sum(map(len, turns[first:])) + reply <= window:
        return first
    room = window - reply
    if len(turns[-1]) > room:
        raise CapacityError(
            f"The message has {len(turns[-1]) - 1} tokens, but the model's {window} positions leave room for "
            f"{room - 1} beside a reply of {reply}; shorten the message."
        )
    kept = len(turns[-1])
    first = len(turns) - 1
    while kept + len(turns[first - 1]) <= min(room, max(window // 2, len(turns[-1]))):
        first -= 1
        kept += len(turns[first])
    return first
