"""How does the command line write? Plain text that a pipe can take; at a terminal colours, and nothing that steers it.

A write that fails ends the program: quietly if the reader has left, else with one sentence and its status.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.text import Text

from .visible import visible

_NARROWEST = 40  # columns in which a table still says something
_LONGEST = 600  # characters of an error: whoever caused it knows what he gave


class _Seen:
    """Anything that rich prints, without what would steer the terminal."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


class _OnlyVisible(RenderHook):
    def __init__(self, console: Console) -> None:
        self._console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Seen(item) for item in renderables] if self._console.is_terminal else renderables


def _console(stderr: bool) -> Console:
    """soft_wrap: a path or a sentence is never broken, also where there is no terminal to fit it into."""
    columns = os.environ.get("COLUMNS", "")
    width = _NARROWEST if columns.isdigit() and int(columns) < _NARROWEST else None
    made = Console(highlight=False, soft_wrap=True, stderr=stderr, width=width)
    made.push_render_hook(_OnlyVisible(made))
    return made


console = _console(stderr=False)
notes = _console(stderr=True)


def write(text: str) -> None:
    """To stdout, at once: as it is, or for a terminal without what would steer it."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def shown(text: str, target: Console = console) -> str:
    """A text for a console, which would drop some characters and send others on."""
    return visible(text) if target.is_terminal else text


def facts(pairs: Iterable[tuple[str, object]], target: Console = console) -> None:
    """One line a fact, the names aligned."""
    rows = [(name, str(value)) for name, value in pairs]
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        target.print(Text.assemble((name.ljust(width), "bold"), shown(value, target)))


def heading(text: str, target: Console = console) -> None:
    """A line that begins a group of facts."""
    target.print(Text(shown(text, target), "bold cyan"))


def speaker(name: str, style: str, text: str) -> None:
    """Who says what."""
    console.print(Text(shown(name), style), end="")
    write(text + "\n")


def json_line(value: Any) -> None:
    """One JSON value, one line."""
    write(json.dumps(value, ensure_ascii=False) + "\n")


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def sentence(error: BaseException) -> str:
    """An error as one line for a user, cut if it repeats a long value; the system's own ones begin with a number."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        text = f"{where}{error.strerror}; check the path" if where else error.strerror
    else:
        text = str(error) or type(error).__name__
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 2 // 3]} … {text[-_LONGEST // 3 :]}"
    return shown(text, notes)


def prepare_streams() -> None:
    """Make the three streams such that no text and no byte ends the program.

    Input is UTF-8, and a byte that is not becomes a lone surrogate, which `line_input` tells. What the output's
    encoding lacks is written as an escape. A stream that was closed is empty, and an output that was closed full.
    """
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    settings = ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace"))
    for stream, errors in settings:
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if stream is sys.stdin else None
            with contextlib.suppress(io.UnsupportedOperation):  # something has been read already
                stream.reconfigure(encoding=encoding, errors=errors)


def drop_output() -> None:
    """What could not be written is not tried again when the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        _drop(stream)


def _drop(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Closed(io.StringIO):
    """An output that was closed before the program began."""

    def write(self, text: str) -> int:
        raise OSError(9, "stdout is closed")


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """For `warnings.showwarning`: one line, as for an error. Python's own would show a line of this package's code."""
    notes.print(Text(f"Warning: {sentence(message) if isinstance(message, Warning) else message}", "yellow"))
