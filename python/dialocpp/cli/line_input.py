"""How is one line read at a terminal, with editing, a history and a coloured prompt?"""

from __future__ import annotations

import contextlib
import re

from .output import console

# Absent on some platforms; importing it is what gives input() its editing and history.
with contextlib.suppress(ImportError):
    import readline  # noqa: F401

_ESCAPE = re.compile(r"(\x1b\[[0-9;]*m)")


def styled(markup: str) -> str:
    """A prompt for `read_line` in rich's colours, marked as having no width for readline."""
    with console.capture() as capture:
        console.print(markup, end="")
    return _ESCAPE.sub("\x01\\1\x02", capture.get())


def read_line(prompt: str) -> str:
    """The next line without its end; EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C."""
    return input(prompt)
