"""Can a user's text become a token that means something to the program, in any layout of the tokenizer's files?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dialocpp.text.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import END_OF_TEXT, byte_level_tokenizer
from tokenizer_texts import write_tables
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Inner

CONFIG, ADDED, MAP, MODEL = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "config.json"
GENERATION = "generation_config.json"


def tables(folder: Path) -> None:
    write_tables(folder)


def from_json(folder: Path) -> None:
    byte_level_tokenizer(301).save(str(folder / "tokenizer.json"))


def not_special(folder: Path) -> None:
    """The end of a turn and three more stand in tokenizer.json as ordinary added words."""
    inner = byte_level_tokenizer(301)
    inner.add_tokens([AddedToken(name, special=False) for name in ("<eos>", "<speaker2>", "<pad>", "[CLS]")])
    inner.add_tokens([AddedToken("<wide>", special=False, lstrip=True, rstrip=True)])
    content = json.loads(inner.to_str())
    for token in content["added_tokens"]:
        token["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content))


def merged(folder: Path) -> None:
    """Merges that spell the end of a turn, as an ordinary piece of the vocabulary."""
    symbols = [*pre_tokenizers.ByteLevel.alphabet(), "<e", "<eo", "<eos", "<eos>"]
    merges = [("<", "e"), ("<e", "o"), ("<eo", "s"), ("<eos", ">")]
    inner = Inner(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = byte_level_tokenizer(301).decoder
    inner.add_special_tokens([END_OF_TEXT])
    inner.save(str(folder / "tokenizer.json"))


def whole_words(folder: Path) -> None:
    """A vocabulary of words between spaces: the name of a token is a word like any other."""
    words = ["<unk>", "<eos>", "<pad>", "hello", "you", "<", "eos>", "pad>", "<speaker2>", "h"]
    inner = Inner(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.save(str(folder / "tokenizer.json"))


# The vocabulary, the files beside it, texts, and the ids that none of them may become.
LAYOUTS: dict[str, tuple[Callable[[Path], None], dict[str, dict[str, Any]], list[str], set[int]]] = {
    "the config names the end": (tables, {ADDED: {"<eos>": 301}, MODEL: {"eos_token_id": 301}}, ["<eos>"], {301}),
    "a list of ends": (
        tables,
        {ADDED: {"<a>": 301, "<b>": 302}, MODEL: {"eos_token_id": [301, 302]}},
        ["<a><b>"],
        {301, 302},
    ),
    "generation_config's ends": (
        tables,
        {ADDED: {"<turn>": 301}, GENERATION: {"eos_token_id": [300, 301]}},
        ["<turn>"],
        {301},
    ),
    "json, generation_config": (
        not_special,
        {GENERATION: {"eos_token_id": 301}, MODEL: {"eos_token_id": 300}},
        ["<eos>"],
        {301},
    ),
    "flagged as ordinary": (not_special, {CONFIG: {"eos_token": END_OF_TEXT}}, [END_OF_TEXT], {300}),
    "named by the settings": (
        not_special,
        {CONFIG: {"eos_token": "<eos>", "pad_token": "<pad>"}},
        ["<eos> <pad>"],
        {301, 303},
    ),
    "named by the config": (
        not_special,
        {MODEL: {"pad_token_id": 303, "cls_token_id": 304}},
        ["<pad>[CLS]"],
        {303, 304},
    ),
    "spaces beside it": (
        not_special,
        {MODEL: {"sep_token_id": 305}},
        ["a  <wide>  b", "<wide>", "<wide><wide>"],
        {305},
    ),
    "a map that does not count": (
        tables,
        {CONFIG: {"added_tokens_decoder": {"301": {"content": "<q>", "special": False}}}, MAP: {"mask_token": "<q>"}},
        ["<q>"],
        {301},
    ),
    "additional": (not_special, {CONFIG: {"additional_special_tokens": ["<speaker2>"]}}, ["<speaker2>"], {302}),
    "a piece of the vocabulary": (merged, {MODEL: {"eos_token_id": 259}}, ["<eos>", "a<eos>b", "<e<eos>os>"], {259}),
    "a word of the vocabulary": (
        whole_words,
        {MODEL: {"eos_token_id": 1, "pad_token_id": 2}},
        ["hello <eos>", "<pad>", "<eos> <eos>"],
        {1, 2},
    ),
    "the unknown ends a turn": (whole_words, {MODEL: {"eos_token_id": 0}}, ["<unk> hello", "nobody knows"], {0}),
    "a line ends a turn": (from_json, {MODEL: {"eos_token_id": 95}}, ["one\ntwo", "\n\n"], {95}),
    "a letter ends a turn": (from_json, {MODEL: {"eos_token_id": 64}}, ["a banana"], {64}),
}


def written(folder: Path, layout: str) -> Tokenizer:
    make, files, _, _ = LAYOUTS[layout]
    make(folder)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    named = files.get(MODEL, {}).get("eos_token_id", [])
    return Tokenizer.from_folder(folder, named if isinstance(named, list) else [named])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_text_becomes_a_control_token(tmp_path: Path, layout: str) -> None:
    tokenizer = written(tmp_path, layout)
    _, _, texts, controls = LAYOUTS[layout]
    assert controls <= tokenizer.control_token_ids
    for text in texts:
        assert not tokenizer.control_token_ids & set(tokenizer.encode(text)), text
        if (
            layout not in ("the unknown ends a turn", "a line ends a turn", "a letter ends a turn")
            and "word" not in layout
        ):
            assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nor_do_its_halves_put_together(
    tmp_path_factory: pytest.TempPathFactory, layout: str, data: st.DataObject
) -> None:
    tokenizer = written(tmp_path_factory.mktemp("t"), layout)
    names = [*" ".join(LAYOUTS[layout][2]).split(), "<", ">", " ", "e", "os>", "<<eos>", "a", "\n"]
    text = "".join(data.draw(st.lists(st.sampled_from(names), max_size=8)))
    assert not tokenizer.control_token_ids & set(tokenizer.encode(text))


def test_a_line_that_may_not_end_a_turn_is_a_space(tmp_path: Path) -> None:
    tokenizer = written(tmp_path, "a line ends a turn")
    assert tokenizer.decode(tokenizer.encode("one\ntwo")) == "one two"


@pytest.mark.parametrize(
    "files", [{CONFIG: {"pad_token": "!"}}, {MODEL: {"pad_token_id": 0}}, {MODEL: {"bos_token_id": 0}}]
)
def test_the_only_spelling_of_a_character_stays_text(tmp_path: Path, files: dict[str, dict[str, Any]]) -> None:
    write_tables(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    tokenizer = Tokenizer.from_folder(tmp_path)
    ids = tokenizer.encode("Hi!")
    assert 0 in ids and tokenizer.decode(ids, skip_special_tokens=True) == "Hi!"


def test_ids_to_avoid_can_be_named(tmp_path: Path) -> None:
    """What a chat format emits, special or not."""
    not_special(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert 302 in tokenizer.encode("hi <speaker2>")
    for text in ("hi <speaker2>", "<speaker2><speaker2>", "<speaker<speaker2>2>", "a<speaker2>"):
        ids = tokenizer.encode(text, avoid=[302])
        assert 302 not in ids and tokenizer.decode(ids) == text


def test_every_end_that_a_file_names_ends_a_reply(tmp_path: Path) -> None:
    write_tables(tmp_path, eos_token=END_OF_TEXT)
    (tmp_path / ADDED).write_text('{"<a>": 301, "<b>": 302}')
    (tmp_path / MODEL).write_text('{"eos_token_id": 301}')
    (tmp_path / GENERATION).write_text('{"eos_token_id": [302, 999999]}')
    assert set(Tokenizer.from_folder(tmp_path, [301]).end_token_ids) == {300, 301, 302}


@pytest.mark.parametrize("content", ["<|sep|>", "[SEP]", "</s>", "x y", "%%"])
def test_spaces_beside_a_special_token_are_read_once(tmp_path: Path, content: str) -> None:
    """Each of n spaces was once the beginning of a search through the others; now the text is gone through once."""
    inner = byte_level_tokenizer(301)
    inner.add_special_tokens([AddedToken(content, lstrip=True, rstrip=True, normalized=False)])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    pattern = tokenizer._special_pattern
    assert pattern is not None and r"\s" not in pattern.pattern
    for text in (
        f"a  {content}  b",
        f"{content} {content}",
        f"  {content}",
        f"a{content}b \t\n{content}",
        f"{content}  ",
    ):
        assert tokenizer.encode(text, special_tokens=True) == inner.encode(text).ids, text
    assert len(tokenizer.encode(" " * 200_000, special_tokens=True)) > 1
