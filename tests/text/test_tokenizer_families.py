"""Do BERT vocabularies and sentencepiece models mean what they mean to others, and are spaces tidied?"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from dialocpp import ChatSession, Model
from dialocpp.checkpoint import export_checkpoint
from dialocpp.errors import CheckpointError
from dialocpp.text.clean_up import CleanUp, clean_up
from dialocpp.text.tokenizer import Tokenizer
from hypothesis import given
from hypothesis import strategies as st
from small_models import gpt2_config, random_gpt2, write_checkpoint
from tokenizer_texts import STRINGS, write_tables

CHINESE = "今天天气很好你好吗我喜欢学习和聊"
WORDS = [
    "hello",
    "how",
    "are",
    "you",
    "##s",
    "##ing",
    "##er",
    "the",
    "a",
    "b",
    "##b",
    "##a",
    "é",
    "e",
    "naive",
]
LETTERS = [chr(code) for code in range(0x21, 0x7F)]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = list(dict.fromkeys([*SPECIALS, *CHINESE, *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]))
CHAT = [
    "今天天气很好",
    "你好吗？ hello世界",
    "How are YOUs doing?",
    "naïve Café ÉTÉ",
    "[SEP]",
    "你好[SEP]今天[CLS] [UNK]",
    "x" * 150,
    "\x00\u200b\ufffd tabs\tand\nlines",
]


def bert_folder(folder: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "settings",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}],
    ids=str,
)
def test_bert_ids_equal_those_of_transformers(tmp_path: Path, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    ours = Tokenizer.from_folder(bert_folder(tmp_path, **settings))
    theirs = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, **settings)
    for text in CHAT + STRINGS:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, special_tokens=True) == expected, text
        if "[" not in text:
            assert ours.encode(text) == expected
            assert ours.decode(expected) == theirs.decode(expected, clean_up_tokenization_spaces=False)


def test_a_bert_text_never_becomes_a_special_token(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(bert_folder(tmp_path))
    unknown = VOCABULARY.index("[UNK]")  # what a character without a token is, so it may occur
    assert {VOCABULARY[i] for i in tokenizer.special_token_ids} == {
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    }
    for text in CHAT:
        assert not (tokenizer.special_token_ids - {unknown}) & set(tokenizer.encode(text)), text


def test_chinese_chitchat_from_end_to_end(tmp_path: Path) -> None:
    """eos 50256 of the config is not in the vocabulary, so that a turn ends with [SEP]."""
    config = gpt2_config(vocab_size=len(VOCABULARY), n_positions=300, n_layer=1) | {"eos_token_id": 50256}
    gpt2 = random_gpt2(config | {"eos_token_id": VOCABULARY.index("[SEP]")}, end_lift=3)
    folder = write_checkpoint(tmp_path / "m", gpt2)
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 50256}))
    bert_folder(folder)
    for place in (folder, export_checkpoint(folder, tmp_path / "packed")):
        model = Model.from_pretrained(place)
        assert model.eos_token_ids == (VOCABULARY.index("[SEP]"),)
        assert str(ChatSession(model, seed=0).reply("今天天气很好"))


@pytest.mark.parametrize(("content", "found"), [(b"\xff\xfe", "found"), (b"", "no such line"), (b"a\nb\n", "no such")])
def test_broken_bert_vocabularies(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=found):
        Tokenizer.from_folder(tmp_path)


# sentencepiece

SENTENCES = [
    "こんにちは、元気ですか。",
    "今日は天気がいいですね。",
    "Hello, how are you doing today?",
    "The quick brown fox jumps over the lazy dog.",
    "Does money buy happiness? It depends on how much money.",
    "1234567890 and more (numbers) [brackets]",
]


def train(folder: Path, **options: Any) -> Any:
    """A small model, and sentencepiece's own reader of it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    rng = random.Random(0)
    (folder / "text.txt").write_text("\n".join(rng.choices(SENTENCES, k=400)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "spiece"), minloglevel=2,
        hard_vocab_limit=False, **({"vocab_size": 150, "character_coverage": 1.0} | options),
    )  # fmt: skip
    (folder / "text.txt").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nmt_nfkc_cf"},
        {"byte_fallback": True, "vocab_size": 400, "character_coverage": 0.98},
        {"user_defined_symbols": ["<turn>"]},
        {"control_symbols": ["[SEP]", "[CLS]"], "pad_id": 3},
        {"split_by_whitespace": False},
    ],
    ids=str,
)
def test_sentencepiece_ids_equal_its_own(tmp_path: Path, options: dict[str, Any]) -> None:
    theirs = train(tmp_path, **options)
    ours = Tokenizer.from_folder(tmp_path)
    assert (ours.vocab_size, ours.eos_token_id) == (theirs.vocab_size(), theirs.eos_id())
    # Not equal: "\r\n" and "ｶﾞ", single graphemes that tokenizers' copy of the normaliser looks up otherwise.
    texts = [text.replace("\r\n", "\n") for text in STRINGS if "\x00" not in text]
    for text in texts + SENTENCES + ["全角ＡＢＣ　１２３", "ｶ", "<turn>a <turn>"]:
        assert ours.encode(text) == theirs.encode(text), text
    for text in SENTENCES:
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))


