"""How does the command line write? Plain text that a pipe can take; colours where a terminal shows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

# soft_wrap: a path or a sentence is never broken, also where there is no terminal to fit it into.
console = Console(highlight=False, soft_wrap=True)
notes = Console(highlight=False, soft_wrap=True, stderr=True)


def facts(pairs: Iterable[tuple[str, object]], target: Console = console) -> None:
    """One line a fact, the names aligned."""
    rows = [(name, str(value)) for name, value in pairs]
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        target.print(Text.assemble((name.ljust(width), "bold"), value))


def heading(text: str, target: Console = console) -> None:
    """A line that begins a group of facts."""
    target.print(Text(text, "bold cyan"))


def json_line(value: Any) -> None:
    """One JSON value, one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def sentence(error: Exception) -> str:
    """An error as one line for a user; the system's own ones begin with a number that helps nobody."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path."
    return " ".join(str(error).split())


def tolerant_streams() -> None:
    """Bytes that are no text become lone surrogates: a message may not hold them, but nothing ends."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
