"""Whatever one caller's own function raises, do the others get the reply that they get alone?"""

import asyncio
import dataclasses
import gc
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dialocpp import CapacityError, ChatSession, GenerationConfig, Model
from dialocpp.decoding.rules import Rules
from dialocpp.engine.request import Request
from held_engine import in_threads
from sentences import one_sentence
from small_models import Gpt2, gpt2_config, random_gpt2

SHORT: dict[str, Any] = {"max_new_tokens": 12, "min_new_tokens": 12, "seed": 3}
LINE, PROMPT = "Hello, how are you?", [5, 6, 7]


class OwnError(BaseException):
    pass


class OwnInterrupt(KeyboardInterrupt):
    pass


class PanicException(BaseException):
    """As the tokenizers package raises it."""


PanicException.__module__ = "pyo3_runtime"


class ChangedByCopyError(BaseException):
    """A copy by its arguments has another text."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class UnshowableError(BaseException):
    def __str__(self) -> str:
        raise SystemExit("in str()")


ERRORS: list[Callable[[], BaseException]] = [
    lambda: SystemExit(7),
    lambda: GeneratorExit("mine"),
    lambda: asyncio.CancelledError("mine"),
    lambda: OwnInterrupt("mine"),
    lambda: OwnError("mine"),
    lambda: PanicException("mine"),
    lambda: ChangedByCopyError("mine"),
    lambda: FrozenError(4),
    lambda: UnshowableError("mine"),
    lambda: StopAsyncIteration("mine"),
]
every_error = pytest.mark.parametrize("make", ERRORS, ids=lambda make: type(make()).__name__)


@pytest.fixture(scope="module")
def model(save_folder: Callable[[Gpt2], Path]) -> Model:
    sizes = {"n_positions": 128, "n_embd": 48, "n_head": 3}
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes), seed=2)), num_threads=1)


def guilty(make: Callable[[], BaseException], at: int = 4) -> Callable[..., None]:
    calls = count(1)

    def hook(*_: Any) -> None:
        if next(calls) == at:
            raise make()

    return hook


def same(found: BaseException, made: BaseException) -> bool:
    return type(found) is type(made) and found.args == made.args and vars(found) == vars(made)


@every_error
def test_two_sessions_in_turns(model: Model, make: Callable[[], BaseException]) -> None:
    """The innocent one runs the steps, also those in which the other one's hook raises."""
    alone = ChatSession(model, **SHORT).reply(LINE).token_ids
    innocent, other = (ChatSession(model, **SHORT) for _ in range(2))
    bad = other.stream(LINE, logits_processor=guilty(make))
    assert innocent.reply(LINE).token_ids == alone
    with pytest.raises(type(make())) as found:
        list(bad)
    assert same(found.value, make())
    assert other.reply(LINE).seed is not None, "it is usable"


@every_error
def test_two_sessions_in_two_threads(model: Model, make: Callable[[], BaseException]) -> None:
    alone = ChatSession(model, **SHORT).reply(LINE).token_ids
    replies: list[Any] = []

    def one() -> None:
        replies.extend(ChatSession(model, **SHORT).reply(LINE).token_ids for _ in range(5))

    def another() -> None:
        for at in range(1, 8):
            with pytest.raises(type(make())) as found:
                ChatSession(model, **SHORT).reply(LINE, logits_processor=guilty(make, at))
            assert same(found.value, make())

    in_threads(one, another)
    assert replies == [alone] * 5


@pytest.mark.parametrize("make", [lambda: OwnError("mine"), GeneratorExit, lambda: OwnInterrupt("mine")])
def test_two_sessions_on_an_event_loop(model: Model, make: Callable[[], BaseException]) -> None:
    alone = ChatSession(model, **SHORT).reply(LINE).token_ids

    async def hurt() -> None:
        with pytest.raises(type(make())):
            await ChatSession(model, **SHORT).areply(LINE, logits_processor=guilty(make))

    async def both() -> Any:
        return await asyncio.gather(ChatSession(model, **SHORT).areply(LINE), hurt())

    assert asyncio.run(both())[0].token_ids == alone


def request_of(model: Model, **rules: Any) -> Request:
    sampling = model.runtime.request(
        model.runtime.new_sequence(), PROMPT, GenerationConfig(), seed=0, penalty_start=0
    ).rules.sampling
    return Request(model.runtime.new_sequence(), PROMPT, Rules(sampling, 9, 128, (), **rules))


@every_error
@pytest.mark.parametrize("where", ["bans", "stops"])
def test_bans_and_stops(model: Model, where: str, make: Callable[[], BaseException]) -> None:
    def hook(generated: list[int]) -> Any:
        if len(generated) == 3:
            raise make()
        return () if where == "bans" else False

    alone = request_of(model)
    model.runtime.run([alone])
    bad, good = request_of(model, **{where: hook}), request_of(model)
    with model.runtime.running([bad, good]) as scheduler:
        scheduler.finish(good)
        for _ in range(2):
            with pytest.raises(type(make())) as found:
                scheduler.finish(bad)
            assert same(found.value, make())
        assert bad.error is not None and bad.error.__context__ is None
    assert good.generated == alone.generated


