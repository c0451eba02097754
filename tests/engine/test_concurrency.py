"""One model, many sessions, many threads: is each served as if it were alone, and does leaving take one step?"""

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dialocpp import CapacityError, ChatSession, Model
from dialocpp.engine.scheduler import STEP_TOKENS
from held_engine import PATIENCE, Hold, held_engine, in_threads, until, wait_for
from small_models import Gpt2, gpt2_config, random_gpt2

LINES = ["Hello, how are you?", "What do you like to eat?", "I am going home now."]
SHORT = {"max_new_tokens": 12, "min_new_tokens": 6}


@pytest.fixture(scope="module")
def folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    """Room for a prompt of four steps. Its tokens are ASCII: one each, so that every token is a piece."""
    sizes = {"n_positions": 1100, "n_embd": 48, "n_head": 3}
    return save_folder(random_gpt2(gpt2_config(**sizes), seed=2, end_lift=1.0))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model.from_pretrained(folder, num_threads=2)


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# All at once


def a_conversation(model: Model, seed: int) -> Any:
    """Every operation of a session; the same seed gives the same answer."""
    chat = ChatSession(model, seed=seed, **SHORT)
    found = [chat.reply(line).token_ids for line in LINES]
    twin = chat.fork()
    chat.undo()
    with chat.stream(LINES[0]) as stream:
        found.append(tuple(map(ord, next(stream))))
    found += [chat.regenerate().token_ids, twin.regenerate().token_ids, twin.reply("Yes").token_ids]
    twin.reset()
    return found, chat.history, twin.reply(LINES[0]).token_ids


def a_batch(model: Model, seed: int) -> Any:
    prompts = [[seed, i, 3] * (1 + 20 * i) for i in range(4)]
    made = model.generate(prompts, max_new_tokens=7, do_sample=True, seed=seed)
    return [one.token_ids for one in made]


def readings(model: Model, seed: int) -> Any:
    ids = [(seed + i) % 90 for i in range(150)]
    return model.logits(ids).tobytes(), model.logprobs(ids).tobytes(), model.score(LINES[:2], "Yes.").total


def test_every_call_at_once_is_as_if_alone(model: Model) -> None:
    calls = [(call, seed) for call in (a_conversation, a_batch, readings) for seed in range(3)]
    expected = [call(model, seed) for call, seed in calls]
    found: dict[int, Any] = {}

    def work(index: int) -> None:
        call, seed = calls[index]
        found[index] = [call(model, seed) for _ in range(3)]

    in_threads(*(lambda index=index: work(index) for index in range(len(calls))))  # type: ignore[misc]
    assert [found[index] for index in range(len(calls))] == [[each] * 3 for each in expected]
    gc.collect()
    assert model.kv_bytes_in_use == 0


@pytest.mark.parametrize("others", ["reply", "stream", "undo", "fork", "reset", "regenerate"])
def test_of_two_threads_on_one_session_one_gets_an_error(model: Model, others: str) -> None:
    """The session is in the middle of a step, wherever the second thread comes."""
    chat, alone = (ChatSession(model, seed=1, **SHORT) for _ in range(2))
    for session in (chat, alone):
        session.reply(LINES[0])
    expected = alone.reply(LINES[1]).token_ids
    with held_engine(model) as engine:
        hold, found = Hold(engine), []
        thread = in_a_thread(lambda: found.append(chat.reply(LINES[1]).token_ids))
        wait_for(hold.entered)
        arguments = (LINES[2],) if others in ("reply", "stream") else ()
        with pytest.raises(RuntimeError, match="middle of a reply"):
            getattr(chat, others)(*arguments)
        hold.go.set()
        thread.join(PATIENCE)
    assert found == [expected]
    assert chat.history == alone.history


def test_of_many_threads_on_one_session_one_wins(model: Model) -> None:
    chat = ChatSession(model, seed=2, **SHORT)
    for _ in range(20):
        winners: list[Any] = []
        refused = []

        def grab(winners: list[Any] = winners, refused: list[RuntimeError] = refused) -> None:
            try:
                winners.append(chat.stream(LINES[0]))
            except RuntimeError as error:
                refused.append(error)

        in_threads(*[grab] * 5)
        assert (len(winners), len(refused)) == (1, 4)
        winners.pop().close()
    assert chat.history == []


# Leaving takes one step.

LONG = "word " * 200  # 1000 tokens


def test_a_prompt_that_is_being_read_is_left_within_one_step(model: Model) -> None:
    chat = ChatSession(model, seed=3, **SHORT)
    assert len(model.tokenizer.encode(LONG)) > 3 * STEP_TOKENS
    with held_engine(model) as engine:
        hold, pieces = Hold(engine), []
        stream = chat.stream(LONG)
        reader = in_a_thread(lambda: pieces.extend(stream))
        wait_for(hold.entered)
        closer = in_a_thread(stream.close)
        until(lambda: stream._task.stopped)
        hold.go.set()
        reader.join(PATIENCE)
        closer.join(PATIENCE)
        assert engine.steps == 1
    assert (pieces, chat.history) == ([], [])
    assert str(chat.reply(LINES[0])) == str(ChatSession(model, seed=3, **SHORT).reply(LINES[0]))


