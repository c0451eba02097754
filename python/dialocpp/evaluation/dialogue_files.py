"""Which texts does a file hold? Dialogues as JSON lines, or one text a line, as token ids."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dialocpp.prompt.turns import Turn, turn_ids
from dialocpp.text.tokenizer import Tokenizer

# Written for this purpose, so that a report needs no file. It says less than a file of one's own dialogues.
SAMPLE = Path(__file__).with_name("sample.jsonl")


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, without their ends; an empty line is an empty text. ValueError if it is not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, found {error}; check the file.") from error
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def read_dialogues(path: Path) -> Iterator[list[str]]:
    """The turns of each line `{"turns": [...]}` of a .jsonl or .jsonl.xz file. ValueError names a line that is none."""
    for number, line in _lines(path):
        yield _turns(line, f"{path}, line {number}")


def token_ids(path: Path, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """The texts of a .jsonl or .jsonl.xz file of `{"turns": [...]}`, or of any other file one text a line.

    A dialogue is its turns, each followed by end-of-text. ValueError names the line that is neither.
    """
    if path.name.removesuffix(".xz").endswith(".jsonl"):
        for turns in read_dialogues(path):
            encoded = [Turn("user", turn, tuple(tokenizer.encode(turn))) for turn in turns]
            yield turn_ids(encoded, tokenizer.eos_token_id)
    else:
        yield from (tokenizer.encode(line.rstrip("\r\n")) for _, line in _lines(path) if line.strip())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with _opened(path) as file:
            yield from enumerate(file, start=1)
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected text in UTF-8, found {error}; check the file.") from error


def _opened(path: Path) -> IO[str]:
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8")


def _turns(line: str, where: str) -> list[str]:
    try:
        value: Any = json.loads(line)
        turns = value["turns"]
        if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns):
            return turns
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f'{where}: expected an object {{"turns": ["text", ...]}}, found {line.strip()[:60]!r}.')
