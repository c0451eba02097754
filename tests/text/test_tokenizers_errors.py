"""Does what goes wrong in the tokenizers package reach a caller as an error that a program can catch?"""

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dialocpp.errors import CheckpointError
from dialocpp.text.tokenizer import Tokenizer
from dialocpp.text.tokenizers_errors import guarded
from small_models import byte_level_tokenizer

# Patterns over which the tokenizers' regular expressions give up with a panic, and texts over which they do.
EXPLODING = [
    (r"(a|aa)+$", "a" * 60 + "b"),
    (r"(a|b|ab)+$", "ab" * 40 + "!"),
    (r"(\w|\w\w)+$", "e" * 60 + "!"),
    (r"(x+x+)+y", "x" * 60),
    (r"(o|oo|ooo)+\z", "s" + "o" * 60 + "."),
]


def folder_of(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads(byte_level_tokenizer(301).to_str())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def splitting(pattern: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}

    return change


@pytest.mark.parametrize(("pattern", "text"), EXPLODING)
def test_a_pattern_that_explodes_is_a_value_error(tmp_path: Path, pattern: str, text: str) -> None:
    try:
        tokenizer = Tokenizer.from_folder(folder_of(tmp_path, splitting(pattern)))
    except CheckpointError:
        return  # it gave up over the text that is tried at load
    with pytest.raises(
        ValueError, match=r"expected a text that the tokenizer can take apart, found .*; change or"
    ) as caught:
        tokenizer.encode(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert tokenizer.decode(tokenizer.encode("then on")) == "then on"


def test_some_patterns_explode_over_a_message_alone(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    tokenizer = Tokenizer.from_folder(folder_of(tmp_path, splitting(EXPLODING[0][0])))
    with pytest.raises(ValueError, match="retry-limit-in-match over"):
        tokenizer.encode(EXPLODING[0][1])


CHARSMAPS = [bytes(8), struct.pack("<I", 4) + b"\xff" * 4 + b"x", struct.pack("<I", 8) + bytes(8), b"", b"no charsmap"]


@pytest.mark.parametrize("charsmap", CHARSMAPS, ids=range(len(CHARSMAPS)))
def test_a_garbage_charsmap_is_a_checkpoint_error_or_none(tmp_path: Path, charsmap: bytes) -> None:
    def change(content: dict[str, Any]) -> None:
        text = base64.b64encode(charsmap).decode()
        content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": text}

    try:
        tokenizer = Tokenizer.from_folder(folder_of(tmp_path, change))
    except CheckpointError as error:
        assert "\n" not in str(error) and "expected a tokenizer in" in str(error)
    else:
        assert tokenizer.encode("Hello")


def test_a_charsmap_that_panics_over_any_text_is_found_at_load(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        text = base64.b64encode(bytes(8)).decode()
        content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": text}

    with pytest.raises(CheckpointError, match="that works, found index out of bounds"):
        Tokenizer.from_folder(folder_of(tmp_path, change))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_pass(error: type[BaseException]) -> None:
    def call() -> None:
        raise error

    with pytest.raises(error):
        guarded(ValueError, "anything", "do nothing", call)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9, 1.0, 0.3])
def test_dropout_is_off(tmp_path: Path, dropout: float) -> None:
    """It makes training see a text in many spellings; a conversation must see one."""
    (tmp_path / "plain").mkdir()
    plain = Tokenizer.from_folder(folder_of(tmp_path / "plain", lambda content: None))
    tokenizer = Tokenizer.from_folder(folder_of(tmp_path, lambda content: content["model"].update(dropout=dropout)))
    text = "in the end the other one is there" * 3
    assert all(tokenizer.encode(text) == plain.encode(text) for _ in range(20))
