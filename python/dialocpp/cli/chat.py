"""`dialocpp chat`: how does one talk with a model, at a terminal or through a pipe?"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click
from rich.text import Text

from dialocpp.chat.presets import PRESETS
from dialocpp.chat.reply_stream import ReplyStream
from dialocpp.chat.session import ChatSession
from dialocpp.checkpoint import Source
from dialocpp.decoding.generation_config import override
from dialocpp.errors import DialocppError

from .line_input import checked_text, lines, read_line, styled
from .options import ChatFormatName, Machine, generation_options, machine_options, source_options
from .output import console, notes, sentence, write
from .slash import USER_ERRORS, Conversation, run

_DEMO = (
    "This is the small demo model that comes with dialocpp; "
    "for DialoGPT: dialocpp chat microsoft/DialoGPT-small"
)


@click.command()
@click.argument("model", required=False)
@click.option(
    "--load", "saved", type=click.Path(dir_okay=False), help="Go on with a conversation that /save wrote."
)
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Decoding rules by name; see the README.")
@click.option("--candidates", "num_candidates", type=int, help="Replies drawn at once, of which one is given.")
@click.option("--reverse", metavar="MODEL", help="A reverse model that ranks the candidates.")
@click.option("--persona", multiple=True, metavar="TEXT", help="A line that the model always sees; repeatable.")
@click.option("--window", "window_tokens", type=int, metavar="N", help="Tokens of history that a reply sees.")
@click.option("--avoid", "reply_filter", multiple=True, metavar="WORD", help="No reply with this word; repeatable.")
@click.option(
    "--format",
    "chat_format",
    type=ChatFormatName(),
    help="How turns are laid out; auto: by the model's files; module:function for one of your own.",
)
@generation_options
@machine_options
@source_options
def chat(
    model: str | None,
    saved: str | None,
    generation: dict[str, Any],
    machine: Machine,
    source: Source,
    **settings: Any,
) -> None:
    """Talk to MODEL; /help lists what else can be said. With a pipe on stdin, each line is a message."""
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    for name in ("persona", "reply_filter"):
        if name in given:
            given[name] = tuple(map(checked_text, given[name]))
    session = _session(model, saved, generation, machine, source, given)
    if model is None:
        notes.print(_DEMO, style="dim")
    if sys.stdin.isatty() and sys.stdout.isatty():
        notes.print("Ctrl-C stops a reply, Ctrl-D leaves, /help lists the commands.", style="dim")
        _at_terminal(Conversation(session, speak=_speak_at_terminal, notes=console))
    else:
        _through_pipe(Conversation(session, speak=_speak, notes=notes))


def _session(
    model: str | None,
    saved: str | None,
    generation: dict[str, Any],
    machine: Machine,
    source: Source,
    settings: dict[str, Any],
) -> ChatSession:
    seed = generation.pop("seed", None)
    if saved is not None and (more := settings.keys() - {"reverse", "chat_format"}):
        raise click.UsageError(f"--load goes on under the saved settings, but {min(more)} is given; leave one out.")
    loaded = machine.load(model, source)
    if "reverse" in settings:
        settings["reverse"] = machine.load(settings["reverse"], source)
    if saved is None:
        return ChatSession(loaded, seed=seed, **settings, **generation)
    session = ChatSession.load(saved, loaded, **settings)
    session.generation_config = override(session.generation_config, generation)
    session.seed = session.seed if seed is None else seed
    return session


def _at_terminal(conversation: Conversation) -> None:
    """Until /exit, Ctrl-D, or Ctrl-C at the prompt."""
    prompt = styled("[bold cyan]you>[/] ")
    while not conversation.over:
        try:
            line = read_line(prompt)
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line.strip():
            _answer(conversation, line)
            _prepare(conversation)


def _prepare(conversation: Conversation) -> None:
    """While the reply is being read, read what the next message follows on. It is no loss if that cannot be done."""
    with contextlib.suppress(DialocppError, KeyboardInterrupt):
        conversation.session.prepare()


def _through_pipe(conversation: Conversation) -> None:
    """Until the pipe ends or /exit. Only replies, and what a command asks for, go to stdout."""
    for line in lines(sys.stdin):
        _answer(conversation, line)
        if conversation.over:
            return


def _answer(conversation: Conversation, line: str) -> None:
    """One message or command; a mistake in it costs one sentence and nothing of the conversation."""
    try:
        if line.startswith("/"):
            run(conversation, line)
        else:
            conversation.say(conversation.session.stream(checked_text(line)))
    except USER_ERRORS as error:
        sys.stdout.flush()
        notes.print(Text(sentence(error), "red"))


def _speak_at_terminal(stream: ReplyStream) -> None:
    console.print("[bold green]bot>[/] ", end="")
    _speak(stream)


def _speak(stream: ReplyStream) -> None:
    """Write the reply as it comes. Ctrl-C ends it there; what was shown stays in the conversation."""
    try:
        with stream:
            for piece in stream:
                write(piece)
    except KeyboardInterrupt:
        pass
    finally:
        write("\n")
