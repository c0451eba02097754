"""What of a text may a terminal be sent? What is printed; what would steer it becomes a mark that one can see.

A model, a saved conversation, a template or a folder's name may hold an escape sequence, which can rewrite the screen,
set the window's title or fill the clipboard, and marks of direction make a text read as another one.
"""

from __future__ import annotations

import re

# Controls but for the end of a line and the tabulator; marks of direction; separators that end a line; tags, which
# show as nothing; halves of surrogate pairs, which no terminal can be sent.
_STEERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff"
    "\\U000e0000-\\U000e007f\\ud800-\\udfff]"
)
_PICTURES = 0x2400  # ␀ to ␟, one for each control character of ASCII


def visible(text: str) -> str:
    """The text with a picture (␛ for escape) or a name (<U+202E>) in the place of what steers a terminal."""
    return _STEERS.sub(_mark, text)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"
