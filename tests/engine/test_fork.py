"""May a process load a model, use it, and fork? A child goes on with what it inherited, whatever its parent did."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dialocpp import ChatSession, Model
from held_engine import PATIENCE, Hold, held_engine, in_threads, wait_for
from small_models import Gpt2, gpt2_config, random_gpt2

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

LINES = ["Hello, how are you?", "What do you like to eat?"]
SHORT = {"max_new_tokens": 12, "min_new_tokens": 6}
PROMPT = list(range(90)) * 2


@pytest.fixture(scope="module")
def folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    sizes = {"n_positions": 256, "n_embd": 48, "n_head": 3}
    return save_folder(random_gpt2(gpt2_config(**sizes), seed=2, end_lift=1.0))


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def model(request: pytest.FixtureRequest, folder: Path) -> Model:
    return Model.from_pretrained(folder, num_threads=request.param)


def in_child(work: Callable[[], Any]) -> Any:
    """What `work()` returns in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)  # only a deadlock lives that long
        try:
            answer = pickle.dumps((True, work()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child hung or died"
    fine, result = pickle.loads(answer)
    assert fine, result
    return result


def results(model: Model) -> Any:
    """One of everything that takes a lock."""
    chat = ChatSession(model, seed=5, **SHORT)
    replies = [chat.reply(line).token_ids for line in LINES]
    twin = chat.fork()
    chat.undo()
    batch = [made.token_ids for made in model.generate([PROMPT, [1, 2], [3]], max_new_tokens=6)]
    again = twin.regenerate().token_ids
    return replies, again, batch, model.logits(PROMPT).tobytes(), model.score(LINES[:1], "Yes").total


@contextmanager
def at_work(work: Callable[[], object]) -> Iterator[None]:
    """Another thread does it again and again."""
    begun, enough = threading.Event(), threading.Event()

    def run() -> None:
        while not enough.is_set():
            work()
            begun.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        wait_for(begun)
        yield
    finally:
        enough.set()
        thread.join(PATIENCE)


@pytest.mark.parametrize("used", [False, True])
def test_a_child_generates_with_the_inherited_model(model: Model, folder: Path, used: bool) -> None:
    """As with gunicorn's preload: the parent may have used the model or not."""
    expected = results(Model.from_pretrained(folder, num_threads=1))
    if used:
        assert results(model) == expected
    assert in_child(lambda: results(model)) == expected
    assert in_child(lambda: in_child(lambda: results(model))) == expected
    assert results(model) == expected


WORK: dict[str, Callable[[Model], object]] = {
    "generate": lambda model: model.generate([PROMPT, PROMPT[:50]], max_new_tokens=4),
    "logits": lambda model: model.logits(PROMPT),
    "score": lambda model: model.score(LINES, "Yes, I do."),
    "sequences": lambda model: [model.runtime.new_sequence().fork().truncate(0) for _ in range(50)],
    "sessions": lambda model: ChatSession(model, seed=1, **SHORT).reply(LINES[0]),
    "models": lambda model: Model.from_pretrained(model.folder, num_threads=2).generate([1], max_new_tokens=1),
}


@pytest.mark.parametrize("busy_with", WORK)
def test_fork_while_another_thread_is_at_work(model: Model, busy_with: str) -> None:
    expected = results(model)
    with at_work(lambda: WORK[busy_with](model)):
        for _ in range(6):
            assert in_child(lambda: results(model)) == expected
    assert results(model) == expected


def test_fork_while_many_threads_are_at_work_and_fork(model: Model) -> None:
    expected = results(model)

    def fork() -> None:
        for _ in range(3):
            assert in_child(lambda: results(model)) == expected

    with ExitStack() as working:
        for work in WORK.values():
            working.enter_context(at_work(lambda work=work: work(model)))  # type: ignore[misc]
        in_threads(*[fork] * 3)


def test_fork_while_another_thread_holds_the_scheduler(model: Model) -> None:
    """Its lock can never be given back in the child: the thread that holds it is not there."""
    expected = results(model)
    with held_engine(model) as engine:
        hold, others = Hold(engine), []
        thread = threading.Thread(target=lambda: others.append(results(model)), daemon=True)
        thread.start()
        wait_for(hold.entered)
        assert in_child(lambda: results(model)) == expected
        hold.go.set()
        thread.join(PATIENCE)
    assert others == [expected]


def test_a_reply_in_the_making_belongs_to_the_parent(model: Model) -> None:
    """In the child the session is free, and as it was before that message."""
    chat, alone = (ChatSession(model, seed=6, **SHORT) for _ in range(2))
    for session in (chat, alone):
        session.reply(LINES[0])
    expected = alone.reply(LINES[1]).token_ids
    with held_engine(model) as engine:
        stream = chat.stream(LINES[1])
        hold, pieces = Hold(engine), []
        thread = threading.Thread(target=lambda: pieces.extend(stream), daemon=True)
        thread.start()
        wait_for(hold.entered)

        def child() -> Any:
            for use in (lambda: next(stream), stream.close):
                with pytest.raises(RuntimeError, match="parent process goes on"):
                    use()
            return len(chat.history), chat.reply(LINES[1]).token_ids, len(chat.history)

        assert in_child(child) == (2, expected, 4)
        hold.go.set()
        thread.join(PATIENCE)
    assert (chat.history, stream.reply.token_ids) == (alone.history, expected)


def test_the_thread_that_forks_may_be_reading_a_stream(model: Model) -> None:
    chat, alone = (ChatSession(model, seed=7, **SHORT) for _ in range(2))
    whole = alone.reply(LINES[0])
    stream = chat.stream(LINES[0])
    first = next(stream)
    assert in_child(lambda: chat.reply(LINES[0]).token_ids) == whole.token_ids
    assert in_child(stream.__del__) is None
    assert first + "".join(stream) == str(whole)


def test_pages_that_a_child_drops_are_free_again(folder: Path) -> None:
    model = Model.from_pretrained(folder, num_threads=1)
    chats = [ChatSession(model, seed=seed, **SHORT) for seed in range(3)]
    for chat in chats:
        chat.reply(LINES[0])

    def child() -> int:
        chats.clear()
        return model.kv_bytes_in_use

    before = model.kv_bytes_in_use
    del chat
    assert before > 0 and in_child(child) == 0
    assert model.kv_bytes_in_use == before


def test_asyncio_in_a_child(model: Model) -> None:
    expected = str(ChatSession(model, seed=8, **SHORT).reply(LINES[0]))

    async def listen(seed: int) -> str:
        return "".join([piece async for piece in ChatSession(model, seed=seed, **SHORT).astream(LINES[0])])

    async def several() -> list[str]:
        return await asyncio.gather(*(listen(8) for _ in range(5)))

    assert in_child(lambda: asyncio.run(several())) == [expected] * 5


def test_workers_of_multiprocessing(model: Model) -> None:
    """Several children at once, as under gunicorn."""
    expected, context = results(model), multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work() -> None:
        signal.alarm(PATIENCE)
        queue.put(results(model))

    workers = [context.Process(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [queue.get() for _ in workers] == [expected] * 4
    for worker in workers:
        worker.join(PATIENCE)
    assert [worker.exitcode for worker in workers] == [0] * 4
