"""Which commands can be typed into a conversation? One table, one function each."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from dialocpp.chat.reply import Reply
from dialocpp.chat.reply_stream import ReplyStream
from dialocpp.chat.session import ChatSession
from dialocpp.decoding.generation_config import override
from dialocpp.errors import DialocppError, brief

from .options import parse_setting
from .output import facts, shown, size, speaker

# What one sentence answers. An OSError is not: it is the output that is gone, or a fault of dialocpp.
USER_ERRORS = (DialocppError, ValueError, TypeError)


@dataclass
class Conversation:
    """A session at a terminal or a pipe: how replies are shown, where remarks go, and whether it is over."""

    session: ChatSession
    speak: Callable[[ReplyStream], None]
    notes: Console
    last: Reply | None = None
    over: bool = False

    def say(self, stream: ReplyStream) -> None:
        """Show a reply and remember what it cost."""
        self.speak(stream)
        with contextlib.suppress(RuntimeError):  # stopped before its first word: nothing was said
            self.last = stream.reply

    def note(self, text: str) -> None:
        """A remark that is not part of the conversation."""
        self.notes.print(Text(shown(text, self.notes), "dim"))


@dataclass(frozen=True)
class Slash:
    """One command: what follows it, what it does, and the function that does it."""

    argument: str
    help: str
    run: Callable[[Conversation, str], None]


def run(conversation: Conversation, line: str) -> None:
    """Do what a line that begins with a slash says; ValueError names the nearest command if there is none."""
    name, _, argument = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "/help lists them"
        raise ValueError(f"expected a command, found {brief(name) if len(name) > 80 else name}; {hint}")
    argument = argument.strip()
    if bool(argument) > bool(command.argument):
        raise ValueError(f"expected nothing after {name}, found {brief(argument)}; leave it out")
    if command.argument and not argument:
        raise ValueError(f"expected {command.argument} after {name}, found nothing; type {name} {command.argument}")
    command.run(conversation, argument)


def _undo(conversation: Conversation, _: str) -> None:
    conversation.note(f"Taken back: {conversation.session.undo()}")


def _regen(conversation: Conversation, _: str) -> None:
    conversation.say(conversation.session.regenerate_stream())


def _history(conversation: Conversation, _: str) -> None:
    names = {"user": ("you> ", "bold cyan"), "assistant": ("bot> ", "bold green")}
    for turn in conversation.session.history:
        speaker(*names[turn["role"]], turn["content"])


def _save(conversation: Conversation, path: str) -> None:
    try:
        conversation.session.save(path)
    except OSError as error:
        raise ValueError(f"expected a file to write, found {path}: {error.strerror or error}; name another") from error
    conversation.note(f"Saved to {path}; go on with it by: dialocpp chat --load {path}")


def _stats(conversation: Conversation, _: str) -> None:
    session, reply = conversation.session, conversation.last
    model = session.model
    facts(
        [
            ("model", f"{model.name}, {model.dtype}, {model.num_threads} threads"),
            ("turns", len(session.history)),
            ("format", session.chat_format),
            ("KV cache", size(model.kv_bytes_in_use)),
        ]
    )
    if reply is None:
        return
    usage, timings = reply.usage, reply.timings
    speed = timings.tokens_per_second(usage.completion_tokens)
    facts(
        [
            (
                "last prompt",
                f"{usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached; "
                f"{usage.recomputed_tokens} read again, {usage.prepared_tokens} in idle time",
            ),
            (
                "last reply",
                f"{usage.completion_tokens} tokens, ended by {reply.finish_reason}, seed {reply.seed}",
            ),
            ("first token", f"{1000 * timings.time_to_first_token:.1f} ms"),
            ("speed", f"{speed:.0f} tokens/s" if speed else "one token only"),
            ("dropped turns", reply.dropped_turns),
            ("candidates", f"{len(reply.candidates)} with {usage.generated_tokens} tokens, {reply.retries} retries"),
        ]
    )


def _candidates(conversation: Conversation, _: str) -> None:
    if conversation.last is None:
        raise ValueError("expected a reply before this, found no reply yet; say something first")
    for candidate in conversation.last.candidates:
        scores = ", ".join(f"{name} {score:.2f}" for name, score in candidate.scores.items())
        mark = candidate.rejected_because or scores or "could be given"
        speaker(f"{mark}: ", "dim", candidate.text)


def _set(conversation: Conversation, text: str) -> None:
    session = conversation.session
    setting = parse_setting(text)
    session.generation_config = override(session.generation_config, setting)
    conversation.note(f"From now on {', '.join(f'{key} = {value}' for key, value in setting.items())}.")


def _reset(conversation: Conversation, _: str) -> None:
    conversation.session.reset()
    conversation.last = None
    conversation.note("A new conversation begins.")


def _exit(conversation: Conversation, _: str) -> None:
    conversation.over = True


def _help(conversation: Conversation, _: str) -> None:
    facts((f"{name} {command.argument}", command.help) for name, command in COMMANDS.items())


COMMANDS = {
    "/undo": Slash("", "take back the last message and its reply", _undo),
    "/regen": Slash("", "another reply to the last message", _regen),
    "/history": Slash("", "the conversation so far", _history),
    "/save": Slash("FILE", "write the conversation to a file", _save),
    "/candidates": Slash("", "what else the last reply could have been", _candidates),
    "/stats": Slash("", "what the last reply cost", _stats),
    "/set": Slash("KEY=VALUE", "a generation argument, such as temperature=0.7 or do_sample=false", _set),
    "/reset": Slash("", "begin a new conversation", _reset),
    "/exit": Slash("", "leave", _exit),
    "/help": Slash("", "this list", _help),
}
