"""What does a saved conversation look like? A versioned JSON file: texts, token ids, settings, seed and position.

The cache is not in it: at tens to hundreds of kilobytes a token it would be ten thousand times the text, it fits one
model and one build only, and reading the visible turns again costs one prompt of at most a window.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dialocpp.checkpoint.own_files.held_folder import HeldFolder
from dialocpp.checkpoint.own_files.whole_file import keep_permissions, replacing_in
from dialocpp.decoding.generation_config import CHAT, GenerationConfig
from dialocpp.decoding.seeds import fresh_seed
from dialocpp.errors import brief
from dialocpp.prompt.turns import Turn
from dialocpp.text.tokenizer import Tokenizer

from .history import Exchange
from .presets import preset_named

_FORMAT = "dialocpp.chat"
_PAIR = "userassistant"
_VERSION = 2
_REASON_CHARACTERS = 120
MAX_BYTES = 1 << 26  # of a file: a conversation of a month

# Not to wait for a pipe's other end.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# What a file cannot hold and names instead.
FUNCTIONS = frozenset(("reply_filter", "chat_format", "rankers", "reverse", "logits_processor"))


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
    """Write a transcript so that a crash leaves the old file or the new one.

    The file keeps its permissions. A link stays one: what it leads to is written. ValueError for a place that is no
    file, such as a device, and for a text that no file can hold; OSError if it cannot be written.
    """
    content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(transcript)}
    try:
        data = (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected texts that UTF-8 can hold, found the lone surrogate {error.object[error.start]!r} in one; "
            "remove it and save again"
        ) from None
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {path.parent} to save {path.name} in, found none; create it first")
    with HeldFolder.at(path.parent) as folder:
        kept = _kept(folder, path)
        with replacing_in(folder, path.name, 0o666 if kept is None else 0o600) as file:
            file.write(data)
            if kept is not None:
                keep_permissions(file, kept)


def _kept(folder: HeldFolder, path: Path) -> os.stat_result | None:
    """The status of the file that is to be replaced, if there is one."""
    try:
        status = folder.status(path.name)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"expected a file to save to, found {_kind(status)} {path}; give another name")
    return status


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFDIR: "the folder", stat.S_IFIFO: "the pipe", stat.S_IFSOCK: "the socket"}
    return kinds.get(stat.S_IFMT(status.st_mode), "the device")


def _content(path: Path) -> bytes:
    """What is in a regular file of a bounded size; a pipe or a device could go on for ever."""
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _not_saved(path, _kind(status))
        content: bytes = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _not_saved(path, f"a file of more than {MAX_BYTES} bytes")
    return content


def read(path: Path) -> Transcript:
    """Read a transcript; ValueError says what is wrong with the file."""
    data = _content(path)
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise _not_saved(path, "brackets that are nested too deep") from None
    except ValueError as error:  # Python's own too, for a number of thousands of digits
        raise _not_saved(path, f"a file that is not JSON ({str(error).split(';')[0]})") from None
    if isinstance(content, list) and content:
        content = _around(content)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _not_saved(path, f"a file without the format {_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path}: expected a conversation of version {_VERSION}, found version {brief(content.get('version'))}; "
            "use the release of dialocpp that wrote it"
        )
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}".split(". ")[0]
        raise damaged(path, reason if len(reason) < _REASON_CHARACTERS else f"{reason[:_REASON_CHARACTERS]}…") from None


def check_ids(path: Path, saved: Transcript, tokenizer: Tokenizer) -> None:
    """ValueError if a turn's tokens say other things than its text: the model would read what nobody sees.

    They are the text's own or, of a reply, those that were drawn for it. One that was stopped may have been drawn on
    into a stop string that was not shown.
    """
    stops = saved.generation_config.stopping_strings
    for index, turn in enumerate(saved.turns):
        if turn.token_ids == tuple(tokenizer.encode(turn.content)):
            continue
        stream = tokenizer.stream(skip_special_tokens=True)
        said = "".join(map(stream.push, turn.token_ids)) + stream.flush(unfinished=False)
        rest = said.removeprefix(turn.content)
        is_its = said.startswith(turn.content) and (not rest or any(stop.startswith(rest) for stop in stops))
        if turn.role == "user" or not is_its:
            raise damaged(path, f"turn {index} with tokens that are not those of its text")


def damaged(path: Path, what: str) -> ValueError:
    """The error for a conversation's file that does not hold what it should."""
    return ValueError(f"{path}: expected a whole conversation, found a damaged one ({what}); load another copy of it")


def _not_saved(path: Path, found: str) -> ValueError:
    return ValueError(f"{path}: expected a saved conversation, found {found}; give one that ChatSession.save wrote")


def _no_number(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"expected a number, found {name}", name, 0)


def _parse(content: dict[str, Any]) -> Transcript:
    _check_texts(content)
    turns = tuple(_turn(turn, index) for index, turn in enumerate(content["turns"]))
    has_ids = all("token_ids" in turn for turn in content["turns"])
    exchanges = tuple(
        Exchange(_count(item["first_visible"]), _count(item["attempt"]), _count(item["start"]))
        for item in content["exchanges"]
    )
    if has_ids:
        _check_exchanges(exchanges, turns)
    else:  # texts alone, from elsewhere
        exchanges = tuple(Exchange(start=start) for start in _pairs(turns))
    if not set(content["functions"]) <= FUNCTIONS:
        raise ValueError("functions that are not a session's")
    if content["preset"] is not None:
        preset_named(content["preset"])
    return Transcript(
        model=_text(content["model"]),
        fingerprint=_text(content["fingerprint"]) if has_ids else "",  # else each text is encoded
        preset=content["preset"],
        seed=_count(content["seed"]),
        generation_config=GenerationConfig(**content["generation_config"]),
        settings=dict(content["settings"]),
        functions=tuple(content["functions"]),
        exchanges=exchanges,
        turns=turns,
    )


def _around(turns: list[Any]) -> dict[str, Any]:
    """What a file would hold around these turns, if it had more than texts."""
    config = dataclasses.replace(CHAT, logits_processor=None)
    bare = Transcript("", "", None, fresh_seed(), config, {}, (), (), ())
    return {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(bare), "turns": turns}


def _check_exchanges(exchanges: Sequence[Exchange], turns: Sequence[Turn]) -> None:
    if [exchange.start for exchange in exchanges] != _pairs(turns):
        raise ValueError("exchanges that are not those of its turns")
    if any(exchange.first_visible > exchange.start for exchange in exchanges):
        raise ValueError("a first_visible after its exchange")


def _pairs(turns: Sequence[Turn]) -> list[int]:
    """The messages that a reply follows."""
    return [number for number in range(len(turns) - 1) if turns[number].role + turns[number + 1].role == _PAIR]


def _turn(turn: dict[str, Any], index: int) -> Turn:
    if turn["role"] not in ("user", "assistant") or not isinstance(turn["content"], str):
        raise ValueError(f"turn {index} is not a text by the user or the assistant")
    return Turn(turn["role"], turn["content"], tuple(_count(id_) for id_ in turn.get("token_ids", ())))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{brief(value)} is not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{brief(value)} is not a text")
    return value


def _check_texts(value: object) -> None:
    """ValueError for half of a surrogate pair anywhere: JSON can spell it, but it is no character."""
    json.dumps(value, ensure_ascii=False).encode()
