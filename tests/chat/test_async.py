"""Does an event loop run on, whatever the model is doing, and is a session free at once when its stream is left?"""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conversations import reopened
from dialocpp import AsyncReplyStream, ChatSession, Model
from dialocpp.engine import background
from held_engine import PATIENCE, Hold, held_engine, until, wait_for
from small_models import Gpt2, gpt2_config, random_gpt2

LINES = ["Hello, how are you?", "What do you like to eat?"]
LONG = "word " * 200  # 1000 tokens: four steps
SHORT = {"max_new_tokens": 12, "min_new_tokens": 6}


@pytest.fixture(scope="module")
def model(save_folder: Callable[[Gpt2], Path]) -> Model:
    sizes = {"n_positions": 1100, "n_embd": 48, "n_head": 3}
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes), seed=2, end_lift=1.0)), num_threads=2)


async def text_of(chat: ChatSession, message: str = LINES[0]) -> str:
    return "".join([piece async for piece in chat.astream(message)])


class Counter:
    """Counts the rounds of the event loop: a blocked loop counts no more."""

    def __init__(self) -> None:
        self.rounds = 0

    async def run(self) -> None:
        while True:
            self.rounds += 1
            await asyncio.sleep(0)

    async def more(self, rounds: int = 50) -> None:
        target = self.rounds + rounds
        while self.rounds < target:
            await asyncio.sleep(0)


@asynccontextmanager
async def counting() -> AsyncIterator[Counter]:
    counter = Counter()
    task = asyncio.create_task(counter.run())
    try:
        yield counter
    finally:
        task.cancel()


async def arrived(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE)


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work, PATIENCE)  # only a deadlock takes so long

    return asyncio.run(bounded())


@pytest.mark.parametrize("count", [1, 500])
def test_many_sessions_on_one_loop(model: Model, count: int) -> None:
    sessions = [ChatSession(model, seed=seed, **SHORT) for seed in range(count)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]

    threads = []

    async def all_at_once() -> list[str]:
        texts = await asyncio.gather(*map(text_of, sessions))
        threads.extend(threading.enumerate())
        return texts

    before = threading.active_count()
    assert run(all_at_once()) == expected
    assert len(threads) <= before + 1, "one thread serves them all"
    assert [session.history[-1]["content"] for session in sessions] == expected


def test_the_loop_runs_on_in_every_phase(model: Model) -> None:
    """While one step is held: other tasks start, wait, are cancelled and leave, and the loop counts on."""

    async def work() -> None:
        with held_engine(model) as engine:
            async with counting() as counter:
                begun = ChatSession(model, seed=1, **SHORT).astream(LINES[0])
                await anext(begun)  # closed while the step is held
                hold = Hold(engine)
                reading = asyncio.create_task(text_of(ChatSession(model, seed=0, **SHORT)))
                await arrived(hold.entered)
                starting = asyncio.create_task(text_of(ChatSession(model, seed=2, **SHORT)))
                given_up = asyncio.create_task(text_of(ChatSession(model, seed=3, **SHORT)))
                await counter.more()
                closing = asyncio.create_task(begun.aclose())
                given_up.cancel()
                await counter.more()
                reading.cancel()
                await counter.more()
                reading.cancel()  # impatient
                await counter.more()
                assert closing.done()  # it waits for nothing
                assert not any(task.done() for task in (reading, starting))
                hold.go.set()
                for task in (reading, given_up):
                    with pytest.raises(asyncio.CancelledError):
                        await task
                await closing
                assert await starting == str(ChatSession(model, seed=2, **SHORT).reply(LINES[0]))

    run(work())
    gc.collect()
    assert model.kv_bytes_in_use == 0


def test_a_cancelled_task_leaves_a_long_prompt_within_one_step(model: Model) -> None:
    chat = ChatSession(model, seed=4, **SHORT)

    async def work() -> None:
        with held_engine(model) as engine:
            async with counting() as counter:
                hold = Hold(engine)
                task = asyncio.create_task(text_of(chat, LONG))
                await arrived(hold.entered)
                task.cancel()
                await counter.more()
                hold.go.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert engine.steps == 1

    run(work())
    assert chat.history == []
    assert str(chat.reply(LINES[0])) == str(ChatSession(model, seed=4, **SHORT).reply(LINES[0]))


@pytest.mark.parametrize("pieces", [1, 3])
def test_what_was_shown_before_a_cancellation_stays(model: Model, pieces: int) -> None:
    chat = ChatSession(model, seed=5, **SHORT)
    shown: list[str] = []

    async def listen(enough: asyncio.Event) -> None:
        async for piece in chat.astream(LINES[0]):
            shown.append(piece)
            if len(shown) == pieces:
                enough.set()
                await asyncio.Event().wait()  # busy with that piece until it is cancelled

    async def work() -> None:
        enough = asyncio.Event()
        task = asyncio.create_task(listen(enough))
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.get_running_loop().shutdown_asyncgens()

    run(work())
    assert [turn["content"] for turn in chat.history] == [LINES[0], "".join(shown)]
    assert chat.reply(LINES[1])


