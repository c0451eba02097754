"""How does text become token ids, and how do token ids become text that can be printed as they come?"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path

import tokenizers
from tokenizers.decoders import ByteLevel, DecodeStream

from .clean_up import CleanUp, clean_up
from .tokenizer_files import read_tokenizer

_REPLACEMENT = "\ufffd"
_BYTE_FALLBACK = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's tokens for single bytes


class Tokenizer:
    """A model's vocabulary. Text never becomes a special token unless the caller asks for it."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, eos_token_id: int, clean_up_spaces: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._clean_up_spaces = clean_up_spaces
        self._eos_token_id = eos_token_id
        added = tokenizer.get_added_tokens_decoder()
        self._special = {token_id: token for token_id, token in added.items() if token.special}
        self._special_pattern = _special_pattern(self._special)
        self._byte_of = _byte_alphabet() if isinstance(tokenizer.decoder, ByteLevel) else None

    @classmethod
    def from_folder(cls, folder: Path, fallback_eos: Sequence[int] = ()) -> Tokenizer:
        """The tokenizer in a model's folder; CheckpointError if its files are missing or broken.

        `fallback_eos`: config.json's end-of-text ids, for a tokenizer that does not name its own.
        """
        return cls(*read_tokenizer(folder, fallback_eos))

    @property
    def eos_token_id(self) -> int:
        """The token that ends a turn."""
        return self._eos_token_id

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def special_token_ids(self) -> frozenset[int]:
        """The ids that stand for no text, `eos_token_id` among them."""
        return frozenset(self._special) | {self._eos_token_id}

    def encode(self, text: str, special_tokens: bool = False) -> list[int]:
        """The ids of a text; with `special_tokens`, the name of a special token in it becomes that token.

        TypeError for what is not a string, ValueError for half of a surrogate pair: no character, so no ids.
        """
        _check_text(text)
        if not special_tokens or self._special_pattern is None:
            return self._plain_ids(text)
        ids: list[int] = []
        end = 0
        for match in self._special_pattern.finditer(text):
            ids += self._plain_ids(text[end : match.start()])
            ids.append(int((match.lastgroup or "")[1:]))
            end = match.end()
        return ids + self._plain_ids(text[end:])

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids; bytes that form no character become U+FFFD, as with transformers.

        Spaces before punctuation are dropped where the tokenizer's files ask for it.
        """
        tokens = [index(token) for token in ids]
        if tokens and min(tokens) < 0:
            raise ValueError(
                f"expected token ids from 0 up, found {min(tokens)}; give ids of this vocabulary"
            )
        text = self._tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        return clean_up(text) if self._clean_up_spaces else text

    def stream(self, skip_special_tokens: bool = False) -> TextStream:
        """A new stream of printable pieces."""
        return TextStream(self, skip_special_tokens)

    def pieces(self) -> list[bytes]:
        """For each token the bytes (UTF-8) that it adds to a text which has begun; none for special tokens."""
        if self._byte_of is not None:
            return [b"" if i in self._special else self._bytes(i) for i in range(self.vocab_size)]
        anchor = self._plain_ids("a")[:1]
        before = len(self._tokenizer.decode(anchor))
        texts = self._tokenizer.decode_batch([[*anchor, i] for i in range(self.vocab_size)], skip_special_tokens=True)
        names = [_BYTE_FALLBACK.fullmatch(self._tokenizer.id_to_token(i) or "") for i in range(self.vocab_size)]
        return [
            bytes([int(name[1], 16)]) if name else text[before:].encode()
            for name, text in zip(names, texts, strict=True)
        ]

    def _plain_ids(self, text: str) -> list[int]:
        # add_special_tokens=False: a prompt is taken as it is, whatever a post-processor would put around it.
        return self._tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def _complete_text(self, ids: Sequence[int]) -> str:
        """The text of ids without the bytes at the end that only begin a character."""
        if self._byte_of is None:
            return self._tokenizer.decode(list(ids), skip_special_tokens=False).rstrip(_REPLACEMENT)
        data = b"".join(self._bytes(token) for token in ids)
        # With final=False an unfinished character is kept back, and only what can become none is replaced.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=False)

    def _bytes(self, token: int) -> bytes:
        text = self._tokenizer.id_to_token(token) or ""
        alphabet = self._byte_of or {}
        if all(char in alphabet for char in text):
            return bytes(alphabet[char] for char in text)
        return text.encode()  # an added token is stored as its text


class TextStream:
    """Token by token to pieces of whole characters; all pieces together are the text of all tokens.

    A sequence of bytes that is still unfinished at the end is dropped: it would show as U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = False) -> None:
        self._owner = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset[int]()
        self._start()

    def push(self, token: int) -> str:
        """The characters that this token completes, often none."""
        if token in self._skipped:
            return ""
        self._held.append(token)
        piece = self._decoder.step(self._owner._tokenizer, token)
        if piece:
            self._held.clear()
        return self._cleaned(piece or "")

    def flush(self) -> str:
        """What was held back and is text after all; the stream can then be used for another text."""
        rest = self._cleaned(self._owner._complete_text(self._held)) + self._clean_up.flush()
        self._start()
        return rest

    def _cleaned(self, piece: str) -> str:
        return self._clean_up.push(piece) if self._owner._clean_up_spaces else piece

    def _start(self) -> None:
        self._clean_up = CleanUp()
        self._decoder = DecodeStream(skip_special_tokens=False)
        self._held: list[int] = []  # pushed, not yet shown


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(
            f"expected a text of type str, found {type(text).__name__}; decode or convert it first"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected text that UTF-8 can hold, found the lone surrogate {text[error.start]!r} "
            f"at index {error.start}; remove it or replace it with U+FFFD"
        ) from None


def _special_pattern(special: dict[int, tokenizers.AddedToken]) -> re.Pattern[str] | None:
    """Finds special tokens as the tokenizers package does: the longest first, with the flags of each."""
    parts = []
    for token_id, token in sorted(special.items(), key=lambda item: -len(item[1].content)):
        part = f"(?P<t{token_id}>{re.escape(token.content)})"
        if token.single_word:
            part = rf"(?<!\w){part}(?!\w)"
        parts.append((r"\s*" if token.lstrip else "") + part + (r"\s*" if token.rstrip else ""))
    return re.compile("|".join(parts)) if parts else None


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary, inverted.

    GPT-2's table: a printable Latin-1 byte stands for itself, the others take the characters from 256 up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
