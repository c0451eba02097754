"""Is a word what a reader would call the same word, for `bad_words` and `reply_filter` alike?"""

import itertools
import re
import unicodedata

import pytest
from dialocpp.chat.guards import FILTERED, Guard
from dialocpp.text.words import MAX_WORD_LENGTH, Words, fold
from hypothesis import given
from hypothesis import strategies as st

# Kind -> (word of the list, texts that hold it, texts that do not).
SAME: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "made of parts": [
        ("café", ["cafe\u0301", "CAFÉ!", "un CAFE\u0301."], ["cafe", "cafés", "cafe\u0301s"]),
        ("cafe\u0301", ["café"], ["cafe"]),
        ("Ångström", ["A\u030angstro\u0308m", "\u212bngström"], ["Angstrom"]),
        ("한국", ["\u1112\u1161\u11ab\u1100\u116e\u11a8", "한국어"], ["하국", "한구"]),
        ("ñu", ["n\u0303u"], ["nu", "ñus"]),
        ("が", ["か\u3099", "ｶﾞ"[:0] + "が"], ["か"]),
        ("か", ["かな"], ["が", "か\u3099"]),
        ("क", ["क ख"], ["कि"]),
    ],
    "folded": [
        ("straße", ["STRASSE", "Strasse", "STRAẞE"], ["strassen"]),
        ("Groß", ["GROSS", "groß"], ["grosse"]),
        ("ΟΔΟΣ", ["οδος", "οδός"[:0] + "οδοσ"], ["οδοσα"]),
        ("office", ["oﬃce", "OFFICE"], ["offices"]),
        ("istanbul", ["İstanbul", "I\u0307STANBUL"], ["istanbuls"]),
        ("DİREKT", ["direkt", "Dİrekt"], ["direktor"]),
    ],
    "compatibility forms": [
        ("ass", ["ＡＳＳ", "ａｓｓ!", "ⓐⓢⓢ", "𝐚𝐬𝐬", "ªss"], ["ｃｌａｓｓ", "𝐜𝐥𝐚𝐬𝐬"]),
        ("1984", ["１９８４", "𝟏𝟗𝟖𝟒"], ["１９８４5"]),
        ("カタカナ", ["ｶﾀｶﾅ"], ["カタ"]),
        ("tm", ["™"], ["atm"]),
        ("kg", ["㎏"], ["kgb"]),
    ],
    "what cannot be seen": [
        ("damn", ["da\u200bmn", "d\u200da\u2060mn", "\ufeffdamn", "da\u00admn", "da\u034fmn", "d\u202eamn"], ["da mn"]),
        ("❤", ["❤\ufe0f"], ["💔"]),
        ("shut up", ["shut\u200b up", "shut \u200b up"], ["shutup"]),
    ],
    "apostrophes, quotation marks, dashes and spaces": [
        ("don't", ["don’t", "don＇t", "DONʼT", "don`t", "don´t"], ["dont", "don"]),
        ("l’eau", ["l'eau"], ["leau"]),
        ("dog", ["my dog's", "dog’s", "'dog'", "“dog”"], ["dogs", "dogma"]),
        (
            "ice cream",
            ["ice-cream", "ICE\u2011CREAM", "ice  cream", "ice\ncream", "ice\u00a0cream", "ice - cream"],
            ["ice, cream", "icecream"],
        ),
        ("well-known", ["well known", "well – known"], ["wellknown"]),
    ],
    "signs": [
        ("😂", ["lol😂", "😂😂", "ha 😂!"], ["😃"]),
        (":)", ["hi :)", "hi:)", ":))", ": )"], [":(", ":"]),
        ("!!!", ["no!!!", "!!!!", "! ! !"], ["!!"]),
        ("$", ["$5", "5 $", "a$b"], ["dollar"]),
        ("@", ["me@home"], ["at"]),
        ("👍", ["👍🏽", "ok👍"], ["👎"]),
        ("...", ["well…", "so..."], [".."]),
        ("->", ["a -> b", "a->b"], ["a-b"]),
        ("#1", ["we're #1!", "＃１"], ["#12", "1"]),
    ],
    "signs beside letters": [
        ("C#", ["C#", "in c#!", "C♯"[:0] + "c #"], ["C minor", "C", "abC#"]),
        ("f*ck", ["F*CK", "f * ck"], ["fck", "f ck"]),
        ("c++", ["C++ is", "c++11"], ["c", "c+"]),
        (".net", [".NET", "asp.net"], ["net", ".nets"]),
        ("a.m.", ["9 a.m. sharp"], ["am", "a m"]),
    ],
    "where words end": [
        ("ass", ["ASS", "an ass.", "ass1", "_ass_", "kiss-ass"], ["class", "assume", "éass", "assé", "a\u0301ss"]),
        ("坏人", ["大坏人说", "坏 人"], ["坏 的人"]),
        ("12", ["12%", "a12b"], ["123", "012"]),
    ],
}
CASES = [(word, held, free) for cases in SAME.values() for word, held, free in cases]


