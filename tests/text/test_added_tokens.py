"""Do the files beside a vocabulary give the same ids as transformers 5, and does nothing in them surprise the model?"""

import json
from pathlib import Path
from typing import Any

import pytest
from dialocpp.errors import VocabularyWarning
from dialocpp.text.tokenizer import Tokenizer
from small_models import END_OF_TEXT, byte_level_tokenizer, gpt2_config
from tokenizer_texts import write_tables

FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
CONFIG, ADDED, MAP = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"

# What the files beside the vocabulary say -> texts in which it shows.
LAYOUTS: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
    "nothing": ({}, ["plain text"]),
    "added tokens": ({ADDED: {"kappa": 301, "<b>": 302}}, ["x kappa kappas <b>"]),
    "added tokens out of order": ({ADDED: {"lol": 303, "<b>": 301, "omg": 302}}, ["lol<b>omg"]),
    "gaps in their ids": ({ADDED: {"<a>": 305, "<b>": 302}}, ["x<a> <b>"]),
    "an added token of the vocabulary": ({ADDED: {"th": 76, "<b>": 301}}, ["the <b> other"]),
    "pad_token": ({CONFIG: {"pad_token": "[PAD]"}}, ["a[PAD]", "[PAD] [PAD]"]),
    "pad_token of the vocabulary": ({CONFIG: {"pad_token": "!"}}, ["Hi!!"]),
    "three named": ({CONFIG: {"mask_token": "<m>", "sep_token": "<s>", "cls_token": "<c>"}}, ["<s> <c><m>"]),
    "eos_token": ({CONFIG: {"eos_token": "</s>", "unk_token": "<unk>"}}, ["</s> <unk>" + END_OF_TEXT]),
    "no eos_token": ({CONFIG: {"eos_token": None, "pad_token": "<p>"}}, ["<p>"]),
    "additional": ({CONFIG: {"additional_special_tokens": ["<x>", "<y>"]}}, ["<y> <x>"]),
    "extra": ({CONFIG: {"extra_special_tokens": ["<x>"], "additional_special_tokens": ["<z>"]}}, ["<x><z>"]),
    "extra by name": ({CONFIG: {"extra_special_tokens": {"image_token": "<x>"}, "foo_token": "<f>"}}, ["<x><f>"]),
    "a map": (
        {MAP: {"pad_token": {"content": "<p>", **FLAGS, "lstrip": True}}, CONFIG: {"pad_token": "<o>"}},
        ["a <p><o>"],
    ),
    "a map of all": (
        {MAP: {"bos_token": "<bos>", "eos_token": "</s>", "additional_special_tokens": ["<q>"]}},
        ["<q></s><bos>"],
    ),
    "added and special": ({ADDED: {"<a>": 301, "<b>": 302}, MAP: {"additional_special_tokens": ["<b>"]}}, ["<a> <b>"]),
    "added with flags": (
        {
            CONFIG: {
                "added_tokens_decoder": {
                    "300": {"content": END_OF_TEXT, **FLAGS, "special": True},
                    "301": {"content": "<l>", **FLAGS, "lstrip": True, "special": True},
                    "302": {"content": "kappa", **FLAGS, "rstrip": True, "special": False},
                    "303": {"content": "sep", **FLAGS, "single_word": True, "special": False},
                }
            }
        },
        ["a  <l> kappa  b", "sep separate kappas <l><l>"],
    ),
    "only the decoder counts": (
        {
            CONFIG: {
                "added_tokens_decoder": {
                    "300": {"content": END_OF_TEXT, **FLAGS, "special": True},
                    "301": {"content": "<a>", **FLAGS, "special": True},
                }
            },
            ADDED: {"<b>": 302},
            MAP: {"pad_token": "<p>"},
        },
        ["<a><b><p>"],
    ),
    "a class of its own": (
        {CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<p>", "eos_token": "</s>"}},
        ["<p></s>"],
    ),
}