def test_a_text_never_becomes_a_control_symbol(tmp_path: Path) -> None:
    train(tmp_path, control_symbols=["[SEP]"])
    tokenizer = Tokenizer.from_folder(tmp_path)
    controls = tokenizer.special_token_ids - {0}  # <unk>
    assert {tokenizer.decode([i]) for i in controls} == {"<s>", "</s>", "[SEP]"}
    for text in ("</s>", "a</s>b <s> [SEP]", "</s></s>", "<</s>/s>", "[[SEP]SEP]"):
        assert not controls & set(tokenizer.encode(text)), text
        assert controls & set(tokenizer.encode(text, special_tokens=True))
    train(tmp_path, control_symbols=["@"])
    with pytest.raises(CheckpointError, match="a control symbol of one character"):
        Tokenizer.from_folder(tmp_path)


def test_lower_case_as_the_settings_say(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "eos_token": "</s>"}')
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("HELLO, How") == tokenizer.encode("hello, how")


def test_other_sentencepiece_models_are_refused(tmp_path: Path) -> None:
    train(tmp_path, model_type="bpe")
    with pytest.raises(CheckpointError, match=r"expected a unigram sentencepiece model in .*, found a .* of type 2"):
        Tokenizer.from_folder(tmp_path)


def test_damaged_sentencepiece_models(tmp_path: Path) -> None:
    train(tmp_path)
    whole = (tmp_path / "spiece.model").read_bytes()
    for length in [*range(200), *range(200, len(whole), 997)]:
        (tmp_path / "spiece.model").write_bytes(whole[:length])
        try:
            Tokenizer.from_folder(tmp_path)
        except CheckpointError as error:
            assert "\n" not in str(error)
    for content in (b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"):
        (tmp_path / "spiece.model").write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a unigram sentencepiece model"):
            Tokenizer.from_folder(tmp_path)


# Spaces

spaced = st.lists(st.sampled_from([*" .?!,'", "n't", "'m", "'s", "'ve", "'re", " ' ", "a", "it", "do"])).map("".join)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Hello , how are you ?", "Hello, how are you?"),
        ("I 'm sure we 've done it , do n't you 're", "I'm sure we've done it, don't you're"),
        ("it 's Tom ' s !", "it's Tom's!"),
        ("  .", " ."),
        ("", ""),
    ],
)
def test_spaces_are_tidied_as_transformers_did(text: str, cleaned: str) -> None:
    assert clean_up(text) == cleaned


@given(text=spaced, cuts=st.lists(st.integers(1, 3)))
def test_pieces_are_tidied_like_the_whole(text: str, cuts: list[int]) -> None:
    stream, shown, rest = CleanUp(), "", text
    for cut in cuts:
        shown, rest = shown + stream.push(rest[:cut]), rest[cut:]
        assert clean_up(text).startswith(shown)
    assert shown + stream.push(rest) + stream.flush() == clean_up(text)


@pytest.mark.parametrize("wanted", [True, False, None])
def test_spaces_are_tidied_where_the_file_says_so(tmp_path: Path, wanted: bool | None) -> None:
    settings = {} if wanted is None else {"clean_up_tokenization_spaces": wanted}
    tokenizer = Tokenizer.from_folder(write_tables(tmp_path, add_prefix_space=False, **settings))
    text = "Hello , you 're here ."
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    shown = "".join([*map(stream.push, ids), stream.flush()])
    assert shown == tokenizer.decode(ids) == ("Hello, you're here." if wanted else text)