def test_some_of_many_tasks_are_cancelled(model: Model) -> None:
    sessions = [ChatSession(model, seed=seed, **SHORT) for seed in range(24)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]

    async def work() -> list[Any]:
        tasks = [asyncio.create_task(text_of(session)) for session in sessions]
        async with counting() as counter:
            for index in range(0, 24, 3):
                await counter.more(7 * index)
                tasks[index].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    found = run(work())
    for index, text in enumerate(found):
        assert text == expected[index] or (index % 3 == 0 and isinstance(text, asyncio.CancelledError))
    assert all(session.reply(LINES[1]) for session in sessions)


def test_one_session_for_two_tasks_is_an_error(model: Model) -> None:
    chat = ChatSession(model, seed=6, **SHORT)

    async def work() -> list[Any]:
        stream = chat.astream(LINES[0])
        first = await anext(stream)
        with pytest.raises(RuntimeError, match="middle of a reply"):
            await text_of(chat)
        return [first] + [piece async for piece in stream]

    assert "".join(run(work())) == str(ChatSession(model, seed=6, **SHORT).reply(LINES[0]))


# Leaving


# Each is given the stream in a list, so that only the loop holds it, as in `async for piece in chat.astream(…)`.


async def by_break(given: list[AsyncReplyStream], shown: list[str]) -> None:
    async for piece in given.pop():
        shown.append(piece)
        break


async def by_return(given: list[AsyncReplyStream], shown: list[str]) -> None:
    async for piece in given.pop():
        shown.append(piece)
        return


class LeftError(Exception):
    pass


async def by_an_exception(given: list[AsyncReplyStream], shown: list[str]) -> None:
    with pytest.raises(LeftError):
        async for piece in given.pop():
            shown.append(piece)
            raise LeftError


async def by_a_cancellation(given: list[AsyncReplyStream], shown: list[str]) -> None:
    async def listen() -> None:
        async for piece in given.pop():
            shown.append(piece)
            await asyncio.Event().wait()

    task = asyncio.create_task(listen())
    while not shown:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_aclose(given: list[AsyncReplyStream], shown: list[str]) -> None:
    shown.append(await anext(given[0]))
    await given[0].aclose()


async def by_the_end_of_a_block(given: list[AsyncReplyStream], shown: list[str]) -> None:
    async with given[0] as stream:
        shown.append(await anext(stream))


WAYS_OUT = [by_break, by_return, by_an_exception, by_a_cancellation, by_aclose, by_the_end_of_a_block]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("leave", WAYS_OUT)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "beside another"])
def test_the_next_message_follows_at_once(
    model: Model, tmp_path: Path, leave: Callable[[list[AsyncReplyStream], list[str]], Awaitable[None]], held: bool
) -> None:
    chat = ChatSession(model, seed=7, **SHORT)
    shown: list[str] = []

    async def work() -> str:
        if held:
            other = ChatSession(model, seed=8, **SHORT).astream(LINES[1])
            await anext(other)
        await leave([chat.astream(LINES[0])], shown)
        assert [turn["content"] for turn in chat.history] == [LINES[0], "".join(shown)]
        return str(await chat.areply(LINES[1]))

    assert run(work()) == chat.history[-1]["content"]
    assert len(chat.history) == 4 and shown
    chat.undo()
    twin = reopened(chat, tmp_path)
    assert str(chat.reply(LINES[1])) == str(twin.reply(LINES[1]))


def test_leaving_does_not_wait_for_a_step(model: Model) -> None:
    """The step that runs works for the reply that is left; another thread runs it."""
    chat = ChatSession(model, seed=7, **SHORT)

    async def work() -> None:
        with held_engine(model) as engine:
            stream = chat.astream(LINES[0])
            shown = await anext(stream)
            hold = Hold(engine)
            other = asyncio.create_task(ChatSession(model, seed=8, **SHORT).areply(LINES[1]))
            await arrived(hold.entered)
            del stream
            assert [turn["content"] for turn in chat.history] == [LINES[0], shown]
            following = asyncio.create_task(chat.areply(LINES[1]))
            async with counting() as counter:
                await counter.more()
            assert not following.done() and not other.done()
            hold.go.set()
            await asyncio.gather(following, other)

    run(work())
    assert len(chat.history) == 4


def test_a_stream_that_somebody_holds_is_in_the_middle_of_its_reply(model: Model) -> None:
    chat = ChatSession(model, seed=7, **SHORT)

    async def work() -> None:
        stream = chat.astream(LINES[0])
        async for _ in stream:
            break
        with pytest.raises(RuntimeError, match="middle of a reply"):
            await chat.areply(LINES[1])
        await stream.aclose()
        await stream.aclose()
        assert [piece async for piece in stream] == []
        await chat.areply(LINES[1])
        assert stream.reply.finish_reason == "cancelled"

    run(work())


