"""What does a saved conversation look like? A versioned JSON file: texts, token ids, settings, seed and position.

The cache is not in it: at tens to hundreds of kilobytes a token it would be ten thousand times the text, it fits one
model and one build only, and reading the visible turns again costs one prompt of at most a window.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.prompt.turns import Turn

from .history import Exchange

_FORMAT = "dialocpp.chat"
_VERSION = 2


@dataclass(frozen=True)
class Transcript:
    """Everything that a conversation is, but for the model, its cache, and functions.

    `functions`: the arguments that were functions or other models; whoever loads it gives them again.
    """

    model: str
    fingerprint: str
    preset: str | None
    seed: int
    generation_config: GenerationConfig
    settings: dict[str, Any]
    functions: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    turns: tuple[Turn, ...]


def write(path: Path, transcript: Transcript) -> None:
    """Write a transcript so that a crash leaves the old file or the new one."""
    content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(transcript)}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {path.parent} to save {path.name} in, found none; create it first")
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
        raise _not_saved(path, f"a file that is not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _not_saved(path, f"a file without the format {_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path}: expected a conversation of version {_VERSION}, found version {content.get('version')!r}; "
            "use the release of dialocpp that wrote it"
        )
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, repr(error)) from None


def damaged(path: Path, what: str) -> ValueError:
    """The error for a conversation's file that does not hold what it should."""
    return ValueError(f"{path}: expected a whole conversation, found a damaged one ({what}); load another copy of it")


def _not_saved(path: Path, found: str) -> ValueError:
    return ValueError(f"{path}: expected a saved conversation, found {found}; give one that ChatSession.save wrote")


def _parse(content: dict[str, Any]) -> Transcript:
    turns = tuple(_turn(turn, index) for index, turn in enumerate(content["turns"]))
    exchanges = tuple(
        Exchange(_count(item["first_visible"]), _count(item["attempt"])) for item in content["exchanges"]
    )
    if len(turns) != 2 * len(exchanges):
        raise ValueError("turns that do not come in pairs with an exchange each")
    if any(exchange.first_visible > 2 * index for index, exchange in enumerate(exchanges)):
        raise ValueError("a first_visible after its exchange")
    if not all(isinstance(name, str) for name in content["functions"]):
        raise ValueError("functions that are not names")
    preset = content["preset"]
    return Transcript(
        model=str(content["model"]),
        fingerprint=str(content["fingerprint"]),
        preset=None if preset is None else str(preset),
        seed=_count(content["seed"]),
        generation_config=GenerationConfig(**content["generation_config"]),
        settings=dict(content["settings"]),
        functions=tuple(content["functions"]),
        exchanges=exchanges,
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
