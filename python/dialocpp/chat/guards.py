"""What must a reply not be? Empty, or what was said before.

Texts are compared as words: case, spaces and punctuation do not count. A short reply ("Yes.") may come again, though
not twice in a row; a whole sentence of five words or more may not, even inside another reply.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dialocpp.errors import ask
from dialocpp.prompt.turns import Turn
from dialocpp.text.words import fold, words_of_list

EMPTY, REPEAT, ECHO, FILTERED = "empty", "repeats a turn", "repeats a sentence", "filtered"

ReplyFilter = Sequence[str] | Callable[[str], bool | None]

_SHORT = 2  # words of a reply that may come again
_SENTENCE = 5  # words of a sentence that may not
_LOOP = 8  # words in a row that repeat one group of words again and again
# Chinese and Japanese are written without spaces: there a character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_ENDED = re.compile(r"(?<=[.!?…])\s|(?<=[。！？])|\n")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(unicodedata.normalize("NFC", fold(text)).replace("'", ""))


def key_of(text: str) -> str:
    """What two texts share that say the same: the words, or for a text without words its visible characters."""
    return " ".join(words_of(text)) or "".join(text.split())


def is_blank(text: str) -> bool:
    """Does a text show nothing? Spaces, control and format characters only."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


@dataclass(frozen=True)
class Guard:
    """The rules for one answer. `turns`: what may not be repeated whole, `sentences`: nor inside, `previous`: the
    bot's last turn; all as keys. Each rule holds only where it was asked for.
    """

    empty: bool = False
    echo: bool = False
    turns: frozenset[str] = frozenset()
    sentences: frozenset[str] = frozenset()
    previous: str = ""
    accepts: Callable[[str], bool | None] | None = None

    @classmethod
    def against(
        cls,
        visible: Sequence[Turn],
        message: str,
        previous: str,
        *,
        empty: bool,
        echo: bool,
        reply_filter: ReplyFilter | None,
    ) -> Guard:
        """Guards the bot's visible turns, the user's message, and the bot's previous turn, visible or not."""
        said = [turn.content for turn in visible if turn.role == "assistant"] + [message, previous]
        long = [sentence for text in said for sentence in _ENDED.split(text) if len(words_of(sentence)) >= _SENTENCE]
        return cls(
            empty=empty,
            echo=echo,
            turns=frozenset(key_of(text) for text in said if len(words_of(text)) > _SHORT) if echo else frozenset(),
            sentences=frozenset(map(key_of, long)) if echo else frozenset(),
            previous=key_of(previous) if echo else "",
            accepts=None if reply_filter is None else _as_function(reply_filter),
        )

    def verdict(self, text: str) -> str | None:
        """Why a finished reply may not be given; None if it may."""
        if is_blank(text):
            return EMPTY if self.empty else None
        if self.echo:
            key = key_of(text)
            if key in self.turns or key == self.previous:
                return REPEAT
            if self.repeats(text, ended=True):
                return ECHO
        return FILTERED if self.accepts is not None and self.accepts(text) is False else None

    def holds(self, text: str) -> bool:
        """May a reply that begins like this still become one that may not be given? Then nothing is shown yet."""
        if is_blank(text):
            return self.empty
        if not self.echo:
            return False
        key = " ".join(words_of(text))
        if any(turn.startswith(key) for turn in (*self.turns, self.previous) if turn):
            return True
        sentence = " ".join(words_of(_ENDED.split(text)[-1]))
        return any(said.startswith(sentence) for said in self.sentences)

    def repeats(self, text: str, ended: bool = False) -> bool:
        """Does a reply, of which this is the beginning, say a long sentence again, or turn in a circle?"""
        if not self.echo:
            return False
        sentences = [words_of(sentence) for sentence in _ENDED.split(text)]
        finished = [" ".join(words) for words in sentences[: None if ended else -1] if len(words) >= _SENTENCE]
        if any(key in self.sentences for key in finished) or len(set(finished)) < len(finished):
            return True
        return _in_a_circle(words_of(text))


def _in_a_circle(words: list[str]) -> bool:
    """Do the last words say one group of words four times or more?"""
    for period in range(1, len(words) // 4 + 1):
        length = max(4 * period, _LOOP)
        tail = words[-length:]
        if len(tail) == length and all(tail[i] == tail[i - period] for i in range(period, length)):
            return True
    return False


def _as_function(reply_filter: ReplyFilter) -> Callable[[str], bool | None]:
    if callable(reply_filter):
        return partial(ask, "reply_filter", reply_filter)
    words = words_of_list(tuple(reply_filter))
    return lambda text: not words.found(text)
