"""Are vocab.json and merges.txt read as editors and scripts leave them, and is every broken one refused by name?"""

import json
from pathlib import Path

import pytest
from dialocpp.errors import CheckpointError
from dialocpp.text.bpe_tables import read_bpe
from dialocpp.text.tokenizer import Tokenizer

VOCAB = {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5, "Ġa": 6, "<|endoftext|>": 7}
MERGES = "#version: 0.2\na b\nab c\nĠ a\n"
MARK = b"\xef\xbb\xbf"


def folder_of(path: Path, vocab: bytes, merges: bytes) -> Path:
    (path / "vocab.json").write_bytes(vocab)
    (path / "merges.txt").write_bytes(merges)
    return path


@pytest.mark.parametrize("before", [b"", MARK])
@pytest.mark.parametrize("after", [b"", b"\n", b"\n\n\n", b"\r\n", b" \n\t\n"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_what_editors_leave(tmp_path: Path, before: bytes, after: bytes, newline: bytes) -> None:
    merges = MERGES.encode().replace(b"\n", newline)
    folder = folder_of(tmp_path, before + json.dumps(VOCAB).encode() + after, before + merges + after)
    assert Tokenizer.from_folder(folder).encode("abc abca") == [4, 5, 4, 0]


@pytest.mark.parametrize("version", ["", "#version: 0.2 - Trained by a script\n"])
def test_with_and_without_a_version(tmp_path: Path, version: str) -> None:
    folder = folder_of(tmp_path, json.dumps(VOCAB).encode(), (version + "a b\n").encode())
    assert Tokenizer.from_folder(folder).encode("ab") == [3]


def test_merges_of_the_sign_that_begins_the_version(tmp_path: Path) -> None:
    vocab = {"#": 0, "##": 1, "a": 2, "<|endoftext|>": 3}
    folder = folder_of(tmp_path, json.dumps(vocab).encode(), b"#version: 0.2\n# #\n")
    assert Tokenizer.from_folder(folder).encode("##a") == [1, 2]


@pytest.mark.parametrize("number", [2**31, 2**32, 2**32 + 3, 2**63, 10**30, -1, 1.5, True, None, "3", [3]])
def test_ids_that_are_none(tmp_path: Path, number: object) -> None:
    folder = folder_of(tmp_path, json.dumps(VOCAB | {"d": number}).encode(), MERGES.encode())
    with pytest.raises(CheckpointError, match=r"expected token ids from 0 to 2147483647 in .*, found .* for 'd'; down"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("vocab", "merges", "found"),
    [
        (b"{}", MERGES.encode(), "found an empty vocabulary"),
        (b"[]", MERGES.encode(), "expected a JSON object in"),
        (b"[" * 1_000_000, MERGES.encode(), "brackets nested too deep"),
        (json.dumps(VOCAB).encode(), b"a b c\n", r"expected two symbols in line 1 of .*, found 'a b c'"),
        (json.dumps(VOCAB).encode(), b"#version\nab\n", "expected two symbols in line 2 of"),
        (json.dumps(VOCAB).encode(), b"x y\n", "expected GPT-2's tables in"),
        (json.dumps(VOCAB).encode(), b"\xff\xfe\n", "expected UTF-8 in"),
        (json.dumps(VOCAB).encode(), b"z" * 1_000_000, "expected two symbols in line 1"),
    ],
)
def test_broken_tables(tmp_path: Path, vocab: bytes, merges: bytes, found: str) -> None:
    folder_of(tmp_path, vocab, merges)
    with pytest.raises(CheckpointError, match=found) as caught:
        read_bpe(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert len(str(caught.value)) < 1000
