"""How is a line read: at a terminal with editing, a history and a coloured prompt, from a pipe as it comes?"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from .output import console

# Absent on some platforms; importing it is what gives input() its editing and history.
with contextlib.suppress(ImportError):
    import readline  # noqa: F401

_BYTE = re.compile("[\udc80-\udcff]")  # how a byte that the encoding lacks has been read
_ESCAPE = re.compile(r"(\x1b\[[0-9;]*m)")


def styled(markup: str) -> str:
    """A prompt for `read_line` in rich's colours, marked as having no width for readline."""
    with console.capture() as capture:
        console.print(markup, end="")
    return _ESCAPE.sub("\x01\\1\x02", capture.get())


def read_line(prompt: str) -> str:
    """The next line without its end; EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C."""
    return input(prompt)


def lines(stream: Iterable[str]) -> Iterator[str]:
    """The lines of a pipe without their ends; no blank ones, and no byte-order mark at the start."""
    for number, line in enumerate(stream):
        text = line.rstrip("\r\n")
        text = text.removeprefix("\ufeff") if number == 0 else text
        if text.strip():
            yield text


def checked_text(text: str) -> str:
    """The text, read as UTF-8 whatever the locale says. ValueError if it was typed or written in another encoding."""
    if not _BYTE.search(text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        found = _BYTE.search(text)
        assert found is not None
        raise ValueError(
            f"expected text in UTF-8, found the byte 0x{ord(found[0]) - 0xDC00:02x} at index {found.start()}; "
            "convert it first"
        ) from None