@pytest.mark.parametrize("where", ["bans", "stops"])
def test_stop_iteration_is_no_end(model: Model, where: str) -> None:
    def hook(generated: list[int]) -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="found StopIteration"):
        model.runtime.run([request_of(model, **{where: hook})])


def test_a_hook_without_frames(model: Model) -> None:
    def interleaved() -> None:
        alone = ChatSession(model, **SHORT).reply(LINE).token_ids
        bad = ChatSession(model, **SHORT).stream(LINE, logits_processor=sys.exit)
        assert ChatSession(model, **SHORT).reply(LINE).token_ids == alone
        with pytest.raises((SystemExit, TypeError)):
            next(bad)

    interleaved()


def test_it_says_where_and_holds_nothing(model: Model) -> None:
    gc.collect()
    before = model.kv_bytes_in_use

    def fail_here(*_: Any) -> None:
        raise OwnError("mine")

    kept: list[BaseException] = []
    gc.disable()
    try:
        try:
            model.generate(PROMPT, logits_processor=fail_here)
        except OwnError as error:
            kept.append(error.with_traceback(None))
        assert model.kv_bytes_in_use == before
    finally:
        gc.enable()
    assert "in fail_here" in "".join(traceback.format_exception(kept[0]))


class AlarmError(Exception):
    pass


def raises_alarm(*_: Any) -> None:
    raise AlarmError


@pytest.mark.parametrize(
    ("handler", "kind"), [(signal.default_int_handler, KeyboardInterrupt), (raises_alarm, AlarmError)]
)
def test_a_signal_in_anothers_hook_is_the_stepping_threads(
    model: Model, handler: Any, kind: type[BaseException]
) -> None:
    """Whoever runs the step gets it; the other one's reply goes on as if nothing had been."""
    alone = ChatSession(model, **SHORT).reply(LINE).token_ids
    calls = count(1)

    def struck(*_: Any) -> None:
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    try:
        other = ChatSession(model, **SHORT).stream(LINE, logits_processor=struck)
        stepping = ChatSession(model, **SHORT)
        with pytest.raises(kind):
            stepping.reply(LINE)
        list(other)
    finally:
        signal.signal(signal.SIGINT, before)
    assert other.reply.token_ids == alone


def test_an_interrupt_that_a_hook_raises_itself(model: Model) -> None:
    """In the main thread it cannot be told from Ctrl-C; in any other there is no Ctrl-C, so it is the hook's."""
    hook = guilty(KeyboardInterrupt)
    other = ChatSession(model, **SHORT).stream(LINE, logits_processor=hook)
    with pytest.raises(KeyboardInterrupt):
        ChatSession(model, **SHORT).reply(LINE)
    list(other)
    alone, replies = other.reply.token_ids, []
    bad = ChatSession(model, **SHORT).stream(LINE, logits_processor=guilty(KeyboardInterrupt))
    in_threads(lambda: replies.append(ChatSession(model, **SHORT).reply(LINE).token_ids))
    assert replies == [alone]
    with pytest.raises(KeyboardInterrupt):
        list(bad)


def test_a_hook_may_not_reshape_what_it_is_given(model: Model) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        logits.resize((len(logits), 1), refcheck=False)

    with one_sentence(ValueError, "expected logits of shape"):
        model.generate(PROMPT, logits_processor=hook)


def test_an_empty_prompt(model: Model) -> None:
    """As a template writes it that says nothing."""
    runtime, config = model.runtime, GenerationConfig()
    with one_sentence(ValueError, "expected a prompt of at least one token, found none"):
        runtime.request(runtime.new_sequence(), [], config, seed=0, penalty_start=0)
    with one_sentence(ValueError, "expected a prompt of at least one token, found none"):
        runtime.beam_search(runtime.new_sequence(), [], GenerationConfig(num_beams=2), penalty_start=0)
    with one_sentence(ValueError, "expected a prompt of at least one token, found"):
        model.generate([[]])
    with one_sentence(ValueError, "expected a prompt of at least one token, found none"):
        ChatSession(model, chat_format=lambda dialogue: []).reply(LINE)


@pytest.mark.parametrize("call", ["logits", "logprobs"])
def test_too_many_ids_take_no_memory(model: Model, call: str) -> None:
    """A range holds no ids, and 10**12 rows would fit nowhere. An id that is none comes second."""
    for ids in (range(10**12), [-1] * 129):
        with one_sentence(CapacityError, "at most 128 tokens"):
            getattr(model, call)(ids)


@pytest.mark.parametrize("seconds", [10**400, 2**1024])
def test_a_time_that_no_clock_counts(seconds: int) -> None:
    with one_sentence(ValueError, "expected max_time to fit into a float"):
        GenerationConfig(max_time=seconds)
