"""How does text become token ids, and how do token ids become text?

What somebody writes is text: it never becomes a token that means something to the program. Special tokens are told
apart by the tokenizers package; whatever else must not come out of a text is spelled in other tokens (`_avoiding`).
"""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from operator import index
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import ByteLevel

from dialocpp.errors import VocabularyWarning

from .clean_up import clean_up
from .text_stream import REPLACEMENT, TextStream
from .tokenizer_files import is_character, read_tokenizer
from .tokenizers_errors import guarded

_BYTE_FALLBACK = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's tokens for single bytes
_SPACES = re.compile(r"\s+")
_LARGEST_ID = 2**32 - 1  # that the tokenizers package can hold
_UNASSIGNED = "\U0010fffd"  # no vocabulary has it
_DEPTH = 8  # times that a text is cut to keep a token out of it


class Tokenizer:
    """A model's vocabulary. Immutable; safe from many threads.

    `ends`: the ids that end a reply, beside `eos_token_id`; `named`: those that the model's files call bos, eos, pad,
    unk, sep, cls or mask; `rows`: how many tokens the model knows, if that is fewer than the vocabulary has.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        eos_token_id: int,
        clean_up_spaces: bool = False,
        *,
        ends: Sequence[int] = (),
        named: Iterable[int] = (),
        rows: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.cleans_up_spaces = clean_up_spaces
        self._eos_token_id = eos_token_id
        self._rows = rows
        ids = set(tokenizer.get_vocab().values())
        self._size = 1 + max(ids, default=-1)  # a vocabulary may have gaps
        self._nameless = tuple(sorted(set(range(rows or 0)) - ids))
        self._ends = tuple(id_ for id_ in dict.fromkeys((eos_token_id, *ends)) if rows is None or id_ < rows)
        added = tokenizer.get_added_tokens_decoder()
        self._names = {id_: token.content for id_, token in added.items()}
        known = {id_: token for id_, token in added.items() if token.special and (rows is None or id_ < rows)}
        self._special_pattern = _special_pattern(known)
        self._flags = known
        self._special = frozenset(id_ for id_ in known if not is_character(tokenizer, id_)) | {eos_token_id}
        spelled = {id_ for id_ in named if is_character(tokenizer, id_)}
        self._controls = (self._special.union(named) - spelled - self._unknown()) | frozenset(self._ends)
        self._surplus = frozenset(range(rows, self._size)) if rows is not None else frozenset[int]()
        self._avoided = self._controls | self._surplus
        self._byte_of = _byte_alphabet() if isinstance(tokenizer.decoder, ByteLevel) else None
        self._byte_tokens = self._fallback_bytes()
        self._blank = [id_ for id_ in self._ids(" ") if id_ not in self._avoided]

    @classmethod
    def from_folder(
        cls, folder: Path, fallback_eos: Sequence[int] = (), *, rows: int | None = None
    ) -> Tokenizer:
        """The tokenizer in a model's folder; CheckpointError if its files are missing or broken.

        `fallback_eos`: config.json's end-of-text ids, for a tokenizer that does not name its own. `rows`: the size of
        the model's vocabulary; a VocabularyWarning says if the tokenizer has more tokens, which text then never gets.
        """
        files = read_tokenizer(folder, fallback_eos, rows)
        tokenizer = cls(
            files.tokenizer, files.eos_token_id, files.clean_up_spaces, ends=files.ends, named=files.named, rows=rows
        )
        tokenizer._warn_of_surplus(folder)
        return tokenizer

    @property
    def eos_token_id(self) -> int:
        """The token that ends a turn."""
        return self._eos_token_id

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Every id that the tokenizer, config.json or generation_config.json calls an end; `eos_token_id` first."""
        return self._ends

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def special_token_ids(self) -> frozenset[int]:
        """The ids that stand for no text, `eos_token_id` among them."""
        return self._special

    @property
    def control_token_ids(self) -> frozenset[int]:
        """The ids that no text becomes: the special ones, those that end a reply and those that the files name.

        But the unknown token, which a character without a token becomes, and the only spelling of a character, unless
        they end a reply.
        """
        return self._controls

    @property
    def added_token_ids(self) -> frozenset[int]:
        """The ids of the tokens beside the vocabulary proper, special or not."""
        return frozenset(self._names)

    @property
    def nameless_ids(self) -> tuple[int, ...]:
        """The ids below `rows` that stand for no token: rows that pad the model's matrix, untouched by training."""
        return self._nameless

    def encode(self, text: str, special_tokens: bool = False, avoid: Iterable[int] = ()) -> list[int]:
        """The ids of a text; with `special_tokens`, the name of a special token in it becomes that token.

        `avoid`: further ids that the text must not become; it is spelled in others. TypeError for what is not a string,
        ValueError for half of a surrogate pair (no character, so no ids), or for a text on which the tokenizer fails.
        """
        _check_text(text)
        avoided = self._avoided.union(avoid)
        if not special_tokens or self._special_pattern is None:
            return self._avoiding(text, avoided)
        ids: list[int] = []
        end = 0
        while match := self._special_pattern.search(text, end):
            token_id = int((match.lastgroup or "")[1:])
            before = text[end : match.start()]
            ids += self._avoiding(before.rstrip() if self._flags[token_id].lstrip else before, avoided)
            ids.append(token_id)
            end = match.end()
            if self._flags[token_id].rstrip and (spaces := _SPACES.match(text, end)):
                end = spaces.end()
        return ids + self._avoiding(text[end:], avoided)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids; bytes that form no character become U+FFFD, as with transformers.

        Spaces before punctuation are dropped where the tokenizer's files ask for it. ValueError for what can be no id.
        """
        tokens = [index(token) for token in ids]
        wrong = [token for token in tokens if not 0 <= token <= _LARGEST_ID]
        if wrong:
            raise ValueError(f"expected token ids from 0 up, found {wrong[0]}; give ids of this vocabulary")
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special]
        text = self.raw_text(tokens)
        return clean_up(text) if self.cleans_up_spaces else text

    def stream(self, skip_special_tokens: bool = False) -> TextStream:
        """A new stream of printable pieces."""
        return TextStream(self, skip_special_tokens)

    def pieces(self) -> list[bytes]:
        """For each token the bytes (UTF-8) that it adds to a text which has begun; none for special tokens."""
        if self._byte_of is not None:
            return [b"" if i in self._special else self._bytes(i) for i in range(self._size)]
        anchor = self._ids("a")[:1]
        before = len(self.raw_text(anchor))
        texts = self._tokenizer.decode_batch([[*anchor, i] for i in range(self._size)], skip_special_tokens=False)
        return [
            b"" if i in self._special else self._byte_tokens[i] if i in self._byte_tokens else text[before:].encode()
            for i, text in enumerate(texts)
        ]

    def raw_text(self, ids: Sequence[int]) -> str:
        """The text of ids as the tokenizer's decoder makes it: nothing skipped, no spaces tidied."""
        advice = "give ids that the model has written"
        text: str = guarded(ValueError, "ids that can be decoded", advice, self._tokenizer.decode, list(ids), False)
        return text

    def is_token(self, token: int) -> bool:
        """Does this id stand for a token? A row that pads the model's matrix does not, and shows nothing."""
        return 0 <= token <= _LARGEST_ID and self._tokenizer.id_to_token(token) is not None

    def is_byte(self, token: int) -> bool:
        """Is this one of SentencePiece's tokens for a single byte, of which only a whole run is text?"""
        return token in self._byte_tokens

    def complete_text(self, ids: Sequence[int], text: str) -> str:
        """The text of ids without the bytes at the end that only begin a character."""
        if self._byte_of is None:
            return text.rstrip(REPLACEMENT)
        data = b"".join(self._bytes(token) for token in ids)
        # With final=False an unfinished character is kept back, and only what can become none is replaced.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=False)

    def _unknown(self) -> set[int]:
        """The ids of what has no token; text may become them, for that is no choice of who wrote the text."""
        try:
            return {piece.id for piece in self._tokenizer.model.tokenize(_UNASSIGNED)}
        except Exception:  # of a model that has none
            return set()

    def _encoding(self, text: str) -> tokenizers.Encoding:
        # add_special_tokens=False: a prompt is taken as it is, whatever a post-processor would put around it.
        encode = partial(self._tokenizer.encode, add_special_tokens=False)
        encoding: tokenizers.Encoding = guarded(
            ValueError, "a text that the tokenizer can take apart", "change or shorten it", encode, text
        )
        return encoding

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._encoding(text).ids if text else []
        return ids

    def _avoiding(self, text: str, avoided: frozenset[int], depth: int = _DEPTH) -> list[int]:
        """The ids of a text in which none of these occurs: where one would, the text is cut within it."""
        if not text:
            return []
        encoding = self._encoding(text)
        ids: list[int] = encoding.ids
        if avoided.isdisjoint(ids):
            return ids
        found = [(id_, *span) for id_, span in zip(ids, encoding.offsets, strict=True) if id_ in avoided]
        cuts = sorted({self._cut(text, *token) for token in found if token[2] - token[1] > 1})
        if not cuts or not depth:
            return [kept for id_ in ids for kept in ([id_] if id_ not in avoided else self._instead(id_))]
        parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        return [id_ for part in parts for id_ in self._avoiding(part, avoided, depth - 1)]

    def _cut(self, text: str, token: int, start: int, end: int) -> int:
        """Where to cut a text within a token: after the first character of what it is found by, beyond any spaces."""
        at = text.find(self._names[token], start, end) if token in self._names else -1
        return (at if at >= 0 else start) + 1

    def _instead(self, token: int) -> list[int]:
        """What stands for a character that only a token to be avoided spells: a space for a space, else nothing."""
        return self._blank if self.raw_text([token]).isspace() else []

    def _fallback_bytes(self) -> dict[int, bytes]:
        if self._byte_of is not None or "ByteFallback" not in str(_state(self._tokenizer.decoder)):
            return {}
        names = ((f"<0x{byte:02X}>", byte) for byte in range(256))
        ids = ((self._tokenizer.token_to_id(name), byte) for name, byte in names)
        return {id_: bytes([byte]) for id_, byte in ids if id_ is not None}

    def _bytes(self, token: int) -> bytes:
        text = self._tokenizer.id_to_token(token) or ""
        alphabet = self._byte_of or {}
        if all(char in alphabet for char in text):
            return bytes(alphabet[char] for char in text)
        return text.encode()  # an added token is stored as its text

    def _warn_of_surplus(self, folder: Path) -> None:
        if self._surplus:
            texts = (self._tokenizer.id_to_token(id_) for id_ in sorted(self._surplus))
            names = [repr(text) for text in texts if text is not None]
            shown = ", ".join([*names[:3], "..."] if len(names) > 3 else names)
            warnings.warn(
                f"{folder}: expected token ids below {self._rows} (the model's rows), found ids up to "
                f"{self._size - 1}; "
                f"text is encoded without these tokens: {shown}",
                VocabularyWarning,
                stacklevel=4,
            )


def _state(decoder: Any) -> bytes:
    return decoder.__getstate__() if decoder is not None else b""


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"expected a text of type str, found {type(text).__name__}; decode or convert it first")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected text that UTF-8 can hold, found the lone surrogate {text[error.start]!r} "
            f"at index {error.start}; remove it or replace it with U+FFFD"
        ) from None


def _special_pattern(special: dict[int, tokenizers.AddedToken]) -> re.Pattern[str] | None:
    """Finds special tokens as the tokenizers package does: the longest first; spaces beside them are the caller's."""
    parts = []
    for token_id, token in sorted(special.items(), key=lambda item: -len(item[1].content)):
        part = f"(?P<t{token_id}>{re.escape(token.content)})"
        parts.append(rf"(?<!\w){part}(?!\w)" if token.single_word else part)
    return re.compile("|".join(parts)) if parts else None


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary, inverted.

    GPT-2's table: a printable Latin-1 byte stands for itself, the others take the characters from 256 up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
