"""Are ids those of transformers, is no special token ever injected, and are pieces whole characters?"""

import json
from pathlib import Path

import pytest
from dialocpp.errors import CheckpointError
from dialocpp.text.reply_text import ReplyText
from dialocpp.text.tokenizer import Tokenizer
from hypothesis import given
from hypothesis import strategies as st
from small_models import END_OF_TEXT, byte_level_tokenizer
from tokenizer_texts import STRINGS, write_tables
from tokenizers import AddedToken


@pytest.fixture(scope="module")
def every_byte(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer that knows every byte, so that characters are cut into several tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level_tokenizer(301).save(str(folder / "tokenizer.json"))
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def gpt2(shared: Path) -> Tokenizer:
    return Tokenizer.from_folder(shared / "data" / "gpt2-tokenizer")


def bytes_to_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """One token for each byte, also where the bytes are no text."""
    by_bytes = {tokenizer._bytes(token): token for token in range(tokenizer.vocab_size)}
    return [by_bytes[bytes([byte])] for byte in data]


# Ids


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_ids_equal_those_of_transformers(gpt2: Tokenizer, shared: Path, text: str) -> None:
    theirs = transformers_tokenizer(shared)
    assert gpt2.encode(text, special_tokens=True) == theirs(text)["input_ids"]
    assert gpt2.encode(text) == theirs(text, split_special_tokens=True)["input_ids"]
    assert gpt2.decode(gpt2.encode(text)) == text


def transformers_tokenizer(shared: Path):
    transformers = pytest.importorskip("transformers")
    folder = shared / "data" / "gpt2-tokenizer"
    return transformers.GPT2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))


def test_gpt2_from_tables(gpt2: Tokenizer) -> None:
    assert (gpt2.vocab_size, gpt2.eos_token_id, gpt2.special_token_ids) == (50257, 50256, frozenset({50256}))
    assert gpt2.encode("Hello world") == [15496, 995]


def test_demo_tokenizer_is_the_same_from_tables_and_from_json(shared: Path, tmp_path: Path) -> None:
    folder = shared / "models" / "demo"
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    from_json, from_tables = Tokenizer.from_folder(folder), Tokenizer.from_folder(tmp_path)
    assert from_json.eos_token_id == from_tables.eos_token_id == 0
    assert from_json.special_token_ids == from_tables.special_token_ids == frozenset({0})
    for text in STRINGS:
        assert from_json.encode(text) == from_tables.encode(text)
        assert from_json.encode(text, special_tokens=True) == from_tables.encode(text, special_tokens=True)


@given(text=st.text())
def test_any_text_survives(every_byte: Tokenizer, text: str) -> None:
    assert every_byte.decode(every_byte.encode(text)) == text


@given(parts=st.lists(st.sampled_from([END_OF_TEXT, "<|", "|>", "endoftext", "<|endof", "text|>", " ", "a"])))
def test_a_text_never_becomes_a_special_token(every_byte: Tokenizer, parts: list[str]) -> None:
    assert not every_byte.special_token_ids & set(every_byte.encode("".join(parts)))


def test_special_tokens_on_request(every_byte: Tokenizer) -> None:
    eos = every_byte.eos_token_id
    expected = [*every_byte.encode("Hi"), eos, eos, *every_byte.encode(" you")]
    assert every_byte.encode(f"Hi{END_OF_TEXT}{END_OF_TEXT} you", special_tokens=True) == expected
    assert every_byte.decode(expected) == f"Hi{END_OF_TEXT}{END_OF_TEXT} you"
    assert every_byte.decode(expected, skip_special_tokens=True) == "Hi you"


def test_flags_of_special_tokens_mean_what_they_mean_to_tokenizers(tmp_path: Path) -> None:
    inner = byte_level_tokenizer(301)
    flags = {"<l>": {"lstrip": True}, "<r>": {"rstrip": True}, "sep": {"single_word": True}, "<l><r>": {}}
    inner.add_special_tokens([AddedToken(name, normalized=False, **flag) for name, flag in flags.items()])
    inner.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.from_folder(tmp_path)
    for text in (
        "a <l> b",
        "a <r>  b",
        "a sep b",
        "separate sep",
        "x<l><r>y",
        " <l> <r> sep",
        "(sep)sep_ sep",
    ):
        assert ours.encode(text, special_tokens=True) == inner.encode(text).ids, text
        assert not ours.special_token_ids & set(ours.encode(text))


