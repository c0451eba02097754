"""How do the tokens of a reply become text, up to a stop string, and which token completes that string?"""

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


_FIRST_LOOK = 16  # tokens; most often their text is long enough
# Characters at either end of a part that may read differently in the whole: half a character, a space that a first
# token loses, what `clean_up` replaces.
_MARGIN = 16


class ReplyEnd:
    """Does the text of a reply hold a stop string, now that its last token has come?

    It is asked after each token until it says yes. So a stop string can only be one that the last token completes, and
    the last tokens are enough to look for it; the whole is decoded once, to be sure. A pure function of the tokens:
    there is nothing to copy for a beam and nothing to repair after an interrupt.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = tuple(stop_strings)
        self._longest = max(map(len, self._strings), default=0)

    def __call__(self, generated: Sequence[int]) -> bool:
        """Of the reply so far, end-of-text included."""
        return self._holds(self._ending(generated)) and self._holds(self._text(generated))

    def _ending(self, generated: Sequence[int]) -> str:
        """The text of so many last tokens that it has room for a stop string which the last of them completes."""
        room = self._longest + len(self._text(generated[-1:])) + _MARGIN
        count = _FIRST_LOOK
        while count < len(generated):
            text = self._text(generated[-count:])
            # A run of byte tokens (SentencePiece's byte fallback) that is cut in the middle of a character is nothing
            # but U+FFFD: that is no text in which to look.
            if len(text) - text.count("\ufffd") >= room:
                return text
            count *= 2
        return self._text(generated)

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _holds(self, text: str) -> bool:
        return any(string in text for string in self._strings)
