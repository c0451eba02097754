"""What does a second message to one conversation meet: an error, or its turn? And who can stop a reply?"""

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from conversations import LINES, SHORT
from dialocpp import AsyncReplyStream, ChatSession, Model, ReplyCancelledError
from dialocpp.chat.claim import Occupancy
from held_engine import PATIENCE, Hold, held_engine, until, wait_for
from sentences import one_sentence


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work, PATIENCE)  # only a deadlock takes so long

    return asyncio.run(bounded())


def queued(chat: ChatSession) -> int:
    """Callers that have the session or wait for it."""
    return len(chat._occupancy.queue)


@pytest.fixture
def chat(random_model: Model) -> ChatSession:
    return ChatSession(random_model, seed=1, on_busy="wait", min_new_tokens=4, **SHORT)


def in_a_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_setting(random_model: Model) -> None:
    with one_sentence(ValueError, "on_busy to be error or wait, found 'queue'"):
        ChatSession(random_model, on_busy="queue")
    with one_sentence(RuntimeError, "on_busy='wait'"), ChatSession(random_model).stream(LINES[0]) as stream:
        stream._commit.__self__.reply(LINES[1])  # type: ignore[attr-defined]


def test_threads_are_served_in_the_order_of_their_coming(chat: ChatSession) -> None:
    stream = chat.stream("first")
    next(stream)
    threads = []
    for number in range(6):
        threads.append(in_a_thread(lambda number=number: chat.reply(f"number {number}")))
        until(lambda number=number: queued(chat) == number + 2)  # type: ignore[misc]
    assert len(chat.history) == 0
    for _ in stream:
        pass
    for thread in threads:
        thread.join(PATIENCE)
    said = [turn["content"] for turn in chat.history[::2]]
    assert said == ["first", *(f"number {number}" for number in range(6))]
    assert queued(chat) == 0


def test_waiting_changes_no_reply(chat: ChatSession, random_model: Model) -> None:
    alone = ChatSession(random_model, seed=1, min_new_tokens=4, **SHORT)
    expected = [alone.reply(line).token_ids for line in LINES]

    async def work() -> list[Any]:
        return await asyncio.gather(*[chat.areply(line) for line in LINES])

    assert [reply.token_ids for reply in run(work())] == expected
    assert chat.history == alone.history


def test_tasks_and_threads_wait_in_one_queue(chat: ChatSession) -> None:
    """While a task waits, its event loop runs on."""

    async def work() -> None:
        stream = chat.astream("first")
        await anext(stream)
        tasks, threads = [], []
        for number in range(0, 6, 2):
            tasks.append(asyncio.create_task(chat.areply(f"number {number}")))
            await asyncio.sleep(0)
            threads.append(in_a_thread(lambda number=number: chat.reply(f"number {number + 1}")))
            await asyncio.to_thread(until, lambda number=number: queued(chat) == number + 3)  # type: ignore[misc]
        assert [piece async for piece in stream]
        await asyncio.gather(*tasks)
        for thread in threads:
            await asyncio.to_thread(thread.join, PATIENCE)

    run(work())
    assert [turn["content"] for turn in chat.history[::2]] == ["first", *(f"number {n}" for n in range(6))]


def test_who_waits_may_be_cancelled(chat: ChatSession) -> None:
    async def work() -> None:
        stream = chat.astream("first")
        await anext(stream)
        tasks = [asyncio.create_task(chat.areply(f"number {number}")) for number in range(4)]
        await asyncio.sleep(0)
        assert queued(chat) == 5
        for index in (0, 2):
            tasks[index].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[index]
        assert queued(chat) == 3
        await stream.aclose()
        await asyncio.gather(tasks[1], tasks[3])

    run(work())
    assert [turn["content"] for turn in chat.history[::2]] == ["first", "number 1", "number 3"]


def test_a_task_that_is_cancelled_with_its_turn_passes_it_on(chat: ChatSession) -> None:
    """Both happen between the same two rounds of the loop."""

    async def work() -> None:
        stream = chat.astream("first")
        await anext(stream)
        tasks = [asyncio.create_task(chat.areply(f"number {number}")) for number in range(2)]
        await asyncio.sleep(0)
        await stream.aclose()
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]

    run(work())
    assert [turn["content"] for turn in chat.history[::2]] == ["first", "number 1"]


def test_max_time_counts_from_the_beginning_of_the_wait(chat: ChatSession) -> None:
    errors = []

    def late() -> None:
        try:
            chat.reply("late", max_time=0.01)
        except TimeoutError as error:
            errors.append(str(error))

    async def late_task() -> None:
        with one_sentence(TimeoutError, "free within max_time, 0.01 s"):
            await chat.areply("late", max_time=0.01)

    with chat.stream("first") as stream:
        next(stream)
        in_a_thread(late).join(PATIENCE)
        in_a_thread(lambda: run(late_task())).join(PATIENCE)
    assert len(errors) == 1 and "found it in the middle of a reply" in errors[0]
    assert queued(chat) == 0
    assert [turn["content"] for turn in chat.history[::2]] == ["first"]


def test_time_that_was_waited_is_not_there_for_the_reply(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=1, on_busy="wait", min_new_tokens=40, max_new_tokens=40)
    occupancy = chat._occupancy
    claim = occupancy.claim()
    claim.since -= 1000  # it has waited so long
    stream = chat._begin(chat.generation_config, "Hello", False, claim)
    assert stream._task is not None and stream._task._started == claim.since
    stream.close()
    claim = occupancy.claim()
    claim.since -= 1000
    config = ChatSession(random_model, max_time=999.0, min_new_tokens=40, max_new_tokens=40).generation_config
    stream = chat._begin(config, "Hello", False, claim)
    assert len("".join(stream)) > 0 and stream.reply.finish_reason == "max_time"
    assert stream.reply.usage.completion_tokens == 1


