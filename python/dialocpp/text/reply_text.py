"""How do the tokens of a reply become text, up to a stop string?"""

from __future__ import annotations

from collections.abc import Sequence

from .stop_strings import StopStrings
from .tokenizer import Tokenizer


class ReplyText:
    """Token by token to text: whole characters, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str]) -> None:
        self._stream = tokenizer.stream(skip_special_tokens=True)
        self._stops = StopStrings(stop_strings)

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character or a stop string may still be cut in two."""
        return self._stops.push(self._stream.push(token))

    def flush(self) -> str:
        """What was held back, at the end."""
        return self._stops.push(self._stream.flush(unfinished=False)) + self._stops.flush()
