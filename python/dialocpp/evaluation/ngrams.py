"""Which words and n-grams does a text hold, as mteval-v14.pl and DialoGPT's own scripts count them?"""

from __future__ import annotations

import re
from collections import Counter

# mteval-v14.pl's normalisation of Western languages: what is replaced, by what, in this order.
_STEPS = [
    (re.compile(r"<skipped>|-\n"), ""),
    (re.compile(r"\n"), " "),
    (re.compile(r"&quot;"), '"'),
    (re.compile(r"&amp;"), "&"),
    (re.compile(r"&lt;"), "<"),
    (re.compile(r"&gt;"), ">"),
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def words_of(text: str) -> list[str]:
    """Lower-case words, punctuation apart, as mteval-v14.pl tokenises a segment with its default settings."""
    text = f" {text} "
    for pattern, by in _STEPS:
        text = pattern.sub(by, text)
    return text.lower().split()


def count_ngrams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of `order` words occurs."""
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
