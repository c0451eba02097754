"""How do turns become one sequence of token ids?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dialocpp.errors import ask
from dialocpp.text.tokenizer import Tokenizer

from .turns import Dialogue, Layout, Piece, Special, Turn


class ChatFormat:
    """A layout with a tokenizer and a persona: turns in, token ids out.

    `end_token_ids` end a reply, beside the model's own. A text between special tokens is encoded by itself, and without
    the tokens that the format emits, so whatever a user writes stays text.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        tokenizer: Tokenizer,
        persona: Sequence[str] = (),
        end_token_ids: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.layout = layout
        self.end_token_ids = tuple(end_token_ids)
        self._tokenizer = tokenizer
        self._persona = tuple(Turn("assistant", line, tuple(tokenizer.encode(line))) for line in persona)
        self._encoded = lru_cache(maxsize=256)(self._encode_text)

    def encode(self, turns: Sequence[Turn]) -> list[int]:
        """The ids of these turns; after a user's turn also what opens the reply. TypeError for a wrong piece."""
        dialogue = Dialogue(turns, self._persona, self._tokenizer.eos_token_id)
        pieces = list(ask(f"chat format {self.name}", self.layout, dialogue))
        emitted = frozenset(id_ for piece in pieces for id_ in self._emitted(piece))
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, Turn):
                said = emitted.isdisjoint(piece.token_ids)
                ids += piece.token_ids if said else self._tokenizer.encode(piece.content, avoid=emitted)
            elif isinstance(piece, str):
                ids += self._encoded(piece, isinstance(piece, Special))
            elif isinstance(piece, int) and not isinstance(piece, bool):
                ids.append(piece)
            else:
                raise TypeError(
                    f"chat format {self.name}: expected turns, texts and token ids, found {piece!r}; yield these only"
                )
        return ids

    def _emitted(self, piece: Piece) -> Sequence[int]:
        """The tokens by which the format tells turns apart: what is said may not hold them."""
        if isinstance(piece, Special):
            ids = self._encoded(piece, True)
            return [id_ for id_ in ids if id_ in self._tokenizer.added_token_ids]
        return [piece] if isinstance(piece, int) and not isinstance(piece, bool) else []

    def _encode_text(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(str(text), special_tokens=special))