def test_truncation_and_padding_in_the_file_are_not_used(tmp_path: Path) -> None:
    inner = byte_level_tokenizer(301)
    inner.enable_truncation(4)
    inner.enable_padding(length=16)
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.decode(tokenizer.encode("a long text, not cut")) == "a long text, not cut"
    assert len(tokenizer.encode("a")) == 1


@pytest.mark.parametrize(("text", "index"), [("\ud800", 0), ("ab\udfffc", 2), ("ok 😀 \ud83d", 5)])
def test_lone_surrogates(every_byte: Tokenizer, text: str, index: int) -> None:
    with pytest.raises(
        ValueError, match=rf"found the lone surrogate '\\ud\w+' at index {index}; remove it or"
    ):
        every_byte.encode(text)


@pytest.mark.parametrize("text", [None, b"bytes", ["list"], 5])
def test_what_is_not_text(every_byte: Tokenizer, text: str) -> None:
    with pytest.raises(TypeError, match="expected a text of type str, found"):
        every_byte.encode(text)


def test_what_is_not_an_id(every_byte: Tokenizer) -> None:
    with pytest.raises(ValueError, match="expected token ids from 0 up, found -1"):
        every_byte.decode([1, -1])
    with pytest.raises(TypeError):
        every_byte.decode([1.5])  # type: ignore[list-item]


# Streams


def pieces(tokenizer: Tokenizer, ids: list[int], skip: bool = False) -> list[str]:
    stream = tokenizer.stream(skip_special_tokens=skip)
    return [*(stream.push(token) for token in ids), stream.flush()]


@given(text=st.text())
def test_pieces_are_the_text(every_byte: Tokenizer, text: str) -> None:
    assert "".join(pieces(every_byte, every_byte.encode(text))) == text


def test_pieces_are_whole_characters(every_byte: Tokenizer) -> None:
    shown = pieces(every_byte, every_byte.encode("né😀!"))
    assert [piece for piece in shown if piece] == ["n", "é", "😀", "!"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xf0\x9f\x98", "\ufffd"),
        (b"ab\xc3", "ab\ufffd"),
        (b" \xf0\x9f", " \ufffd"),
        (b"\xef\xbf\xbd", "\ufffd"),  # the character U+FFFD itself
        (b"a\xef\xbf\xbd\xef\xbf\xbd", "a\ufffd\ufffd"),
        (b"\xef\xbf\xbd\xf0\x9f", "\ufffd\ufffd"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xf0\x9fhello", "\ufffdhello"),
        (b"a\xff", "a\ufffd"),
    ],
)
def test_bytes_that_are_no_character(every_byte: Tokenizer, data: bytes, text: str) -> None:
    ids = bytes_to_ids(every_byte, data)
    assert "".join(pieces(every_byte, ids)) == every_byte.decode(ids) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xf0\x9f\x98", ""), (b"ab\xc3", "ab"), (b"\xef\xbf\xbd\xf0\x9f", "\ufffd"), (b"a\xff", "a\ufffd")],
)
def test_a_reply_ends_before_a_character_that_is_cut_in_two(every_byte: Tokenizer, data: bytes, text: str) -> None:
    reply = ReplyText(every_byte, ())
    ids = bytes_to_ids(every_byte, data)
    assert "".join(map(reply.push, ids)) + reply.flush() == text


def test_special_tokens_in_a_stream(every_byte: Tokenizer) -> None:
    first, rest = every_byte.encode("😀")[:2], every_byte.encode("😀")[2:]
    ids = [*first, every_byte.eos_token_id, *rest]
    assert "".join(pieces(every_byte, ids, skip=True)) == "😀"
    assert pieces(every_byte, [every_byte.eos_token_id]) == [END_OF_TEXT, ""]