def folder_of(folder: Path, base: str, files: dict[str, dict[str, Any]]) -> Path:
    if base == "tables":
        write_tables(folder)
    else:
        byte_level_tokenizer(301).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(gpt2_config(vocab_size=301)))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("base", ["json", "tables"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_equal_those_of_transformers(tmp_path: Path, base: str, layout: str) -> None:
    transformers = pytest.importorskip("transformers")
    files, texts = LAYOUTS[layout]
    if layout == "a class of its own" and base == "tables":
        pytest.skip("transformers cannot build that class from tables")
    folder = folder_of(tmp_path, base, files)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    assert {i: t.content for i, t in ours._tokenizer.get_added_tokens_decoder().items()} == {
        i: t.content for i, t in theirs.added_tokens_decoder.items()
    }
    for text in texts:
        assert ours.encode(text, special_tokens=True) == theirs(text, add_special_tokens=False)["input_ids"], text
        special = set(theirs.all_special_ids) | {i for i, t in theirs.added_tokens_decoder.items() if t.special}
        assert not (special - {0}) & set(ours.encode(text)), text  # 0 is "!", which text cannot do without
    if theirs.eos_token_id is not None:
        assert ours.eos_token_id == theirs.eos_token_id


@pytest.mark.parametrize(
    ("added", "text"),
    [
        ("kappa", "a kappa b"),
        ("omg", "omgomg"),
        ("〈x〉", "〈x〉 y"),
        (" so", "so so so"),
        ("naïve", "so naïve!"),
        ("😀", "😀"),
    ],
)
@pytest.mark.parametrize("base", ["json", "tables"])
def test_ordinary_added_words_are_matched_as_transformers_does(
    tmp_path: Path, base: str, added: str, text: str
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_of(tmp_path, base, {ADDED: {added: 301}})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    ours = Tokenizer.from_folder(folder)
    assert ours.encode(text) == ours.encode(text, special_tokens=True) == theirs
    assert 301 in theirs


# More tokens than rows

SURPLUS = [
    {ADDED: {"kappa": 301}},
    {CONFIG: {"pad_token": "[PAD]"}},
    {CONFIG: {"additional_special_tokens": ["<user>", "<bot>"]}},
    {
        CONFIG: {
            "added_tokens_decoder": {
                "301": {"content": "kappa", "lstrip": True},
                "302": {"content": "<x>", "special": True},
            }
        }
    },
    {MAP: {"eos_token": "</s>"}},
]


@pytest.mark.parametrize("files", SURPLUS, ids=str)
def test_tokens_without_a_row_are_left_out_with_one_warning(tmp_path: Path, files: dict[str, dict[str, Any]]) -> None:
    folder = folder_of(tmp_path, "tables", files)
    with pytest.warns(
        VocabularyWarning, match=r"expected token ids below 301 .*, found ids up to 30\d; text is"
    ) as caught:
        tokenizer = Tokenizer.from_folder(folder, rows=301)
    assert len(caught) == 1
    for text in ("a kappa b kappa", "[PAD][PAD]", "<user>hi<bot> <x>", "</s>"):
        for special in (False, True):
            ids = tokenizer.encode(text, special_tokens=special)
            assert max(ids) < 301 and tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id == 300 and max(tokenizer.special_token_ids) < 301


@pytest.mark.parametrize("rows", [97, 200, 299, 300])
def test_ordinary_tokens_without_a_row_are_spelled_in_others(tmp_path: Path, rows: int) -> None:
    folder = folder_of(tmp_path, "tables", {CONFIG: {"eos_token": "a"}})
    with pytest.warns(VocabularyWarning, match="found ids up to"):
        tokenizer = Tokenizer.from_folder(folder, rows=rows)
    for text in ("the other hand", "in the end is it", "abc"):
        assert max(tokenizer.encode(text)) < rows


def test_rows_without_a_token_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "tables", {})
    assert Tokenizer.from_folder(folder, rows=301).nameless_ids == ()
    assert Tokenizer.from_folder(folder, rows=304).nameless_ids == (301, 302, 303)
