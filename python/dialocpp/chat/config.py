"""How does a session answer, beside how it chooses tokens? Every such setting with its default, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dialocpp.decoding.generation_config import ARGUMENTS, CHAT, MOST, GenerationConfig, override
from dialocpp.decoding.other_names import refuse_unknown
from dialocpp.decoding.scalars import plain
from dialocpp.prompt.formats import AUTO
from dialocpp.prompt.turns import Layout
from dialocpp.prompt.window import TRAINED_TOKENS
from dialocpp.text.words import words_of_list

from .guards import ReplyFilter, is_blank
from .presets import preset_named

# Neutral enough to follow anything; several, so that none comes twice in a row.
FALLBACK = (
    "I'm not sure what to say to that.",
    "Tell me more about it.",
    "Hmm, let me think about that.",
    "That is a good question.",
    "I see. What else is on your mind?",
)


@dataclass(frozen=True)
class ChatConfig:
    """A session's settings; immutable. TypeError or ValueError for a bad one.

    `num_candidates`: replies drawn together, of which the best is given; at most 1024 (a greedy reply has one).
    `max_retries`: further attempts with other random numbers when no candidate will do.
    `echo_guard`: refuse what was said before; None: in sampled replies, so that a greedy one stays exactly that.
    `reply_filter`: words that no reply may hold, or a function that returns False for such a reply.
    `fallback`: set phrases for when nothing will do; those that break `stop_strings`,
    `bad_words` or `reply_filter` are not said.
    `window_tokens`: how much of the history a reply sees; None: 128, and for a greedy one all that fits.
    `max_turns`: turns of the history that a reply sees, at most; None: as many as the window holds.
    `persona`: lines that stand before the history and never leave.
    `on_busy`: what a message meets while the session is in the middle of a reply: an `error`, or it may `wait` for its
    turn, first come, first served, for `max_time` at most, which then counts from the beginning of the wait.
    `chat_format`: `auto`, a name of FORMATS, `template`, or a function from a Dialogue to pieces.
    """

    num_candidates: int = 1
    max_retries: int = 3
    echo_guard: bool | None = None
    reply_filter: ReplyFilter | None = None
    fallback: Sequence[str] = FALLBACK
    window_tokens: int | None = None
    max_turns: int | None = None
    persona: Sequence[str] = ()
    on_busy: str = "error"
    chat_format: str | Layout = AUTO

    def __post_init__(self) -> None:
        for name, least in (("num_candidates", 1), ("max_retries", 0), ("window_tokens", 1), ("max_turns", 0)):
            object.__setattr__(self, name, _count(name, plain(getattr(self, name)), least))
        object.__setattr__(self, "echo_guard", plain(self.echo_guard))
        if self.echo_guard is not None and not isinstance(self.echo_guard, bool):
            raise TypeError(f"expected echo_guard to be True, False or None, found {self.echo_guard!r}; give one")
        if self.num_candidates > MOST:
            raise ValueError(f"expected num_candidates to be at most {MOST}, found {self.num_candidates}; lower it")
        if self.on_busy not in ("error", "wait"):
            raise ValueError(f"expected on_busy to be error or wait, found {self.on_busy!r}; give one of the two")
        for name in ("fallback", "persona"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not self.fallback:
            raise ValueError("expected a phrase in fallback, found none; give one or more, for a reply is never empty")
        if self.reply_filter is not None and not callable(self.reply_filter):
            object.__setattr__(self, "reply_filter", _texts("reply_filter", self.reply_filter))
            words_of_list(tuple(self.reply_filter))  # ValueError for a list that is too long
        if not isinstance(self.chat_format, str) and not callable(self.chat_format):
            raise TypeError(f"expected chat_format to be a name or a function, found {self.chat_format!r}; give one")

    def history_tokens(self, config: GenerationConfig, positions: int) -> int:
        """The soft window of a reply with this config, in tokens of history."""
        if self.window_tokens is not None:
            return min(self.window_tokens, positions)
        return min(TRAINED_TOKENS, positions) if config.do_sample else positions

    def guards_echo(self, config: GenerationConfig) -> bool:
        """Is this reply guarded against repetition?"""
        return config.do_sample if self.echo_guard is None else self.echo_guard

    def guards_empty(self, config: GenerationConfig) -> bool:
        """Is this reply guarded against being empty? Always, but for the plain greedy one."""
        return config.do_sample or self.echo_guard is True or self.reply_filter is not None

    def functions(self) -> list[str]:
        """The settings that are functions: they cannot be written to a file."""
        return [name for name in ("reply_filter", "chat_format") if callable(getattr(self, name))]

    def as_data(self) -> dict[str, Any]:
        """What can be written to a file: all but the functions."""
        left_out = self.functions()
        return {name: getattr(self, name) for name in CHAT_ARGUMENTS if name not in left_out}


CHAT_ARGUMENTS = tuple(field.name for field in dataclasses.fields(ChatConfig))


def split_arguments(
    config: GenerationConfig | None, preset: str | None, arguments: dict[str, Any]
) -> tuple[ChatConfig, GenerationConfig]:
    """A session's two kinds of arguments, told apart; TypeError says for an unknown one what to do instead."""
    if config is not None and preset is not None:
        raise TypeError("expected a preset or a generation_config, found both; leave one of them out")
    mine: dict[str, Any] = {}
    if preset is not None:
        row = preset_named(preset)
        config, mine = row.generation_config, {"num_candidates": row.num_candidates}
    mine |= {name: value for name, value in arguments.items() if name in CHAT_ARGUMENTS}
    generation = {name: value for name, value in arguments.items() if name not in CHAT_ARGUMENTS}
    refuse_unknown(generation, {*CHAT_ARGUMENTS, *ARGUMENTS}, "an argument of ChatSession")
    return ChatConfig(**mine), override(CHAT if config is None else config, generation)


def _count(name: str, value: Any, least: int) -> int | None:
    if value is None:
        default: int | None = getattr(ChatConfig, name)
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} to be an integer, found {value!r}; give one from {least} on")
    if value < least:
        raise ValueError(f"expected {name} to be {least} or more, found {value}; give a larger number")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple, set, frozenset)) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"expected {name} to be a text or a list of texts, found {value!r}; convert it first")
    if any(is_blank(text) for text in texts):
        raise ValueError(f"expected {name} to hold texts that show something, found {value!r}; leave out the empty one")
    return tuple(sorted(texts)) if isinstance(texts, (set, frozenset)) else tuple(texts)
