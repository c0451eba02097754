"""Which replies are refused, and is nothing shown that might still be refused?"""

import pytest
from dialocpp.chat.guards import ECHO, EMPTY, FILTERED, REPEAT, Guard, is_blank, key_of, words_of
from dialocpp.prompt.turns import Turn
from hypothesis import given
from hypothesis import strategies as st

SAID = ["I like music. I listen to jazz every single evening.", "Yes.", "Do you have any pets?", "No way!"]


def guard(message: str = "Where do you live then?", **rules: object) -> Guard:
    turns = [Turn("assistant", text, ()) for text in SAID]
    settings = {"empty": True, "echo": True, "reply_filter": None} | rules
    return Guard.against(turns, message, SAID[-1], **settings)  # type: ignore[arg-type]


REFUSED = {
    "": EMPTY,
    " \n\t": EMPTY,
    "\u200b\ufeff ": EMPTY,
    "do you have ANY pets": REPEAT,
    "Do  you have any pets?!?": REPEAT,
    "where do you live, then": REPEAT,
    "no way": REPEAT,
    "Well, hello. I listen to jazz every single evening. And you?": ECHO,
    "I listen to jazz every single evening!": ECHO,
    "I went to the park. I went to the park.": ECHO,
    "go on " * 10: ECHO,
    "ha " * 9: ECHO,
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    assert guard().verdict(text) == REFUSED[text]
    assert Guard().verdict(text) is None, "no rule was asked for"


@pytest.mark.parametrize("text", ["Yes.", "Yes!", "I like music.", "😀", "...", "Do you have any pets or children?"])
def test_what_may_be_said(text: str) -> None:
    assert guard().verdict(text) is None


def test_a_short_reply_is_not_given_twice_in_a_row() -> None:
    assert guard().verdict("No way.") == REPEAT
    assert guard(message="No way").verdict("yes") is None
    emoji = Guard.against([Turn("assistant", "😀", ())], "a", "😀", empty=True, echo=True, reply_filter=None)
    assert emoji.verdict(" 😀 ") == REPEAT
    assert emoji.verdict("😡") is None


def test_words_of_other_languages() -> None:
    assert words_of("你好吗？ Don't  ÉTÉ") == ["你", "好", "吗", "dont", "été"]
    turns = [Turn("assistant", "我喜欢音乐。", ())]
    chinese = Guard.against(turns, "好", "嗯", empty=True, echo=True, reply_filter=None)
    assert chinese.verdict("我喜欢音乐") == REPEAT
    assert chinese.verdict("真的。我喜欢音乐。你呢？") == ECHO
    assert chinese.verdict("我不喜欢") is None


def test_a_list_of_words_is_a_filter() -> None:
    words = guard(echo=False, reply_filter=["dog", "ice cream"])
    for text in ("A DOG!", "Ice-cream", "my dog's", "dog", "ＤＯＧ", "d\u200bog"):
        assert words.verdict(text) == FILTERED, text
    for text in ("dogma", "dogma and ice, cream on ice", "an icecream"):
        assert words.verdict(text) is None, text


def test_a_function_refuses_by_false_alone() -> None:
    for answer, verdict in ((False, FILTERED), (True, None), (None, None)):
        assert guard(reply_filter=lambda text, answer=answer: answer).verdict("fine") == verdict


REPLIES = [*REFUSED, *SAID, "I like rap. I listen to jazz every morning.", "Do you have a dog?"]
TEXTS = st.one_of(
    st.sampled_from(REPLIES),
    st.text(max_size=20),
    st.lists(st.sampled_from([*SAID, " ", "I", "x."]), max_size=4).map("".join),
)


@given(TEXTS)
def test_nothing_is_shown_that_is_refused_later(text: str) -> None:
    """Piece by piece, as a stream does: whole repetitions and empty replies are seen before anything is released."""
    rules = guard()
    if not any(not rules.holds(text[:end]) for end in range(1, len(text) + 1)):
        return
    assert rules.verdict(text) not in (EMPTY, REPEAT)


@given(st.text(max_size=30))
def test_keys_forget_case_spaces_and_punctuation(text: str) -> None:
    assert is_blank(text) == (not any(not is_blank(character) for character in text))
    if words_of(text):
        assert key_of(f"  {text} ") == key_of(text)
