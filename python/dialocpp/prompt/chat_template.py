"""How does a model's own chat template lay out turns? Jinja in a sandbox, over placeholders instead of texts.

The template never sees what was said: each message is a placeholder, and the turn's own ids take its place in what
comes out. So no text can become a special token, nor change what the template does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from dialocpp.checkpoint.json_file import read_json_object

from .turns import Dialogue, Layout, Piece, Special

_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"
_PLACEHOLDER = re.compile("\ue000([0-9]+)\ue001")
# DialoGPT's own template, which needs no jinja: each content, then end-of-text.
_DIALOGPT = re.compile(
    r"\{%-?\s*for message in messages\s*-?%\}\{\{-?\s*message(\.content|\[['\"]content['\"]\])\s*"
    r"(\+\s*|-?\}\}\{\{-?\s*)eos_token\s*-?\}\}\{%-?\s*endfor\s*-?%\}"
)


@dataclass(frozen=True)
class Template:
    """A template's source and the special tokens that it may name, such as eos_token."""

    source: str
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def is_dialogpt(self) -> bool:
        """Does it say what the format `dialogpt` says?"""
        return _DIALOGPT.fullmatch(self.source.strip()) is not None


def read_template(folder: Path) -> Template | None:
    """The chat template in a model's folder, if there is one."""
    settings = read_json_object(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    source = settings.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = {item.get("name"): item.get("template") for item in source if isinstance(item, dict)}
        source = named.get("default")
    if (folder / _FILE).is_file():
        source = (folder / _FILE).read_text(encoding="utf-8")
    if not isinstance(source, str):
        return None
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in settings.items()}
    tokens = {key: text for key, text in texts.items() if key.endswith("_token") and isinstance(text, str)}
    return Template(source, tokens)


def template_layout(folder: Path) -> Layout:
    """The layout that the folder's template describes. ValueError without a template, jinja2 or good syntax."""
    template = read_template(folder)
    if template is None:
        raise ValueError(
            f"expected a chat_template in {_SETTINGS} for chat_format 'template', found none; name another chat_format"
        )
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ValueError(
            "expected jinja2 for this model's chat template, found it not installed; "
            "pip install 'dialocpp[template]' or name another chat_format"
        ) from None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    try:
        compiled = environment.from_string(template.source)
    except TemplateError as error:
        raise ValueError(
            f"expected a chat template in jinja's syntax, found a broken one ({error}); name another chat_format"
        ) from None

    def layout(dialogue: Dialogue) -> Iterator[Piece]:
        try:
            text = compiled.render(
                messages=_messages(dialogue), add_generation_prompt=dialogue.asks, **template.tokens
            )
        except Exception as error:  # a template is a program of its own, with errors of its own
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise ValueError(
                f"expected a prompt from the model's chat template, found that it failed ({reason}); "
                "name another chat_format"
            ) from None
        turns = (*dialogue.persona, *dialogue.turns)
        for index, part in enumerate(_PLACEHOLDER.split(text)):
            if index % 2:
                yield turns[int(part)]
            elif part:
                yield Special(part)

    layout.__name__ = "template"
    return layout


def _messages(dialogue: Dialogue) -> list[dict[str, Any]]:
    """The persona's lines are one system message."""
    marks = [f"\ue000{index}\ue001" for index in range(len(dialogue.persona) + len(dialogue.turns))]
    pinned, said = marks[: len(dialogue.persona)], marks[len(dialogue.persona) :]
    system = [{"role": "system", "content": "\n".join(pinned)}] if pinned else []
    turns = zip(dialogue.turns, said, strict=True)
    return [*system, *({"role": turn.role, "content": mark} for turn, mark in turns)]