@pytest.mark.parametrize("call", ["reply", "undo", "reset", "fork", "prepare", "stream"])
def test_nobody_waits_for_itself(chat: ChatSession, call: str) -> None:
    arguments = ("second",) if call in ("reply", "stream") else ()
    with chat.stream("first") as stream:
        next(stream)
        with one_sentence(RuntimeError, "middle of a reply"):
            getattr(chat, call)(*arguments)

    async def work() -> None:
        async with chat.astream("first") as stream:
            await anext(stream)
            with one_sentence(RuntimeError, "middle of a reply"):  # it would hold up the loop that the stream needs
                getattr(chat, call)(*arguments)
            with one_sentence(RuntimeError, "middle of a reply"):
                await chat.areply("second")

    run(work())
    assert queued(chat) == 0


def test_a_ctrl_c_while_waiting_leaves_the_queue(chat: ChatSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any, wait: bool, seconds: float | None) -> None:
        self._queue.append(self.place)
        raise KeyboardInterrupt("Ctrl-C")

    with monkeypatch.context() as patch, chat.stream("first"):
        patch.setattr("dialocpp.chat.claim.Claim.take", interrupted)
        with one_sentence(KeyboardInterrupt, "Ctrl-C"):
            chat.reply("second")
        assert queued(chat) == 1
    assert chat.reply("third")


def test_a_claim_that_is_dropped_lets_the_next_one_in() -> None:
    """Whatever struck between taking it and noting it."""
    occupancy = Occupancy()
    claim = occupancy.claim()
    waiting: list[Any] = []
    thread = in_a_thread(lambda: waiting.append(occupancy.claim(wait=True)))
    until(lambda: len(occupancy.queue) == 2)
    del claim
    thread.join(PATIENCE)
    assert waiting[0].held
    waiting.clear()
    assert occupancy.holder is None


def test_of_many_threads_each_gets_its_turn() -> None:
    occupancy, inside, most = Occupancy(), 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(200):
            with occupancy.claim(wait=True):
                inside += 1
                most.append(inside)
                inside -= 1

    threads = [in_a_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(most), set(most), len(occupancy.queue)) == (1600, {1}, 0)


# cancel()


def test_cancel_stops_a_reply_from_another_thread(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=2, min_new_tokens=12, **SHORT)
    assert not chat.cancel()
    shown: list[str] = []
    with held_engine(random_model) as engine:
        stream = chat.stream(LINES[0])
        shown.append(next(stream))
        hold = Hold(engine)
        reader = in_a_thread(lambda: shown.extend(stream))
        wait_for(hold.entered)
        assert chat.cancel()
        hold.go.set()
        reader.join(PATIENCE)
    assert len(shown) == 1 and stream.reply.finish_reason == "cancelled"
    assert [turn["content"] for turn in chat.history] == [LINES[0], shown[0]]
    assert chat.reply(LINES[1])


def test_cancel_before_anything_was_shown(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=2, **SHORT)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            chat.reply(LINES[0])
        except ReplyCancelledError as error:
            errors.append(error)

    async def aask() -> None:
        with one_sentence(ReplyCancelledError, "cancelled before it began"):
            await chat.areply(LINES[0])

    for work in (ask, lambda: run(aask())):
        with held_engine(random_model) as engine:
            hold = Hold(engine)
            reader = in_a_thread(work)
            wait_for(hold.entered)
            assert chat.cancel()
            hold.go.set()
            reader.join(PATIENCE)
    assert len(errors) == 1 and chat.history == []
    assert str(chat.reply(LINES[0])) == str(ChatSession(random_model, seed=2, **SHORT).reply(LINES[0]))


def test_a_cancelled_stream_gives_nothing_that_was_written_ahead(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=2, min_new_tokens=12, **SHORT)
    stream = chat.stream(LINES[0])
    shown = next(stream)
    ChatSession(random_model, seed=3, min_new_tokens=12, **SHORT).reply(LINES[0])  # its steps write it ahead
    assert chat.cancel()
    assert list(stream) == [] and chat.history[-1]["content"] == shown


def test_cancel_lets_the_next_one_in(chat: ChatSession) -> None:
    async def work() -> None:
        stream: AsyncReplyStream = chat.astream("first")
        shown = await anext(stream)
        following = asyncio.create_task(chat.areply("second"))
        await asyncio.sleep(0)
        assert chat.cancel()
        assert [piece async for piece in stream] == []
        await following
        assert chat.history[1]["content"] == shown

    run(work())
    assert len(chat.history) == 4


# What is over holds nothing.


@pytest.mark.parametrize("ending", ["read", "closed", "failed"])
def test_a_stream_that_is_over_holds_no_pages(random_model: Model, ending: str) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        if ending == "failed":
            raise ValueError("no")

    chat = ChatSession(random_model, seed=2, logits_processor=hook, **SHORT)
    before = random_model.kv_bytes_in_use
    stream = chat.stream(LINES[0])
    if ending == "failed":
        with one_sentence(ValueError, "no"):
            next(stream)
    else:
        next(stream)
        assert random_model.kv_bytes_in_use > before
        if ending == "closed":
            stream.close()
        assert list(stream) or ending == "closed"
    chat.reset()
    assert random_model.kv_bytes_in_use == before
    assert ending == "failed" or stream.reply.text
