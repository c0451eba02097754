"""Which tokens would complete a bad word now, however the word is written and cut into tokens?

What a word is and where a text holds one, `text/words.py` says; everything here finds quickly which tokens would do it.

The end of the text counts as the end of a word, at every moment. So the text never holds a bad word, not even for one
step of a stream, nor when a limit, a deadline or the caller cuts the reply. The price: a longer word can only be said
with tokens that do not break it right after the bad one, as " assume" does and "ass" + "ume" would not.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import weakref
from collections.abc import Iterator, Sequence

from dialocpp.text.tokenizer import Tokenizer
from dialocpp.text.words import DIGIT, LETTER, OTHER, can_begin, can_end, continues, fold, kind, words_of_list

_CONTINUATION = re.compile(rb"[\x80-\xbf]")
_DENSE = 16  # places in a token where a word can begin


class Vocabulary:
    """What each token adds to a text. Made once for a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.pieces: list[bytes] = tokenizer.pieces()
        self.texts = [fold(piece.decode(errors="replace").lstrip(" ")).lstrip(" ") for piece in self.pieces]
        self.continuations = frozenset(i for i, piece in enumerate(self.pieces) if _CONTINUATION.match(piece))
        # Tokens that begin with an accent: it can change, or change places with, what stands before it.
        self.accents = frozenset(i for i, text in enumerate(self.texts) if text and unicodedata.combining(text[0]))
        # What may be a word in a token, and what may be the end of one at its beginning -> the tokens.
        self._within: dict[str, list[int]] = {}
        self._heads: dict[str, list[int]] = {}
        self.dense = frozenset(i for i, text in enumerate(self.texts) if not self._index(i, text))
        self.words = functools.lru_cache(maxsize=32)(functools.partial(BadWords, self))

    def holding(self, word: str) -> Sequence[int]:
        """The tokens whose folded text holds this word, if one begins where the token does; but for the dense ones."""
        return self._within.get(word, ())

    def completing(self, rest: str) -> Sequence[int]:
        """The tokens that begin with this end of a word, after which no letter goes on; but for the dense ones."""
        return self._heads.get(rest, ())

    def _index(self, token: int, text: str) -> bool:
        """Note the places of a token; False for one with so many signs that it is tried each time instead."""
        if text.isascii() and text.isalpha():
            begins, ends = [0], [len(text)]
        else:
            begins = [at for at in range(len(text)) if can_begin(text, at)]
            ends = [at for at in range(1, len(text) + 1) if can_end(text, at)]
            if len(begins) > _DENSE:
                return False
        for end in ends:
            self._heads.setdefault(text[:end], []).append(token)
            for part in {text[begin:end] for begin in begins if begin < end}:
                self._within.setdefault(part, []).append(token)
        return True

    def text_bytes(self, token: int) -> bytes:
        """Nothing for a token that the tokenizer does not have."""
        return self.pieces[token] if token < len(self.pieces) else b""


