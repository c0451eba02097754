"""Which byte pairs does a GPT-2's vocabulary merge? vocab.json and merges.txt, as they are found in the wild."""

from __future__ import annotations

from pathlib import Path

from tokenizers import models

from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.checkpoint.regular_file import read_text
from dialocpp.errors import CheckpointError, brief

from .tokenizers_errors import guarded

_LARGEST_ID = 2**31 - 1  # the core's ids are int32; the tokenizers package would cut a longer number


def read_bpe(vocab: Path, merges: Path) -> models.BPE:
    """The two tables as a model; CheckpointError if one is broken.

    A byte-order mark at the start and blank lines at the end do not matter.
    """
    ids = read_json_object(vocab)
    if not ids:
        raise CheckpointError(f"expected tokens and their ids in {vocab}, found an empty vocabulary; download it again")
    for token, number in ids.items():
        if type(number) is not int or not 0 <= number <= _LARGEST_ID:
            raise CheckpointError(
                f"expected token ids from 0 to {_LARGEST_ID} in {vocab}, found {brief(number)} for {brief(token)}; "
                "download it again"
            )
    expected = f"GPT-2's tables in {vocab} and {merges.name}"
    pairs = _merges(merges)
    bpe: models.BPE = guarded(CheckpointError, expected, "download them again", lambda: models.BPE(ids, pairs))
    return bpe


def _merges(path: Path) -> list[tuple[str, str]]:
    """One pair a line, in the order of merging; a first line `#version: …` is none."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n")):
        line = line.removesuffix("\r")
        if not line.strip() or (number == 0 and line.startswith("#version")):
            continue
        first, _, second = line.partition(" ")
        if not first or not second or " " in second:
            raise CheckpointError(
                f"expected two symbols in line {number + 1} of {path}, found {brief(line)}; download it again"
            )
        pairs.append((first, second))
    return pairs
