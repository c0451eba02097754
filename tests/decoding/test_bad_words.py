"""Can a bad word slip into a reply, in whatever capitals, spaces and tokens, and do longer words still get through?"""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from dialocpp import GenerationConfig, Model, _core
from dialocpp.chat.config import ChatConfig
from dialocpp.decoding.bad_words import BadWords, Vocabulary, bad_words
from dialocpp.text.tokenizer import Tokenizer
from small_models import END_OF_TEXT

WORDS = ("ass", "hell", "shut up", "damn", "f*ck", "know", "was", "it", "don't", "1984")


def bounded(word: str) -> re.Pattern[str]:
    """What the documentation promises, for words of ASCII letters."""
    return re.compile(rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])", re.IGNORECASE)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(num_threads=1)


def tokenizer_of(pieces: list[str]) -> Tokenizer:
    """A byte-level tokenizer with bytes and these pieces, whose vocabulary a test can look through."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = ["".join(part for part, _ in level.pre_tokenize_str(piece)) for piece in pieces]
    vocab = {symbol: i for i, symbol in enumerate(dict.fromkeys([*alphabet, *spelled]))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
    return Tokenizer(tokenizer, len(vocab))


def found(guard: BadWords, text: str) -> bool:
    """Does this text hold a bad word?"""
    return guard._words.found(text)


def slow_bans(guard: BadWords, tokenizer: Tokenizer, ids: list[int]) -> set[int]:
    """The definition: every token of the vocabulary, tried."""
    special = tokenizer.special_token_ids
    texts = {i: tokenizer.decode([*ids, i], skip_special_tokens=True) for i in range(tokenizer.vocab_size)}
    return {i for i, text in texts.items() if i not in special and found(guard, text)}


PIECES = [
    *("ass", " ass", "Ass", " As", "as", "s", "SS", "sume", " assume", "cl", " class", "ass."),
    *("ass hole", ", ass", "(ass"),
    *(" shut", "shut", " up", "up", " Up", "  ", "\n", " up!", "upon", "f", "f*", "*", "*ck", " ck", "uck", "F *"),
    *("é", "É", "caf", " caf", "fé", "и", "муд", " муд", "рый", "ак", "не", "你", "好", "你好", "坏", "坏人", " 坏"),
    *("1984", "19", "84"),
    *("don", "'t", "'", "t", " don", "do", "n't", "x ass y", "b ass", "é ass", "éass"),
    *("’t", "’", "\u200b", "a\u200bss", "ＡＳ", "ｓ", "e", "\u0301", "fe", "\u0301!", "\u00ad"),
    *("ice", " ice", "-", "cream", "-cream", " -", "ice-", " cream", "ice-c", "ream", "- ", "–cream", "--"),
    *("stra", "ß", "ße", "sse", "STRA", "SSE", "ẞ", "İ", "I", "i", "\u0307", "ts", "IT"),
    *("😂", "😂\ufe0f", ":", ")", ":)", "!", "!!", "#", "C", " C", "C#", "♯", "가", "각", "\u11a8", " C minor"),
]
GUARDED = ("ass", "shut up", "f*ck", "café", "мудак", "坏人", "1984", "don't")
GUARDED_TOO = ("Ice Cream", "straße", "its", "😂", ":)", "!!!", "C#", "가", "ice-c–ream", "--C")


@pytest.mark.parametrize("guarded", [GUARDED, GUARDED_TOO, GUARDED + GUARDED_TOO], ids=len)
def test_the_guard_bans_exactly_what_would_complete_a_word(guarded: tuple[str, ...]) -> None:
    """Against the definition, after random texts that hold no bad word yet, half characters included."""
    tokenizer = tokenizer_of(PIECES)
    guard = bad_words(tokenizer, guarded)
    rng = np.random.default_rng(0)
    common = [i for piece in PIECES for i in [tokenizer._tokenizer.token_to_id(_spelled(piece))] if i is not None]
    seen = set()
    for _ in range(60):
        ids: list[int] = []
        while len(ids) < 9:
            expected = slow_bans(guard, tokenizer, ids)
            banned = {*guard.always, *guard.bans(ids)}
            assert banned == expected, (tokenizer.decode(ids), [tokenizer.decode([i]) for i in banned ^ expected])
            seen |= set(guard.bans(ids))
            pool = common if rng.random() < 0.85 else range(tokenizer.vocab_size)
            choices = [i for i in pool if i not in expected]
            ids.append(int(rng.choice(choices)))
    assert len(seen) >= 10 and guard.always


def _spelled(piece: str) -> str:
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(part for part, _ in level.pre_tokenize_str(piece))


def test_words_that_only_contain_a_bad_one_are_free() -> None:
    tokenizer = tokenizer_of(PIECES)
    guard = bad_words(tokenizer, ["ass", "坏人"])
    for text in ("class", "assume", "a basset", "mass.", "éass", "assé", "kiss ass-ume"):
        assert found(guard, text) == (text == "kiss ass-ume")
    for text in ("ass", "ASS", "an ass.", "Ass!", "ass1", "_ass_", "(aSs)", "dumb\nass\n", "大坏人说", "坏 人"):
        assert found(guard, text), text
    spoken = [tokenizer._tokenizer.token_to_id(_spelled(piece)) for piece in (" class", " assume")]
    assert not {*guard.always, *guard.bans([])} & set(spoken)


def test_special_tokens_are_no_text_and_unknown_ids_do_nothing() -> None:
    tokenizer = tokenizer_of(PIECES)
    guard = bad_words(tokenizer, ["ass"])
    as_, s = (tokenizer._tokenizer.token_to_id(piece) for piece in ("as", "s"))
    assert s in guard.bans([as_, tokenizer.eos_token_id]) and s in guard.bans([as_, 10**6])
    assert tokenizer.eos_token_id not in {*guard.always, *guard.bans([as_])}


@pytest.mark.parametrize("seed", range(3))
def test_no_reply_at_any_temperature_holds_a_bad_word(model: Model, seed: int) -> None:
    """Of the bundled model, at high temperature and with the banned words' own tokens made likely."""
    tokenizer, rng = model.tokenizer, np.random.default_rng(seed)
    guard = bad_words(tokenizer, WORDS)
    likely = sorted({id_ for word in WORDS for form in _forms(word) for id_ in tokenizer.encode(form)})
    longer = 0
    for reply in range(14):
        prompt = [*tokenizer.encode("Do you know what it was ?"), tokenizer.eos_token_id]
        config = GenerationConfig(do_sample=True, temperature=1.0 + 0.5 * (reply % 3), top_k=0, bad_words=WORDS)
        rules = config.sampling(
            eos_token_ids=[tokenizer.eos_token_id],
            seed=int(rng.integers(2**32)),
            reply_start=len(prompt),
            penalty_start=0,
            banned_ids=guard.always,
        )
        ids: list[int] = []
        while len(ids) < 24:
            logits = model.logits([*prompt, *ids])[-1]
            logits[likely] += np.float32(4)
            ids.append(_core.testing.choose_once(rules, [*prompt, *ids], logits, bans=guard.bans(ids)))
            if ids[-1] == tokenizer.eos_token_id:
                break
            text = tokenizer.decode(ids, skip_special_tokens=True)
            assert not [word for word in WORDS if bounded(word).search(text)], text
        longer += any(word in text.lower() for word in ("ass", "hell", "know", "was", "it"))
    assert longer, "longer words that contain one are still said"