def test_a_stream_can_be_used_again_after_flush(every_byte: Tokenizer) -> None:
    stream = every_byte.stream()
    assert stream.push(bytes_to_ids(every_byte, b"\xf0")[0]) == ""
    assert stream.flush() == "\ufffd"
    assert [stream.push(token) for token in every_byte.encode("ok")] == ["o", "k"]


def test_an_added_token_is_its_text(tmp_path: Path) -> None:
    inner = byte_level_tokenizer(301)
    inner.add_tokens(["〈smile〉"])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    ids = tokenizer.encode("a〈smile〉")
    assert len(ids) == 2
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids) == "a〈smile〉"


# Files


def test_tables_with_settings(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tables(tmp_path, add_prefix_space=True, eos_token=END_OF_TEXT))
    assert tokenizer.encode("hello") == tokenizer.encode(" hello")
    assert tokenizer.eos_token_id == 300


@pytest.mark.parametrize(
    ("settings", "specials", "fallback", "eos"),
    [
        ({"eos_token": "<a>"}, {"eos_token": "<b>"}, [5], 302),  # as in transformers
        ({"eos_token": {"content": "<a>", "lstrip": False}}, None, [5], 301),
        ({"eos_token": "not in the vocabulary"}, {"eos_token": "<b>"}, [5], 302),
        ({}, {"eos_token": {"content": "<b>"}}, [5], 302),
        ({"eos_token": None}, None, [5, 6], 5),
        ({}, None, [50256, 6], 6),
        ({}, None, [], 300),
        ({}, None, [50256], 300),
    ],
)
def test_where_the_end_of_text_comes_from(
    tmp_path: Path, settings: dict, specials: dict | None, fallback: list[int], eos: int
) -> None:
    write_tables(tmp_path, pad_token=None, **settings)
    (tmp_path / "added_tokens.json").write_text('{"<a>": 301, "<b>": 302}')
    if specials is not None:
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(specials))
    tokenizer = Tokenizer.from_folder(tmp_path, fallback)
    assert tokenizer.eos_token_id == eos
    assert eos in tokenizer.special_token_ids


def test_no_end_of_text_at_all(tmp_path: Path) -> None:
    content = json.loads(byte_level_tokenizer(301).to_str())
    content["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert Tokenizer.from_folder(tmp_path, [7]).eos_token_id == 7
    with pytest.raises(CheckpointError, match=r"expected an eos_token of the vocabulary .*, found none"):
        Tokenizer.from_folder(tmp_path)


def test_a_special_token_that_tokenizer_json_does_not_call_special(tmp_path: Path) -> None:
    inner = byte_level_tokenizer(301)
    inner.add_tokens(["<turn>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.from_folder(tmp_path).encode("<turn>") == [301]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"additional_special_tokens": ["<turn>"]}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert 301 in tokenizer.special_token_ids
    assert 301 not in tokenizer.encode("<turn>")
    assert tokenizer.encode("<turn>", special_tokens=True) == [301]


TABLES = {"vocab.json": '{"a": 0}', "merges.txt": ""}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"expected tokenizer\.json, .*, found no vocab\.json and no merges"),
        ({"vocab.txt": "[PAD]"}, r"expected \[UNK\] in the vocabulary .*vocab\.txt, found no such line"),
        ({"vocab.json": "{}"}, r"found no merges\.txt; add the tokenizer's files"),
        ({"tokenizer.json": "{}"}, r"expected a tokenizer in .*tokenizer\.json, found"),
        ({"tokenizer.json": "not json"}, r"expected a tokenizer in .*tokenizer\.json, found"),
        (TABLES | {"vocab.json": "[]"}, r"expected a JSON object in .*vocab\.json, found list"),
        (TABLES | {"merges.txt": "a b\n"}, r"tables in .*vocab\.json and merges\.txt, found .*; download them again"),
        (TABLES | {"added_tokens.json": '{"b": "x"}'}, "expected added tokens with ids"),
        (TABLES | {"tokenizer_config.json": "{"}, "expected JSON in"),
        (TABLES | {"tokenizer_config.json": '{"added_tokens_decoder": {"1": 2}}'}, "expected added tokens"),
        (TABLES | {"special_tokens_map.json": "1"}, "expected a JSON object"),
    ],
)
def test_broken_tokenizer_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)