def test_a_stream_that_is_closed_while_another_task_reads_it(model: Model) -> None:
    chat = ChatSession(model, seed=7, **SHORT)

    async def work() -> None:
        with held_engine(model) as engine:
            stream = chat.astream(LINES[0])
            hold = Hold(engine)
            reading = asyncio.create_task(collect(stream))
            await arrived(hold.entered)
            with pytest.raises(RuntimeError, match="one task"):
                await anext(stream)
            closing = asyncio.create_task(stream.aclose())
            async with counting() as counter:
                await counter.more()
            assert not closing.done()
            hold.go.set()
            await closing
            assert await reading == []
            assert engine.steps == 1

    run(work())
    assert chat.history == []


async def collect(stream: AsyncReplyStream) -> list[str]:
    return [piece async for piece in stream]


def test_a_loop_that_ends_in_the_middle_of_a_reply(model: Model) -> None:
    """Nobody is left who could wait for the step: the thread that runs it closes the reply."""
    chat = ChatSession(model, seed=7, **SHORT)
    with held_engine(model) as engine:
        hold = Hold(engine)
        loop = asyncio.new_event_loop()
        reading = chat.areply(LINES[0])
        task = loop.create_task(reading)
        while not hold.entered.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        del task
        reading.close()
        hold.go.set()
        until(lambda: chat._occupancy.holder is None)
    assert chat.history == []
    assert str(chat.reply(LINES[0])) == str(ChatSession(model, seed=7, **SHORT).reply(LINES[0]))


def test_areply_is_reply(model: Model) -> None:
    first, second = (ChatSession(model, seed=9, **SHORT) for _ in range(2))

    async def work() -> list[Any]:
        return [await first.areply(line, top_logprobs=1) for line in LINES]

    replies = run(work())
    expected = [second.reply(line, top_logprobs=1) for line in LINES]
    assert [(r.text, r.token_ids, r.logprobs, r.usage) for r in replies] == [
        (r.text, r.token_ids, r.logprobs, r.usage) for r in expected
    ]
    assert first.history == second.history


@pytest.mark.parametrize("arguments", [{"num_candidates": 70}, {"num_beams": 3, "do_sample": False}, {"rankers": len}])
def test_candidates_and_rankers_on_a_loop(model: Model, arguments: dict[str, Any]) -> None:
    if "rankers" in arguments:
        arguments = {"rankers": lambda context, reply: float(len(reply))}
    chat, alone = (ChatSession(model, seed=9, **SHORT, **arguments) for _ in range(2))
    assert run(chat.areply(LINES[0])).candidates == alone.reply(LINES[0]).candidates


def test_a_slow_ranker_holds_up_no_other_reply(model: Model) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(context: list[str], reply: str) -> float:
        begun.set()
        wait_for(go)
        return 0.0

    async def work() -> None:
        ranked = asyncio.create_task(ChatSession(model, seed=9, rankers=slow, **SHORT).areply(LINES[0]))
        await arrived(begun)
        await ChatSession(model, seed=10, **SHORT).areply(LINES[0])
        assert not ranked.done()
        go.set()
        await ranked

    run(work())


def test_errors_come_to_whom_they_belong(model: Model) -> None:
    class HookError(Exception):
        pass

    def fails(tokens: list[int], logits: Any) -> None:
        raise HookError("mine")

    def no_filter(text: str) -> bool:
        raise HookError("mine")

    async def work() -> list[Any]:
        chats = [
            ChatSession(model, seed=1, **SHORT),
            ChatSession(model, seed=1, logits_processor=fails, **SHORT),
            ChatSession(model, seed=1, reply_filter=no_filter, **SHORT),
        ]
        found = await asyncio.gather(*[chat.areply(LINES[0]) for chat in chats], return_exceptions=True)
        assert [len(chat.history) for chat in chats] == [2, 0, 0]
        assert all(chat._occupancy.holder is None for chat in chats)
        return found

    fine, first, second = run(work())
    assert str(fine) == str(ChatSession(model, seed=1, **SHORT).reply(LINES[0]))
    assert isinstance(first, HookError) and isinstance(second, HookError)


def test_the_thread_ends_by_itself_and_comes_back(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LINGER", 0.001)
    driver = model.runtime.driver
    for _ in range(3):
        assert run(ChatSession(model, seed=1, **SHORT).areply(LINES[0]))
        until(lambda: driver._thread is None)


PROGRAM = """
import asyncio, sys
from dialocpp import ChatSession, Model
model = Model.from_pretrained(num_threads=2)
async def main():
    streams = [ChatSession(model, seed=i).astream("Hello") for i in range(20)]
    for stream in streams:
        await anext(stream)
    print("said", flush=True)
    {ending}
asyncio.run(main())
"""


ENDINGS = {"sys.exit(7)": 7, "return": 0, "raise KeyError": 1, "asyncio.create_task(anext(streams[0]))": 0}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_with_its_own_status(ending: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(ending=ending)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == ("said\n", ENDINGS[ending])
    assert not done.stderr or (ending == "raise KeyError" and done.stderr.endswith("KeyError\n"))