def _forms(word: str) -> list[str]:
    return [space + form for space in ("", " ") for form in (word, word.title(), word.upper())]


def test_without_the_guard_the_words_are_said(model: Model) -> None:
    """Else the test above would prove nothing."""
    text = model.generate("Do you know what it was ?<|endoftext|>", max_new_tokens=40, min_new_tokens=40)[0].text
    assert any(bounded(word).search(text) for word in WORDS), text


def test_tokens_that_always_hold_a_bad_word_are_banned_by_the_core(model: Model) -> None:
    guard = bad_words(model.tokenizer, WORDS)
    texts = {model.tokenizer.decode([id_]).strip().lower() for id_ in guard.always}
    assert texts >= {"ass", "hell", "know", "was", "it"}
    length = {"max_new_tokens": 40, "min_new_tokens": 40}
    (said,) = model.generate("Do you know what it was ?<|endoftext|>", bad_words=WORDS, **length)
    assert not set(said.token_ids) & set(guard.always)


@pytest.mark.parametrize("pieces", [["ass", "##ume", "cl", "##ass", "坏", "人", "'", "t", "don", "!", "shut", "up"]])
def test_wordpiece_tokens_bring_their_spaces(pieces: list[str]) -> None:
    vocab = {piece: i for i, piece in enumerate(["[UNK]", "a", *pieces, "[SEP]"])}
    wordpiece = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    wordpiece.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = tokenizers.decoders.WordPiece()
    wordpiece.add_special_tokens(["[SEP]"])
    tokenizer = Tokenizer(wordpiece, vocab["[SEP]"])
    guard = bad_words(tokenizer, ["ass", "坏人", "don't", "shut up"])
    for length in (0, 1, 2):
        for ids in itertools.product(range(1, len(vocab)), repeat=length):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            if not found(guard, text):
                assert {*guard.always, *guard.bans(ids)} == slow_bans(guard, tokenizer, list(ids)), text


