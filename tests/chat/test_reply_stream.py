"""Are pieces whole characters, and does just what was shown stay when a stream is left?"""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from conversations import (
    LINES,
    SHORT,
    converse,
    ids_of,
    interrupted_at,
    recorded,
    reopened,
    turns_of,
)
from dialocpp import ChatSession, Model
from dialocpp.engine import request as jobs
from scripted_runtime import serve_with
from sentences import one_sentence


class Script:
    """A scheduler that says what it was given, whatever was asked."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def submit(self, request: jobs.Request) -> None:
        request.rules = dataclasses.replace(request.rules, max_new_tokens=len(self._ids))

    def abandon(self, request: jobs.Request) -> None:
        pass

    def is_over(self, request: jobs.Request) -> bool:
        return len(request.generated) == len(self._ids)

    def advance(self, request: jobs.Request, unless: Callable[[], bool]) -> None:
        request.generated.append(self._ids[len(request.generated)])


HARD_TEXTS = ["naïve café", "👋🏽 wave", "日本語 text", "a👍", "👩‍👩‍👧", "é", "ÿþ", "x �", "  two spaces "]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_no_piece_is_half_a_character(bytes_model: Model, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    ids = bytes_model.tokenizer.encode(text)
    assert text.isascii() or len(ids) > len(text), "each character takes several tokens"
    chat = ChatSession(bytes_model)
    serve_with(monkeypatch, bytes_model, Script(ids))
    stream = chat.stream("Hello")
    pieces = list(stream)
    assert "".join(pieces) == text == str(stream.reply)
    assert all(pieces)
    assert "�" in text or "�" not in "".join(pieces)
    assert stream.reply.token_ids == tuple(ids)
    assert all(piece.encode().decode() == piece for piece in pieces)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_that_never_ends_is_not_shown(
    bytes_model: Model, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    ids = bytes_model.tokenizer.encode("ab👍")
    serve_with(monkeypatch, bytes_model, Script(ids[: len(ids) - cut]))
    chat = ChatSession(bytes_model)
    assert "".join(chat.stream("Hello")) == "ab"
    assert chat.history[-1]["content"] == "ab"


def test_a_cancelled_reply_has_the_tokens_of_what_was_shown(
    bytes_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = bytes_model.tokenizer.encode("a👍b")
    assert len(ids) == 6
    for shown, count in (("a", 1), ("a👍", 5), ("a👍b", 6)):
        serve_with(monkeypatch, bytes_model, Script(ids))
        chat = ChatSession(bytes_model)
        stream = chat.stream("Hello")
        text = ""
        while text != shown:
            text += next(stream)
        stream.close()
        assert chat.history[-1]["content"] == shown
        assert turns_of(chat)[-1].token_ids == tuple(ids[:count])
        assert (stream.reply.finish_reason, stream.reply.text) == ("cancelled", shown)


# Leaving early


def test_what_others_computed_ahead_was_not_shown(random_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits runs the steps for all: a stream may be far ahead of its reader when it is closed."""
    slow, quick = (ChatSession(random_model, seed=seed, min_new_tokens=20) for seed in (1, 2))
    jobs = recorded(monkeypatch, random_model)
    stream = slow.stream(LINES[0])
    text = next(stream)
    quick.reply(LINES[1])
    assert len(jobs[0].generated) >= 20
    stream.close()
    assert slow.history[-1]["content"] == text
    assert random_model.tokenizer.decode(turns_of(slow)[-1].token_ids) == text


class LeftError(Exception):
    pass


def by_close(chat: ChatSession, pieces: int) -> str:
    stream = chat.stream(LINES[1])
    text = "".join(next(stream) for _ in range(pieces))
    stream.close()
    stream.close()
    return text


def by_leaving_the_loop(chat: ChatSession, pieces: int) -> str:
    text = ""
    with chat.stream(LINES[1]) as stream:
        while pieces:
            text += next(stream)
            pieces -= 1
    return text


def by_an_exception(chat: ChatSession, pieces: int) -> str:
    text = ""
    with pytest.raises(LeftError), chat.stream(LINES[1]) as stream:
        while pieces:
            text += next(stream)
            pieces -= 1
        raise LeftError
    return text


def by_forgetting_it(chat: ChatSession, pieces: int) -> str:
    stream = chat.stream(LINES[1])
    return "".join(next(stream) for _ in range(pieces))


def by_cancelling_a_task(chat: ChatSession, pieces: int) -> str:
    text: list[str] = []

    async def listen() -> None:
        async for piece in chat.astream(LINES[1]):
            text.append(piece)
            if len(text) == pieces:
                asyncio.current_task().cancel()  # type: ignore[union-attr]

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await listen()
        await asyncio.get_running_loop().shutdown_asyncgens()

    asyncio.run(run())
    return "".join(text)


def by_leaving_an_async_loop(chat: ChatSession, pieces: int) -> str:
    async def run() -> str:
        text = ""
        stream = chat.astream(LINES[1])
        for _ in range(pieces):
            text += await anext(stream)
        await stream.aclose()
        return text

    return asyncio.run(run())


WAYS_OUT = [by_close, by_leaving_the_loop, by_an_exception, by_forgetting_it, by_leaving_an_async_loop]


