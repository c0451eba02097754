"""Do sessions at once, in threads and tasks, each get what they would get alone, and has a session one caller?"""

import asyncio
import gc
import threading
from typing import Any

import pytest
from conversations import (
    LINES,
    SHORT,
    converse,
    ids_of,
)
from dialocpp import ChatSession, Model, Reply
from dialocpp.engine import scheduler
from sentences import one_sentence


def test_threads_get_what_each_would_get_alone(model: Model) -> None:
    expected = [ids_of(converse(ChatSession(model, seed=seed))) for seed in range(4)]
    found: dict[int, list[tuple[int, ...]]] = {}

    def talk(seed: int) -> None:
        found[seed] = ids_of(converse(ChatSession(model, seed=seed)))

    threads = [threading.Thread(target=talk, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(4)] == expected


def test_streams_interleave_in_one_thread(model: Model) -> None:
    sessions = [ChatSession(model, seed=seed, **SHORT) for seed in range(9)]
    expected = [str(session.fork().reply(LINES[seed % 4])) for seed, session in enumerate(sessions)]
    streams = [session.stream(LINES[seed % 4]) for seed, session in enumerate(sessions)]
    texts = [""] * len(streams)
    live = set(range(len(streams)))
    while live:
        for i in sorted(live):
            piece = next(streams[i], None)
            texts[i] += piece or ""
            live -= {i} if piece is None else set()
    assert texts == expected


def test_async_streams_run_side_by_side(model: Model) -> None:
    sessions = [ChatSession(model, seed=seed, **SHORT) for seed in range(4)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]

    async def listen(session: ChatSession) -> str:
        return "".join([piece async for piece in session.astream(LINES[0])])

    async def run() -> list[str]:
        return await asyncio.gather(*map(listen, sessions))

    assert asyncio.run(run()) == expected
    assert [session.history[-1]["content"] for session in sessions] == expected


def test_an_async_stream_reports_errors(random_model: Model) -> None:
    async def run(message: str) -> None:
        async for _ in ChatSession(random_model).astream(message):
            pass

    with one_sentence(ValueError, "empty"):
        asyncio.run(run(""))


def test_a_session_in_the_middle_of_a_reply_takes_no_other_call(random_model: Model) -> None:
    chat, alone = (ChatSession(random_model, seed=20, min_new_tokens=8, **SHORT) for _ in range(2))
    for session in (chat, alone):
        session.reply(LINES[0])
    stream = chat.stream(LINES[1])
    pieces = [next(stream)]
    refused = []

    def intrude() -> None:
        calls = (chat.undo, chat.regenerate, chat.fork, chat.reset, chat.regenerate_stream)
        for call in (*calls, lambda: chat.reply("me too"), lambda: chat.stream("me too")):
            with pytest.raises(RuntimeError, match="middle of a reply"):
                call()
            refused.append(call)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    intrude()
    assert len(refused) == 14
    pieces += stream
    assert "".join(pieces) == str(alone.reply(LINES[1]))
    assert chat.history == alone.history
    chat.fork()


def test_two_threads_on_one_session_lose_nothing(random_model: Model) -> None:
    """Each call is either done whole or refused."""
    chat = ChatSession(random_model, seed=21, max_new_tokens=3, min_new_tokens=3)
    done: list[str] = []

    def talk(name: str) -> None:
        for i in range(40):
            try:
                chat.reply(f"{name}{i}")
            except RuntimeError:
                continue
            done.append(f"{name}{i}")

    threads = [threading.Thread(target=talk, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turn["content"] for turn in chat.history[::2]) == sorted(done)
    assert done


def test_a_session_is_claimed_before_it_is_read(random_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it read first, a second caller could begin from old turns and overwrite the newer ones."""
    chat = ChatSession(random_model, seed=22, **SHORT)
    encode, errors = random_model.tokenizer.encode, []

    def intruding_encode(text: str, *rest: Any) -> list[int]:
        monkeypatch.undo()
        try:
            chat.reply("me first")
        except RuntimeError as error:
            errors.append(error)
        return encode(text, *rest)

    monkeypatch.setattr(random_model.tokenizer, "encode", intruding_encode)
    chat.reply("Hello")
    assert len(errors) == 1
    assert [turn["content"] for turn in chat.history[::2]] == ["Hello"]


def test_the_collector_may_close_a_stream_in_the_middle_of_a_step(
    random_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = ChatSession(random_model, seed=23, **SHORT)
    stream: Any = forgotten.stream(LINES[0])
    next(stream)
    stream.itself = stream  # only the collector can free it
    del stream
    commit = scheduler.Scheduler._commit

    def collecting_commit(*arguments: Any) -> None:
        if not forgotten.history:
            gc.collect()
        commit(*arguments)

    monkeypatch.setattr(scheduler.Scheduler, "_commit", collecting_commit)
    replies: list[Reply] = []
    chat = ChatSession(random_model, seed=24, **SHORT)
    # In a thread of its own, so that a deadlock fails this test and not the whole run.
    thread = threading.Thread(target=lambda: replies.append(chat.reply(LINES[0])), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert len(replies) == 1
    assert len(forgotten.history) == 2
