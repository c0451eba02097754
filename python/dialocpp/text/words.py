"""When do two texts say the same word to a reader, and where does a text hold a word of a list?

`bad_words` and `reply_filter` both ask here. What does not count: capitals (also ß and SS, İ and i), how a character is
made up (é of one character or two, full-width letters, ligatures), what cannot be seen (zero-width spaces, soft
hyphens), which apostrophe, quotation mark or dash was taken, how wide a space is, whether words are joined by a hyphen
or a space. What counts: every letter, accent, digit, sign and emoji. Letters of other scripts that look alike differ.

A word is held where its own letters, or digits, do not go on: "ass" is not in "class", "C#" is not in "C minor", "cafe"
is not in "café". An apostrophe or another sign is the end of a word: "dog" is in "my dog's". Chinese, Japanese, Thai
and others put no spaces between words: a word of theirs is held wherever it stands. So is one made of signs alone.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

MAX_WORDS = 10_000
MAX_WORD_LENGTH = 1_000  # characters of one word or phrase

LETTER, DIGIT, OTHER = "letter", "digit", "other"

# Scripts that put no spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U00020000-\U0003ffff"
)
# Parts of a Korean syllable that follow its first, and so go on with a character as an accent does.
_JAMO = "\u1160-\u11ff\ud7b0-\ud7ff"
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_ALIKE = {
    **dict.fromkeys(map(ord, "`´‘’‛ʹʻʼʽ′‵＇՚ꞌ"), "'"),
    **dict.fromkeys(map(ord, "“”„‟″＂«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－"), "-"),
    ord("İ"): "i",
}
_SPACES = re.compile(r"\s+")


def fold(text: str) -> str:
    """The form in which texts are compared: equal for what a reader would call the same words.

    Of a text in two parts, the fold of the first part's fold and the second is the fold of the whole.
    """
    if text.isascii():
        if text.isalnum():
            return text.lower()
        text = _UNSEEN.sub("", text).lower().replace("`", "'")
    else:
        text = unicodedata.normalize("NFKD", _UNSEEN.sub("", text).translate(_ALIKE))
        text = unicodedata.normalize("NFKD", text.casefold()).translate(_ALIKE)
        # A dotted capital I in two characters.
        text = _patterns(False).accented_i.sub(lambda found: found[0].replace("\u0307", ""), text)
    patterns = _patterns(text.isascii())
    return patterns.joints.sub(" ", patterns.spaces_at_signs.sub("", _SPACES.sub(" ", text)))


@lru_cache(maxsize=1 << 14)
def kind(char: str) -> str:
    """Of a character of folded text: a letter, a digit, or something at which a word can begin and end."""
    if re.fullmatch(f"[{_UNSPACED}]", char):
        return OTHER
    if char.isdecimal():
        return DIGIT
    # An accent belongs to the letter before it.
    return LETTER if unicodedata.category(char)[0] in "LM" else OTHER


@lru_cache(maxsize=1 << 14)
def goes_on(char: str) -> bool:
    """Does this character belong to the one before it, as an accent does?"""
    return unicodedata.category(char)[0] == "M" or re.fullmatch(f"[{_JAMO}]", char) is not None


class Words:
    """A list of words, folded. Immutable.

    ValueError for more than MAX_WORDS, for one longer than MAX_WORD_LENGTH, or of which nothing can be seen.
    """

    def __init__(self, words: Iterable[str]) -> None:
        given = tuple(words)
        if len(given) > MAX_WORDS:
            raise ValueError(f"expected at most {MAX_WORDS} words, found {len(given)}; leave some out")
        self.folded = sorted({_folded(word) for word in given})
        self.longest = max(map(len, self.folded), default=0)
        self._set = frozenset(self.folded)
        lengths: dict[str, set[int]] = {}
        for word in self.folded:
            lengths.setdefault(word[0], set()).add(len(word))
        self._lengths = {first: tuple(sorted(found)) for first, found in lengths.items()}

    def found(self, text: str) -> bool:
        """Does this text hold one of the words?"""
        return self.found_in_folded(fold(text))

    def found_in_folded(self, text: str) -> bool:
        """`found`, for a text that is folded already."""
        for start, char in enumerate(text):
            for length in self._lengths.get(char, ()):
                end = start + length
                if text[start:end] in self._set and end <= len(text) and _stands_alone(text, start, end):
                    return True
        return False

    def beginning_with(self, start: str) -> Sequence[str]:
        """The words that begin with this and go on."""
        first = bisect_left(self.folded, start)
        last = bisect_left(self.folded, start + chr(0x10FFFF), first)
        return self.folded[first + (first < last and self.folded[first] == start) : last]

    def is_beginning(self, start: str) -> bool:
        """Does a word begin with this and go on?"""
        at = bisect_left(self.folded, start)
        at += at < len(self.folded) and self.folded[at] == start
        return at < len(self.folded) and self.folded[at].startswith(start)


@lru_cache(maxsize=32)
def words_of_list(words: tuple[str, ...]) -> Words:
    """The same list is folded once."""
    return Words(words)


def _folded(word: str) -> str:
    if len(word) > MAX_WORD_LENGTH:
        raise ValueError(f"expected words of at most {MAX_WORD_LENGTH} characters, found {len(word)}; shorten it")
    folded = fold(word).strip()
    if not folded:
        raise ValueError(f"expected words that can be seen, found {word!r}; leave it out")
    return folded


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Do the letters, or digits, of this part not go on beyond it?"""
    return can_begin(text, start) and can_end(text, end)


def can_begin(text: str, at: int) -> bool:
    """Can a word begin here in a folded text?"""
    return not at or not continues(text[at - 1], text[at])


def can_end(text: str, at: int) -> bool:
    """Can a word end before this place in a folded text?"""
    return at == len(text) or not (goes_on(text[at]) or continues(text[at - 1], text[at]))


def continues(left: str, right: str) -> bool:
    """Do two characters that stand side by side belong to one word, or to one number?"""
    return kind(left) == kind(right) != OTHER


class _Patterns:
    def __init__(self, ascii_alone: bool) -> None:
        # All accents take 40 ms to look up, which a first reply in plain English need not wait for: there, any one.
        codes = range(0x300, 0x301 if ascii_alone else 0x1F000)
        accents = _ranges(code for code in codes if unicodedata.category(chr(code))[0] == "M")
        sign = rf"(?:(?![{accents}])[^\w ]|[{_UNSPACED}])"
        word = rf"(?:(?![{_UNSPACED}])[^\W_])"
        self.accented_i = re.compile(f"i[{accents}]+")
        # A tokenizer may put spaces beside signs into a text, or clean them out of it, after its tokens were chosen.
        self.spaces_at_signs = re.compile(rf"(?<={sign}) | (?={sign})")
        self.joints = re.compile(rf"(?<=(?:{word}|[{accents}]))-(?={word})")


@cache
def _patterns(ascii_alone: bool) -> _Patterns:
    return _Patterns(ascii_alone)


def _ranges(codes: Iterable[int]) -> str:
    """Character codes, ascending, as the inside of a regular expression's class."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)
