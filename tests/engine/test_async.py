"""Does an event loop run on, whatever the model is doing, and does a cancelled task leave within one step?"""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dialocpp import ChatSession, Model
from held_engine import PATIENCE, Hold, held_engine
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


@pytest.mark.parametrize("count", [1, 50])
def test_many_sessions_on_one_loop(model: Model, count: int) -> None:
    sessions = [ChatSession(model, seed=seed, **SHORT) for seed in range(count)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*map(text_of, sessions))

    assert run(all_at_once()) == expected
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
                assert not any(task.done() for task in (reading, starting, closing))
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
