"""How are the spaces tidied up that a tokenizer's settings call superfluous, also while a text still comes?

`clean_up_tokenization_spaces` in tokenizer_config.json asks for it. The replacements are transformers', one
after the other over the whole text: " ." becomes "." and so on.
"""

from __future__ import annotations

_REPLACEMENTS = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)


def clean_up(text: str) -> str:
    """A whole text."""
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    return text


class CleanUp:
    """A text piece by piece: all pieces together are what `clean_up` makes of the whole."""

    def __init__(self) -> None:
        self._held = [""] * len(_REPLACEMENTS)

    def push(self, piece: str) -> str:
        """What can be shown; the beginning of what may be replaced is held back."""
        for i, (old, new) in enumerate(_REPLACEMENTS):
            *done, rest = (self._held[i] + piece).split(old)
            keep = next((n for n in range(min(len(old) - 1, len(rest)), 0, -1) if old.startswith(rest[-n:])), 0)
            self._held[i] = rest[len(rest) - keep :]
            piece = new.join([*done, rest[: len(rest) - keep]])
        return piece

    def flush(self) -> str:
        """What is still held back."""
        piece = ""
        for i, (old, new) in enumerate(_REPLACEMENTS):
            piece = (self._held[i] + piece).replace(old, new)
            self._held[i] = ""
        return piece