@pytest.mark.parametrize("leave", [*WAYS_OUT, by_cancelling_a_task])
@pytest.mark.parametrize("pieces", [1, 3])
def test_what_was_shown_stays(
    model: Model, tmp_path: Path, leave: Callable[[ChatSession, int], str], pieces: int
) -> None:
    chat = ChatSession(model, seed=16, min_new_tokens=10, max_new_tokens=20)
    chat.reply(LINES[0])
    before = chat.history
    text = leave(chat, pieces)
    said = [
        {"role": "user", "content": LINES[1]},
        {"role": "assistant", "content": chat.history[-1]["content"]},
    ]
    assert chat.history == [*before, *said]
    # A cancelled task may have been given one more piece than it looked at.
    assert said[1]["content"].startswith(text) and text
    assert leave is by_cancelling_a_task or said[1]["content"] == text
    # The next turn is that of a conversation in which just this was said, whatever the cache has seen.
    twin = reopened(chat, tmp_path)
    assert chat.reply(LINES[2]).token_ids == twin.reply(LINES[2]).token_ids


@pytest.mark.parametrize("leave", WAYS_OUT)
def test_what_was_never_shown_was_never_said(model: Model, leave: Callable[[ChatSession, int], str]) -> None:
    chat, undisturbed = (ChatSession(model, seed=17, **SHORT) for _ in range(2))
    for session in (chat, undisturbed):
        session.reply(LINES[0])
    before = chat.history
    leave(chat, 0)
    assert chat.history == before
    assert ids_of(converse(chat, LINES[1:])) == ids_of(converse(undisturbed, LINES[1:]))


@pytest.mark.parametrize("place", ["advance", "_step", "_plan", "_commit", "submit"])
def test_ctrl_c_before_the_first_token(model: Model, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_commit` is the worst place: the engine has run its step, and the request does not know it yet."""
    chat, undisturbed = (ChatSession(model, seed=18, **SHORT) for _ in range(2))
    for session in (chat, undisturbed):
        session.reply(LINES[0])
    before = chat.history
    with interrupted_at(monkeypatch, 0, place), one_sentence(KeyboardInterrupt):
        chat.reply(LINES[1])
    assert chat.history == before
    assert ids_of(converse(chat, LINES[1:])) == ids_of(converse(undisturbed, LINES[1:]))


@pytest.mark.parametrize("place", ["advance", "_step", "_plan", "_commit"])
@pytest.mark.parametrize("count", [1, 4])
def test_ctrl_c_in_the_middle_of_a_reply(
    model: Model, tmp_path: Path, place: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Unguarded, so that every token is shown at once.
    chat = ChatSession(model, seed=19, echo_guard=False, min_new_tokens=10, max_new_tokens=20)
    chat.reply(LINES[0])
    whole = chat.fork().reply(LINES[1])
    with interrupted_at(monkeypatch, count, place), one_sentence(KeyboardInterrupt):
        chat.reply(LINES[1])
    said = turns_of(chat)[-1]
    assert len(chat.history) == 4 and chat.history[2]["content"] == LINES[1]
    assert 0 < len(said.token_ids) <= count and said.token_ids == whole.token_ids[: len(said.token_ids)]
    twin = reopened(chat, tmp_path)
    assert chat.reply(LINES[2]).token_ids == twin.reply(LINES[2]).token_ids


def test_ctrl_c_in_one_session_leaves_the_others_alone(
    random_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [ChatSession(random_model, seed=seed, **SHORT) for seed in range(4)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]
    jobs = recorded(monkeypatch, random_model)
    streams = [session.stream(LINES[0]) for session in sessions]
    with interrupted_at(monkeypatch, 2, "_commit"), one_sentence(KeyboardInterrupt):
        for _ in range(3):
            next(streams[0])
            random_model.runtime.scheduler._step(jobs[0])
    assert ["".join(stream) for stream in streams[1:]] == expected[1:]


# Running ahead


def test_who_steps_in_between_changes_no_reply(bundled_model: Model) -> None:
    """A guarded stream has run ahead by as much as others have stepped; what it gives must not show that."""
    expected = {}
    for ahead in (0, 3, 40):
        for seed in range(12):
            chat = ChatSession(bundled_model, seed=seed, max_retries=1)
            told = []
            for line in [*LINES[:1] * 3, *LINES[1:]]:
                stream = chat.stream(line)
                other = ChatSession(bundled_model, seed=99)
                if ahead:
                    other.reply(LINES[0], max_new_tokens=ahead, min_new_tokens=ahead)
                for _ in stream:
                    pass
                reply = stream.reply
                candidates = [(c.text, c.token_ids, c.finish_reason, c.rejected_because) for c in reply.candidates]
                told.append((reply.text, reply.token_ids, reply.finish_reason, candidates))
            assert expected.setdefault(seed, told) == told, ahead


def test_logprobs_are_of_the_replys_tokens(bundled_model: Model) -> None:
    chat = ChatSession(bundled_model, seed=7, top_logprobs=0, reply_filter=lambda text: False, max_retries=0)
    fallback = chat.reply(LINES[0])
    assert (fallback.finish_reason, fallback.logprobs) == ("fallback", ())
    stream = ChatSession(bundled_model, seed=7, top_logprobs=0, min_new_tokens=20).stream(LINES[0])
    next(stream)
    ChatSession(bundled_model, seed=8, min_new_tokens=20).reply(LINES[0])  # the stream runs ahead
    stream.close()
    assert [entry.token_id for entry in stream.reply.logprobs] == list(stream.reply.token_ids)
