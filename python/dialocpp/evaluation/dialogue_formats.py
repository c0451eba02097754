"""In which forms do people keep dialogues? Each file becomes dialogues, line by line, and bad lines are named.

| suffix | what it holds |
|---|---|
| `.jsonl` | `{"turns": ["text", …]}` or `{"messages": [{"role": …, "content": …}, …]}` a line |
| `.tsv` | DialoGPT's: `0.0 turn EOS 1.0 turn<TAB>1.0 reply`, 0.0: a turn that is context alone |
| `.csv` | a chat export: speaker, text; lines of one speaker in a row are one turn; an empty line ends a dialogue |
| `.txt` | one turn a line; an empty line ends a dialogue |

Each also as `.xz`.
"""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LONGEST_LINE = 1 << 24  # characters: far above any dialogue, far below any memory
_HEADERS = {"speaker", "author", "sender", "from", "name", "user", "role"}


@dataclass(frozen=True)
class Dialogue:
    """Turns, oldest first, speakers taking turns; `learnt` says of each whether a model shall learn to say it."""

    turns: tuple[str, ...]
    learnt: tuple[bool, ...] | None = None


@dataclass
class BadLines:
    """Lines that hold no dialogue: counted, and the first ones named."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    strict: bool = False

    def note(self, where: str, why: str) -> None:
        """Count a line; ValueError when bad lines are fatal."""
        message = f"{where}: {why}"
        if self.strict:
            raise ValueError(message)
        self.count += 1
        if len(self.first) < 10:
            self.first.append(message)


Lines = Iterable[tuple[int, str]]  # numbered from 1


def read_dialogues(path: Path, bad: BadLines | None = None, kind: str | None = None) -> Iterator[Dialogue]:
    """The dialogues of a file; `kind` is a suffix of the table above, by default the file's own.

    ValueError for an unknown form, or at the first bad line unless `bad` counts them.
    """
    bad = BadLines(strict=True) if bad is None else bad
    kind = kind or Path(path.name.removesuffix(".xz")).suffix
    if kind not in _READERS:
        known = ", ".join(_READERS)
        raise ValueError(f"{path}: expected a file of dialogues ({known}, each also .xz), found {path.name!r}")
    try:
        with _opened(path) as file:
            yield from _READERS[kind](_numbered(file, path, bad), path, bad)
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected text in UTF-8, found {error}; check the file") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _numbered(file: IO[str], path: Path, bad: BadLines) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            bad.note(f"{path}, line {number}", f"expected at most {_LONGEST_LINE:,} characters; split the dialogue")
            continue
        yield number, line.rstrip("\r\n")


def _json_lines(lines: Lines, path: Path, bad: BadLines) -> Iterator[Dialogue]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            turns = _turns_of(json.loads(line))
        except (ValueError, RecursionError):
            turns = None
        if turns is None:
            bad.note(where, f'expected {{"turns": ["text", …]}}, found {line.strip()[:60]!r}')
        else:
            yield from _checked(turns, None, where, bad)


def _turns_of(value: Any) -> list[str] | None:
    turns = value.get("turns") if isinstance(value, dict) else None
    if turns is None and isinstance(value, dict) and isinstance(value.get("messages"), list):
        turns = [m.get("content") if isinstance(m, dict) else None for m in value["messages"]]
    fine = isinstance(turns, list) and all(isinstance(turn, str) for turn in turns)
    return turns if fine else None


def _dialogpt_lines(lines: Lines, path: Path, bad: BadLines) -> Iterator[Dialogue]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        turns, learnt = [], []
        for part in line.replace("\t", " EOS ").split(" EOS "):
            weight, _, text = part.strip().partition(" ")
            if weight not in ("0.0", "1.0") or not text:
                bad.note(where, f"expected '0.0 text' or '1.0 text' between EOS and tabs, found {part.strip()[:60]!r}")
                break
            turns.append(text)
            learnt.append(weight == "1.0")
        else:
            yield from _checked(turns, learnt, where, bad)


def _plain_lines(lines: Lines, path: Path, bad: BadLines) -> Iterator[Dialogue]:
    turns: list[str] = []
    begin = 1
    for number, line in (*lines, (0, "")):
        if line.strip():
            if not turns:
                begin = number
            turns.append(line.strip())
        elif turns:
            yield from _checked(turns, None, f"{path}, line {begin}", bad)
            turns = []


def _chat_export(lines: Lines, path: Path, bad: BadLines) -> Iterator[Dialogue]:
    turns: list[str] = []
    last, begin = None, 1
    for number, line in (*lines, (0, "")):
        row = next(csv.reader([line]), [])
        if not any(cell.strip() for cell in row):
            if turns:
                yield from _checked(turns, None, f"{path}, line {begin}", bad)
            turns, last = [], None
        elif len(row) != 2:
            bad.note(f"{path}, line {number}", f"expected two columns, speaker and text, found {len(row)}")
        elif not (number == 1 and row[0].strip().lower() in _HEADERS):
            speaker, text = row[0].strip(), row[1].strip()
            if speaker == last and turns:
                turns[-1] += f" {text}"
            else:
                begin = begin if turns else number
                turns.append(text)
            last = speaker


def _checked(turns: list[str], learnt: list[bool] | None, where: str, bad: BadLines) -> Iterator[Dialogue]:
    turns = [" ".join(turn.split()) for turn in turns]
    if len(turns) < 2:
        bad.note(where, f"expected a dialogue of two turns or more, found {len(turns)}")
    elif not all(turns):
        bad.note(where, f"expected turns with text, found an empty one (number {turns.index('')}, from 0)")
    else:
        yield Dialogue(tuple(turns), None if learnt is None else tuple(learnt))


_READERS: dict[str, Callable[[Lines, Path, BadLines], Iterator[Dialogue]]] = {
    ".jsonl": _json_lines,
    ".tsv": _dialogpt_lines,
    ".csv": _chat_export,
    ".txt": _plain_lines,
}
