"""What is a turn of a dialogue, and of which pieces is a prompt made?"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One utterance. `token_ids` are what the model read or wrote, without the end-of-text after them."""

    role: Role
    content: str
    token_ids: tuple[int, ...]


class Special(str):
    """Text of a format's own, in which the name of a special token is that token. Never a user's text."""

    __slots__ = ()


@dataclass(frozen=True)
class Dialogue:
    """What a format lays out: the turns that the model sees, and before them the persona, which never leaves."""

    turns: Sequence[Turn]
    persona: Sequence[Turn]
    eos_token_id: int

    @property
    def asks(self) -> bool:
        """Is a reply wanted next?"""
        return bool(self.turns) and self.turns[-1].role == "user"


# A str is encoded as plain text, an int is a token id, a turn is its own ids.
Piece = Turn | Special | str | int


Layout = Callable[[Dialogue], Iterable[Piece]]


def turn_ids(turns: Sequence[Turn], eos_token_id: int) -> list[int]:
    """DialoGPT's format: turn, end-of-text, turn, end-of-text, … (Zhang et al. 2020, arXiv:1911.00536)."""
    return [token for turn in turns for token in (*turn.token_ids, eos_token_id)]


def check_message(text: str) -> str:
    """The text, if it can be a turn: a string that is not empty and holds no control characters."""
    if not isinstance(text, str):
        raise TypeError(f"expected a message to be a str, found {type(text).__name__}; decode or convert it first")
    if not text.strip():
        raise ValueError("expected a message with some text, found an empty one; say something")
    for index, character in enumerate(text):
        if unicodedata.category(character) == "Cc" and character not in "\t\n\r":
            raise ValueError(
                f"expected a message of plain text, found the control character U+{ord(character):04X} "
                f"at index {index}; remove it"
            )
    return text