class BadWords:
    """The tokens that a list of bad words bans, at each moment of a reply. Immutable; safe from many threads."""

    def __init__(self, vocabulary: Vocabulary, words: tuple[str, ...]) -> None:
        self._vocabulary = vocabulary
        self._words = words_of_list(words)
        self._reach = self._words.longest + 1
        used = set("".join(self._words.folded))
        letter = next(char for char in map(chr, range(0x250, 0x2B0)) if char not in used)
        digit = next(char for char in map(chr, range(0x660, 0x66A)) if char not in used)
        # What stands for all texts that end with a character of this kind and with no beginning of a word.
        self._stand_in = {LETTER: letter, DIGIT: digit, OTHER: ""}
        self._dense = frozenset(token for token in vocabulary.dense if not used.isdisjoint(vocabulary.texts[token]))
        inside = {token for word in self._words.folded for token in vocabulary.holding(word)} | self._dense
        self._inside = {of: frozenset(self._bad(inside, char, b"")) for of, char in self._stand_in.items()}
        self._always = frozenset.intersection(*self._inside.values()) - vocabulary.continuations - vocabulary.accents
        self._banned_after = functools.lru_cache(maxsize=4096)(self._find_banned)

    @property
    def always(self) -> tuple[int, ...]:
        """The tokens that hold a bad word whatever stands before them."""
        return tuple(sorted(self._always))

    def bans(self, generated: Sequence[int]) -> tuple[int, ...]:
        """The tokens, beside `always`, that may not follow these of a reply."""
        return self._banned_after(*self._state(generated))

    def _state(self, generated: Sequence[int]) -> tuple[str, bytes]:
        """What of a text decides about the next token: the longest beginning of a bad word that it ends with (else
        what kind of character it ends with), and the bytes of an unfinished character."""
        data, enough = b"", self._reach + 1
        for token in reversed(generated):
            data = self._vocabulary.text_bytes(token) + data
            # A character has up to 4 bytes, and several can fold to one or none.
            if len(data) >= enough:
                if len(fold(data.decode(errors="ignore"))) > self._reach:
                    break
                enough = 2 * len(data)
        pending = _unfinished(data)
        text = fold(data[: len(data) - len(pending)].decode(errors="replace"))
        ends = [end for end, _ in _open_ends(text)]
        for length in range(self._reach + 2, 0, -1):
            start = text[-length:]
            if len(start) < length or (length < len(text) and continues(text[-length - 1], start[0])):
                continue
            begin = len(text) - length
            if any(self._words.is_beginning(text[begin:end]) for end in ends if end > begin):
                return start, pending
        return self._stand_in[kind(text[-1])] if text else "", pending

    def _find_banned(self, before: str, pending: bytes) -> tuple[int, ...]:
        inside = self._inside[OTHER if pending or not before else kind(before[-1])]
        joined = (self._vocabulary.continuations if pending else frozenset()) | self._vocabulary.accents | self._dense
        found = self._bad({*self._candidates(before), *joined}, before, pending)
        return tuple(sorted((inside - joined | found) - self._always))

    def _bad(self, tokens: set[int], before: str, pending: bytes) -> set[int]:
        """Those of the tokens with which the text `before`, which holds no bad word, would hold one."""
        head = before.encode() + pending
        texts = ((token, (head + self._vocabulary.text_bytes(token)).decode(errors="replace")) for token in tokens)
        return {token for token, text in texts if self._words.found(text)}

    def _candidates(self, before: str) -> Iterator[int]:
        """The tokens that begin with what a word lacks of which the text ends with the beginning."""
        for end, is_joint in _open_ends(before):
            for start in range(end):
                for word in self._words.beginning_with(before[start:end]):
                    rest = word[end - start :]
                    if rest.startswith(" "):
                        yield from self._vocabulary.completing(rest[1:])
                        if not is_joint:
                            yield from self._vocabulary.completing("-" + rest[1:])
                    elif not is_joint:
                        yield from self._vocabulary.completing(rest)


def _open_ends(text: str) -> Iterator[tuple[int, bool]]:
    """Where a folded text may be taken to end: as it is, before a space, before a hyphen that may yet join two words
    as a space does. Of the last: True."""
    said = text.rstrip(" ")
    yield len(said), False
    if said.endswith("-") and len(said) > 1 and kind(said[-2]) != OTHER:
        yield len(said) - 1, True


_VOCABULARIES: weakref.WeakKeyDictionary[Tokenizer, Vocabulary] = weakref.WeakKeyDictionary()


def bad_words(tokenizer: Tokenizer, words: Sequence[str]) -> BadWords:
    """What these words ban, made once."""
    vocabulary = _VOCABULARIES.get(tokenizer)
    if vocabulary is None:
        vocabulary = _VOCABULARIES[tokenizer] = Vocabulary(tokenizer)
    return vocabulary.words(tuple(words))


def _unfinished(data: bytes) -> bytes:
    """The bytes at the end that only begin a character of UTF-8."""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[-length:] if length < needed else b""
        if byte < 0x80:
            break
    return b""
