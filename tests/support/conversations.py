"""What do tests of conversations share: lines to say, replies to compare, and ways to look at what was said and run?"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dialocpp import ChatSession, Model, Reply
from dialocpp.chat import transcript
from dialocpp.engine.scheduler import Scheduler
from dialocpp.prompt.turns import Turn
from scripted_runtime import serve_with

LINES = [
    "Hello, how are you?",
    "What do you like to eat?",
    "I am going home now.",
    "Does money buy happiness?",
]
SHORT = {"max_new_tokens": 12}


def converse(chat: ChatSession, lines: Sequence[str] = LINES, **generation: Any) -> list[Reply]:
    """The replies to these lines, one after the other."""
    return [chat.reply(line, **{**SHORT, **generation}) for line in lines]


def ids_of(replies: Sequence[Reply]) -> list[tuple[int, ...]]:
    """What replies are compared by."""
    return [reply.token_ids for reply in replies]


def reopened(chat: ChatSession, folder: Path) -> ChatSession:
    """The same conversation with an empty cache."""
    chat.save(folder / "reopened.json")
    return ChatSession.load(folder / "reopened.json", chat.model)


def saved(chat: ChatSession) -> transcript.Transcript:
    """All that a conversation is, as a file tells it."""
    with tempfile.TemporaryDirectory() as folder:
        chat.save(Path(folder) / "chat.json")
        return transcript.read(Path(folder) / "chat.json")


def turns_of(chat: ChatSession) -> tuple[Turn, ...]:
    """The turns with their token ids."""
    return saved(chat).turns


def own_tokens(model: Model, line: str) -> int:
    """Tokens of a turn in DialoGPT's format."""
    return len(model.tokenizer.encode(line)) + 1


class Recorder(Scheduler):
    """The real scheduler; `jobs` are those that were submitted to it."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.runtime.engine)
        self.jobs: list[Any] = []

    def submit(self, job: Any) -> None:
        self.jobs.append(job)
        super().submit(job)


def recorded(monkeypatch: pytest.MonkeyPatch, model: Model) -> list[Any]:
    """The jobs that the model is asked to run from now on, until the test ends."""
    recorder = Recorder(model)
    serve_with(monkeypatch, model, recorder)
    return recorder.jobs


class interrupted_at:  # noqa: N801 (used like a function)
    """Ctrl-C in the call number `count` of a function that a reply calls again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, place: str = "advance") -> None:
        self._patch, self._left, self._place = monkeypatch, count, place

    def __enter__(self) -> None:
        original = getattr(Scheduler, self._place)

        def strike(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                raise KeyboardInterrupt("Ctrl-C")
            return original(*arguments, **named)

        self._context = self._patch.context()
        self._context.__enter__().setattr(Scheduler, self._place, strike)

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
