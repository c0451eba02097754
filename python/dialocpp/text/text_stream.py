"""How do token ids become text piece by piece, so that all pieces together are the text of all ids?

Any decoder of the tokenizers package is asked about a few tokens at a time. What a token adds to a text depends on the
tokens before it only near the border: whether it is the first, whether a character is cut in two, whether it belongs to
a run of SentencePiece's tokens for single bytes, which is valid or not as a whole. So a token is shown with the last
one that was, from whose text the new text is told apart, and what may still change is held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .clean_up import CleanUp

REPLACEMENT = "\ufffd"


class Decodes(Protocol):
    """What a stream needs of a Tokenizer."""

    cleans_up_spaces: bool

    @property
    def special_token_ids(self) -> frozenset[int]: ...
    def raw_text(self, ids: Sequence[int]) -> str: ...
    def is_token(self, token: int) -> bool: ...
    def is_byte(self, token: int) -> bool: ...
    def complete_text(self, ids: Sequence[int], text: str) -> str: ...


class TextStream:
    """Token by token to pieces of whole characters; all pieces together are what `Tokenizer.decode` makes of all."""

    def __init__(self, tokenizer: Decodes, skip_special_tokens: bool = False) -> None:
        self._owner = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset[int]()
        self._context: list[int] = []  # the last token that was shown, and its text by itself
        self._shown = ""
        self._held: list[int] = []  # pushed, not yet shown
        self._clean_up = CleanUp()

    def push(self, token: int) -> str:
        """The characters that this token completes, often none."""
        if token in self._skipped or not self._owner.is_token(token):
            return ""
        self._held.append(token)
        if self._owner.is_byte(token):
            return ""
        text = self._owner.raw_text([*self._context, *self._held])
        if text.endswith(REPLACEMENT):
            return ""
        piece = self._new(text)
        alone = self._owner.raw_text([token])
        # A token that shows nothing by itself would not stand for "this is no longer the beginning".
        self._context = [token] if alone else [*self._context, *self._held]
        self._shown = alone or text
        self._held.clear()
        return self._cleaned(piece)

    def flush(self, unfinished: bool = True) -> str:
        """What was held back; the stream can then be used for another text.

        `unfinished`: bytes at the end that only begin a character show as U+FFFD; else they are left out.
        """
        piece = self._new(self._owner.raw_text([*self._context, *self._held])) if self._held else ""
        if piece and not unfinished:
            piece = self._owner.complete_text(self._held, piece)
        rest = self._cleaned(piece) + self._clean_up.flush()
        self._context, self._shown, self._held = [], "", []
        return rest

    def _new(self, text: str) -> str:
        """What of a text has not been shown."""
        if text.startswith(self._shown):
            return text[len(self._shown) :]
        pairs = enumerate(zip(text, self._shown, strict=False))
        return text[next((at for at, (new, old) in pairs if new != old), len(text)) :]

    def _cleaned(self, piece: str) -> str:
        return self._clean_up.push(piece) if self._owner.cleans_up_spaces else piece
