"""Which tokens would complete a bad word now, however the word is capitalised, spaced and cut into tokens?

A word is bad where no letter continues it on either side: banning "ass" leaves "class" and "assume" alone. One regular
expression a word says so; everything else here finds quickly which tokens it would match.

The end of the text counts as the end of a word, at every moment. So the text never holds a bad word, not even for one
step of a stream, nor when a limit, a deadline or the caller cuts the reply. The price: a longer word can only be said
with tokens that do not break it right after the bad one, as " assume" does and "ass" + "ume" would not.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
import weakref
from collections.abc import Iterator, Sequence

from dialocpp.text.tokenizer import Tokenizer

# Scripts that put no spaces between words: a word of theirs is bad wherever it stands.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff66-\uffdc"
_LETTER = rf"(?:(?![{_UNSPACED}\U00020000-\U0003ffff])[^\W\d_])"
_MARK = rf"(?:[^\w ]|[{_UNSPACED}\U00020000-\U0003ffff])"

_SPACES = re.compile(r"\s+")
_SPACES_AT_MARKS = re.compile(rf"(?<={_MARK}) | (?={_MARK})")
_CONTINUATION = re.compile(rb"[\x80-\xbf]")


def canonical(text: str) -> str:
    """The form in which texts are compared: lower case, one space for any, none beside punctuation or in Chinese.

    A tokenizer may put those spaces into a text, or clean them out of it, after the tokens were chosen.
    """
    low = text.lower()
    if len(low) != len(text):  # one character's lower case is two: then it stays as it is
        low = "".join(low if len(low := char.lower()) == 1 else char for char in text)
    return _SPACES_AT_MARKS.sub("", _SPACES.sub(" ", low))


class Vocabulary:
    """What each token adds to a text. Made once for a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.pieces: list[bytes] = tokenizer.pieces()
        texts = [canonical(piece.decode(errors="replace")).lstrip() for piece in self.pieces]
        self.continuations = frozenset(i for i, piece in enumerate(self.pieces) if _CONTINUATION.match(piece))
        self._joined = "".join(f"\n{text}" for text in texts)  # canonical text holds no newline
        self._starts = [0, *itertools.accumulate(len(text) + 1 for text in texts)]
        self.words = functools.lru_cache(maxsize=32)(functools.partial(BadWords, self))

    def holding(self, text: str) -> Iterator[int]:
        """The tokens whose canonical text holds this one; those that begin with it if it begins with a newline."""
        place = self._joined.find(text)
        while place >= 0:
            token = bisect.bisect_right(self._starts, place) - 1
            yield token
            place = self._joined.find(text, self._starts[token + 1])

    def text_bytes(self, token: int) -> bytes:
        """Nothing for a token that the tokenizer does not have."""
        return self.pieces[token] if token < len(self.pieces) else b""


class BadWords:
    """The tokens that a list of bad words bans, at each moment of a reply. Immutable; safe from many threads."""

    def __init__(self, vocabulary: Vocabulary, words: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._patterns = {word: _pattern(word) for word in map(_canonical_word, words) if word}
        self._reach = max(map(len, self._patterns), default=0) + 1
        self._prefixes: dict[str, list[str]] = {}
        for word in self._patterns:
            for length in range(1, len(word)):
                self._prefixes.setdefault(word[:length], []).append(word)
        used = set("".join(self._patterns))
        self._letter = next(char for char in map(chr, range(0x250, 0x2B0)) if char not in used)
        self._digit = next(char for char in map(chr, range(0x660, 0x66A)) if char not in used)
        # (token, word): the token's own text holds the word, if a word begins where the token does.
        self._inside = [(token, word) for word in self._patterns for token in vocabulary.holding(word)]
        self._banned_after = functools.lru_cache(maxsize=4096)(self._find_banned)
        in_word, in_number = (set(self._completed(kind, b"")) for kind in (self._letter, self._digit))
        self._always = (in_word & in_number) - vocabulary.continuations

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
        data = b""
        for token in reversed(generated):
            data = self._vocabulary.text_bytes(token) + data
            # A character has up to 4 bytes, so canonical() is asked when it may be enough.
            if len(data) > self._reach and len(canonical(data.decode(errors="ignore"))) > self._reach:
                break
        pending = _unfinished(data)
        text = canonical(data[: len(data) - len(pending)].decode(errors="replace"))
        said = text.rstrip()
        for length in range(min(self._reach, len(said)), 0, -1):
            start = said[-length:]
            if start in self._prefixes and not _same_kind(said[-length - 1 : -length], start[0]):
                return start + text[len(said) :], pending
        kind = self._letter if re.match(_LETTER, text[-1:]) else self._digit if text[-1:].isdigit() else ""
        return kind, pending

    def _find_banned(self, before: str, pending: bytes) -> tuple[int, ...]:
        return tuple(sorted(set(self._completed(before, pending)) - self._always))

    def _completed(self, before: str, pending: bytes) -> Iterator[int]:
        """The tokens with which the text `before`, which holds no bad word, would hold one."""
        head = before.encode() + pending
        for token, word in self._candidates(before, pending):
            text = canonical((head + self._vocabulary.text_bytes(token)).decode(errors="replace"))
            if self._patterns[word].search(text):
                yield token

    def _candidates(self, before: str, pending: bytes) -> Iterator[tuple[int, str]]:
        yield from self._inside
        said = before.rstrip()
        for length in range(len(said), 0, -1):
            for word in self._prefixes.get(said[-length:], ()):
                for token in self._vocabulary.holding("\n" + word[length:].lstrip()):
                    yield token, word
        if pending:
            for token in self._vocabulary.continuations:
                for word in self._patterns:
                    yield token, word


_VOCABULARIES: weakref.WeakKeyDictionary[Tokenizer, Vocabulary] = weakref.WeakKeyDictionary()


def bad_words(tokenizer: Tokenizer, words: Sequence[str]) -> BadWords:
    """What these words ban, made once."""
    vocabulary = _VOCABULARIES.get(tokenizer)
    if vocabulary is None:
        vocabulary = _VOCABULARIES[tokenizer] = Vocabulary(tokenizer)
    return vocabulary.words(tuple(words))


def _canonical_word(word: str) -> str:
    return canonical(unicodedata.normalize("NFC", word)).strip()


def _pattern(word: str) -> re.Pattern[str]:
    """The word where its own letters, or digits, do not go on."""
    left, right = (
        _LETTER if re.match(_LETTER, char) else r"\d" if char.isdigit() else None for char in (word[0], word[-1])
    )
    before = rf"(?<!{left})" if left else ""
    after = rf"(?!{right})" if right else ""
    return re.compile(before + re.escape(word) + after)


def _same_kind(left: str, right: str) -> bool:
    """Do both characters belong to one word, or to one number?"""
    if not left:
        return False
    letters = re.match(_LETTER, left) is not None and re.match(_LETTER, right) is not None
    return letters or (left.isdigit() and right.isdigit())


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