@pytest.mark.parametrize(("word", "held", "free"), CASES, ids=[ascii(case[0]) for case in CASES])
def test_a_word_is_what_a_reader_would_call_the_same(word: str, held: list[str], free: list[str]) -> None:
    words = Words([word])
    reply_filter = Guard.against([], "hi", "", empty=True, echo=False, reply_filter=[word])
    for text in [word, *held]:
        if text:
            assert words.found(text) and reply_filter.verdict(text) == FILTERED, text
    for text in free:
        assert not words.found(text) and reply_filter.verdict(text) is None, text


def slow(word: str, text: str) -> bool:
    """The definition, by a regular expression on the folded text."""
    word, text = fold(word).strip(), fold(text)
    letter = r"(?:[^\W\d_]|[\u0300-\u036f])"
    start = rf"(?<!{letter})" if re.match(letter, word[0]) else r"(?<!\d)" if word[0].isdigit() else ""
    end = rf"(?!{letter})" if re.match(letter, word[-1]) else r"(?!\d)" if word[-1].isdigit() else ""
    return re.search(f"{start}{re.escape(word)}{end}(?![\u0300-\u036f])", text) is not None


PARTS = [
    "a",
    "ss",
    "é",
    "e\u0301",
    "\u0301",
    " ",
    "-",
    "'",
    "’",
    "#",
    "!",
    "1",
    "2",
    "ß",
    "İ",
    "i",
    "\u0307",
    "\u200b",
    "A",
    ".",
]


@given(
    words=st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join), max_size=4),
    text=st.lists(st.sampled_from(PARTS), max_size=12).map("".join),
)
def test_the_matcher_is_the_definition(words: list[str], text: str) -> None:
    seen = [word for word in words if fold(word).strip()]
    assert Words(seen).found(text) == any(slow(word, text) for word in seen)


def test_folded_text_is_stable_under_joining() -> None:
    """What is known of a text is joined with the next piece: that must give what the whole text gives."""
    parts = [*PARTS, "\n", "*", "坏", "B", "\u3000", "ＡＳ", "–", "한", "ﬁ", "\u0323", "が", "\u3099", "``"]
    for left in map("".join, itertools.product(parts, repeat=2)):
        for right in map("".join, itertools.product(parts, repeat=1)):
            assert fold(fold(left) + right) == fold(left + right), (left, right)


@given(st.text(max_size=12), st.text(max_size=6))
def test_folding_is_stable(text: str, more: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(unicodedata.normalize("NFC", text)) == fold(unicodedata.normalize("NFD", text))
    assert fold(fold(text) + more) == fold(text + more)


@given(
    st.lists(st.text(alphabet="ab c", min_size=1, max_size=3).filter(str.strip), max_size=6),
    st.text(alphabet="ab c", max_size=3),
)
def test_words_that_begin_with_a_text(words: list[str], start: str) -> None:
    listed = Words(words)
    expected = [word for word in listed.folded if word.startswith(start) and word != start]
    assert list(listed.beginning_with(start)) == expected
    assert listed.is_beginning(start) == bool(expected)


@pytest.mark.parametrize("word", ["", " ", "\u200b", "\n\u2060", "x" * (MAX_WORD_LENGTH + 1)], ids=ascii)
def test_words_that_cannot_be_looked_for(word: str) -> None:
    with pytest.raises(ValueError, match="expected words"):
        Words(["fine", word])