def test_ctrl_c_leaves_a_prompt_within_one_step(model: Model) -> None:
    def strike() -> None:
        if engine.steps == 1:
            raise KeyboardInterrupt

    chat = ChatSession(model, seed=4, **SHORT)
    with held_engine(model) as engine:
        engine.before = strike
        with pytest.raises(KeyboardInterrupt):
            chat.reply(LONG)
        assert engine.steps == 1
    assert chat.history == []
    assert str(chat.reply(LINES[0])) == str(ChatSession(model, seed=4, **SHORT).reply(LINES[0]))


def test_a_stream_that_another_thread_closes_ends_with_what_was_shown(model: Model) -> None:
    """The reader gets the end of the stream, no error, and the reply is what it has seen."""
    for _ in range(10):
        chat = ChatSession(model, seed=5, **SHORT)
        stream = chat.stream(LINES[0])
        pieces = [next(stream), next(stream)]
        with held_engine(model) as engine:
            hold = Hold(engine)
            reader = in_a_thread(lambda pieces=pieces, stream=stream: pieces.extend(stream))  # type: ignore[misc]
            wait_for(hold.entered)
            closers = [in_a_thread(stream.close) for _ in range(2)]
            until(lambda stream=stream: stream._task.stopped)  # type: ignore[misc]
            hold.go.set()
            for thread in (reader, *closers):
                thread.join(PATIENCE)
                assert not thread.is_alive()
        assert 2 <= len(pieces) <= 3
        assert stream.reply.finish_reason == "cancelled"
        assert chat.history[-1]["content"] == stream.reply.text == "".join(pieces)
        assert model.tokenizer.decode(stream.reply.token_ids) == stream.reply.text
        assert chat.reply(LINES[1])


def test_a_cancelled_batch_leaves_the_others_alone(model: Model) -> None:
    expected = a_batch(model, 1)
    with held_engine(model) as engine:
        hold, found = Hold(engine), []
        thread = in_a_thread(lambda: found.append(a_batch(model, 1)))
        wait_for(hold.entered)
        closer = in_a_thread(lambda: ChatSession(model, seed=6).stream(LONG).close())
        hold.go.set()
        thread.join(PATIENCE)
        closer.join(PATIENCE)
        assert not closer.is_alive()
    assert found == [expected]


# The cache fills in mid-reply.


def page_bytes(model: Model) -> int:
    chat = ChatSession(model, seed=0, max_new_tokens=1)
    before = model.kv_bytes_in_use
    chat.reply("Hi")
    return model.kv_bytes_in_use - before


def test_a_cache_that_fills_in_mid_reply_takes_the_exchange_back(folder: Path, model: Model) -> None:
    """The error is raised, the session is as before that message, and once there is room it gives the same reply."""
    gc.collect()
    page = page_bytes(model)
    small = Model.from_pretrained(folder, num_threads=2, kv_cache_bytes=5 * page)
    long: dict[str, Any] = {"max_new_tokens": 60, "min_new_tokens": 60}
    chats = [ChatSession(small, seed=seed, **long) for seed in range(3)]
    alone = [ChatSession(model, seed=seed, **long) for seed in range(3)]
    for chat, other in zip(chats, alone, strict=True):
        chat.reply("Hi", max_new_tokens=2, min_new_tokens=2)
        other.reply("Hi", max_new_tokens=2, min_new_tokens=2)
    expected = [other.reply("And you?") for other in alone]  # 3 pages each: there is room for one beside two of 1
    streams = [chat.stream("And you?") for chat in chats]
    shown: list[list[str]] = [[] for _ in streams]
    full = []
    while streams and len(full) < 2:
        for index, stream in enumerate(streams):
            if index in full:
                continue
            try:
                shown[index] += [piece] if (piece := next(stream, None)) else []
            except CapacityError as error:
                assert "in the KV cache, found" in str(error)
                full.append(index)
    for index in full:
        assert shown[index], "it struck in mid-reply"
        assert len(chats[index].history) == 2
        with pytest.raises(RuntimeError, match="no reply yet"):
            _ = streams[index].reply
        assert next(streams[index], None) is None
    (winner,) = {0, 1, 2} - set(full)
    shown[winner] += streams[winner]
    assert "".join(shown[winner]) == str(expected[winner])
    del streams, stream  # a stream holds its sequence
    chats[winner].reset()
    later = full[0]
    chats[full[1]].reset()
    assert chats[later].reply("And you?").token_ids == expected[later].token_ids
    assert chats[later].history == alone[later].history


def test_an_error_in_mid_reply_keeps_the_old_answer(model: Model) -> None:
    chat, alone = (ChatSession(model, seed=7, **SHORT) for _ in range(2))
    for session in (chat, alone):
        session.reply(LINES[0])
    history = chat.history

    def fail() -> None:
        if engine.steps == 3:
            raise CapacityError("full")

    with held_engine(model) as engine:
        engine.before = fail
        with pytest.raises(CapacityError):
            chat.regenerate()
    assert chat.history == history
    assert chat.regenerate().token_ids == alone.regenerate().token_ids