def test_a_guard_is_made_once_and_its_vocabulary_goes_with_the_tokenizer(tiny_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_folder)
    assert bad_words(tokenizer, ["x", "y"]) is bad_words(tokenizer, ("x", "y"))
    assert bad_words(tokenizer, ["x"]) is not bad_words(tokenizer, ["y"])
    assert Vocabulary(tokenizer).pieces[tokenizer.eos_token_id] == b""


@pytest.mark.parametrize("arguments", [{}, {"do_sample": True, "temperature": 1.5, "seed": 3}, {"num_beams": 3}])
def test_generate_keeps_bad_words_out(model: Model, arguments: dict[str, Any]) -> None:
    lines = ("Do you know what it was ?", "Hello", "It was so. Is it?", "know it")
    prompts = [f"{line}<|endoftext|>" for line in lines]
    length = {"max_new_tokens": 30, "min_new_tokens": 20}
    said = [generation.text for generation in model.generate(prompts, bad_words=WORDS, **length, **arguments)]
    assert not [text for text in said if any(bounded(word).search(text) for word in WORDS)], said
    free = [generation.text for generation in model.generate(prompts, **length, **arguments)]
    assert any(bounded(word).search(text) for word in WORDS for text in free)


# Size

def test_many_words_and_long_ones_are_found_and_banned() -> None:
    """No list of all beginnings of all words, no pass over all words at each moment."""
    tokenizer = tokenizer_of(PIECES)
    words = [f"{chr(97 + i % 26)}{i}word" for i in range(9_990)] + ["x" * 1_000, "ass", "shut up"]
    guard = bad_words(tokenizer, words)
    ids = [tokenizer._tokenizer.token_to_id(_spelled(piece)) for piece in (" shut", " up", "ass", "x")]
    assert ids[1] in guard.bans([ids[0]]) and ids[2] in guard.bans([])
    assert ids[3] in guard.bans([ids[3]] * 999) and ids[3] not in guard.bans([ids[3]] * 998)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x"] * 3 + [f"w{i}" for i in range(10_000)], "expected at most 10000 words, found 100"),
        (["x" * 1_001], "expected words of at most 1000 characters, found 1001"),
        (["x" * 100_000], "found 100000; shorten it"),
        (["\u200b"], r"expected words that can be seen, found '\\u200b'; leave it out"),
        (["fine", "\u00ad\ufeff"], "expected words that can be seen"),
    ],
)
def test_lists_that_no_reply_should_pay_for(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationConfig(bad_words=words)
    with pytest.raises(ValueError, match="expected"):
        ChatConfig(reply_filter=words)
