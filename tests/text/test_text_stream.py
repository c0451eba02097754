"""Are the pieces of a stream, joined, what decode gives, for any ids and every family of tokenizers?"""

import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from dialocpp.text.reply_text import ReplyText
from dialocpp.text.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import END_OF_TEXT, byte_level_tokenizer
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["▁hello", "▁", "▁▁", "lo", "▁you", "é", "▁😀", "、", "\ufffd", "."]


def byte_level() -> Inner:
    inner = byte_level_tokenizer(301)
    inner.add_tokens(["〈smile〉", "ÿ", " so"])
    return inner


def metaspace(scheme: str) -> Inner:
    inner = Inner(models.Unigram([(piece, -1.0) for piece in ["<unk>", END_OF_TEXT, *WORDS]], 0))
    inner.decoder = decoders.Metaspace("▁", scheme)
    return inner


def byte_fallback() -> Inner:
    """What our reader makes of a spiece.model with bytes."""
    inner = Inner(models.Unigram([(piece, -1.0) for piece in ["<unk>", END_OF_TEXT, *WORDS, *BYTES]], 0, True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "always")])
    return inner


def llama() -> Inner:
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", END_OF_TEXT, *WORDS, *BYTES])}
    inner = Inner(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    return inner


def word_piece() -> Inner:
    pieces = [
        "[UNK]",
        END_OF_TEXT,
        "hello",
        "##s",
        "##ing",
        "you",
        ".",
        "!",
        "n't",
        "do",
        "'",
        "'s",
        "今",
        "\ufffd",
        "##\ufffd",
    ]
    inner = Inner(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.decoder = decoders.WordPiece()
    return inner


def suffix() -> Inner:
    pieces = ["<unk>", END_OF_TEXT, "he", "llo</w>", "you</w>", ".</w>", "é</w>", "a"]
    inner = Inner(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], end_of_word_suffix="</w>"))
    inner.decoder = decoders.BPEDecoder()
    return inner


def words() -> Inner:
    inner = Inner(
        models.WordLevel({word: i for i, word in enumerate(["<unk>", END_OF_TEXT, "hello", "you", "."])}, "<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return inner


FAMILIES: dict[str, Callable[[], Inner]] = {
    "byte level": byte_level,
    "metaspace": lambda: metaspace("always"),
    "metaspace, no prefix": lambda: metaspace("never"),
    "metaspace, first": lambda: metaspace("first"),
    "byte fallback": byte_fallback,
    "llama": llama,
    "word piece": word_piece,
    "suffix": suffix,
    "words": words,
}


@cache
def tokenizer_of(family: str, tidy: bool = False) -> Tokenizer:
    inner = FAMILIES[family]()
    inner.add_special_tokens([END_OF_TEXT])
    folder = Path(mkdtemp())
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"clean_up_tokenization_spaces": tidy, "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    return Tokenizer.from_folder(folder)


def streamed(tokenizer: Tokenizer, ids: list[int], skip: bool) -> str:
    stream = tokenizer.stream(skip_special_tokens=skip)
    return "".join([*map(stream.push, ids), stream.flush()])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_pieces_joined_are_what_decode_gives(family: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(family, data.draw(st.booleans()))
    # One id more than there are: a row of the model's matrix that stands for no token.
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size), max_size=16))
    for skip in (False, True):
        decoded = tokenizer.decode(ids, skip_special_tokens=skip)
        assert streamed(tokenizer, ids, skip) == decoded
    reply = ReplyText(tokenizer, ())
    said = "".join(map(reply.push, ids)) + reply.flush()
    assert decoded.startswith(said) and set(decoded[len(said) :]) <= {"\ufffd"}


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family not in ("byte level", "byte fallback", "llama")]
)
def test_all_short_sequences(family: str) -> None:
    tokenizer = tokenizer_of(family)
    for length in range(4):
        for ids in itertools.product(range(tokenizer.vocab_size), repeat=length):
            assert streamed(tokenizer, list(ids), False) == tokenizer.decode(ids), ids


@pytest.mark.parametrize("family", ["byte fallback", "llama"])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xf0\x9f", "\ufffd\ufffd"),
        ("😀".encode(), "😀"),
        ("😀é".encode(), "😀é"),
        (b"\xc3\xa9\xff", "\ufffd" * 3),
        (b"a", "a"),
    ],
)
def test_a_run_of_bytes_is_text_or_not_as_a_whole(family: str, data: bytes, text: str) -> None:
    tokenizer = tokenizer_of(family)
    run = [tokenizer._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in data]
    hello, you = (tokenizer._tokenizer.token_to_id(piece) for piece in ("▁hello", "▁you"))
    for ids, whole in (
        ([hello, *run, you], f"hello{text} you"),
        ([*run, you], f"{text} you"),
        ([hello, *run], f"hello{text}"),
    ):
        assert streamed(tokenizer, ids, False) == tokenizer.decode(ids) == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_decode_is_that_of_the_tokenizers_package(family: str) -> None:
    tokenizer = tokenizer_of(family)
    for ids in ([2, 3, 4], [5, 5], [1, 2, 1], [7, 6, 3, 2]):
        for skip in (False, True):
            assert tokenizer.decode(ids, skip) == tokenizer._tokenizer.decode(ids, skip_special_tokens=skip)


def test_a_piece_is_shown_as_soon_as_it_is_sure() -> None:
    tokenizer = tokenizer_of("byte fallback")
    id_of = tokenizer._tokenizer.token_to_id
    stream = tokenizer.stream()
    ids = [id_of("▁hello"), id_of("<0xC3>"), id_of("<0xA9>"), id_of("▁you"), id_of(".")]
    assert [stream.push(id_) for id_ in ids] == ["hello", "", "", "é you", "."]


@pytest.mark.parametrize("id_", [-1, 2**32, 2**40, -(2**70)])
def test_what_can_be_no_id(id_: int) -> None:
    with pytest.raises(ValueError, match="expected token ids from 0 up, found"):
        tokenizer_of("byte level").decode([1, id_])
