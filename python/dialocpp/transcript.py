"""What does a saved conversation look like? A versioned JSON file: texts, token ids, settings, seed."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chat_format import Turn
from .decoding import GenerationConfig

_FORMAT = "dialocpp.chat"
_VERSION = 1


@dataclass(frozen=True)
class Transcript:
    """Everything that a conversation is, but for the model and its cache."""

    model: str
    fingerprint: str
    seed: int
    attempts: int
    first_visible: int
    generation_config: GenerationConfig
    turns: tuple[Turn, ...]


def write(path: Path, transcript: Transcript) -> None:
    """Write a transcript so that a crash leaves the old file or the new one."""
    content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(transcript)}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to save {path.name} in; create it first.")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> Transcript:
    """Read a transcript; ValueError says what is wrong with the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a saved conversation: it is no JSON ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a saved conversation: it lacks format {_FORMAT!r}.")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {content.get('version')!r}, but this release reads version {_VERSION}; "
            "use the release that wrote it."
        )
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged conversation: {error!r}.") from None


def _parse(content: dict[str, Any]) -> Transcript:
    turns = tuple(_turn(turn, index) for index, turn in enumerate(content["turns"]))
    first = _count(content["first_visible"])
    if len(turns) % 2 or first > len(turns):
        raise ValueError("turns do not come in pairs, or first_visible lies behind them")
    return Transcript(
        model=str(content["model"]),
        fingerprint=str(content["fingerprint"]),
        seed=_count(content["seed"]),
        attempts=_count(content["attempts"]),
        first_visible=first,
        generation_config=GenerationConfig(**content["generation_config"]),
        turns=turns,
    )


def _turn(turn: dict[str, Any], index: int) -> Turn:
    role = ("user", "assistant")[index % 2]
    if turn["role"] != role or not isinstance(turn["content"], str):
        raise ValueError(f"turn {index} is not a text by the {role}")
    return Turn(turn["role"], turn["content"], tuple(_count(id_) for id_ in turn["token_ids"]))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
