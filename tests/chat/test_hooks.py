"""A caller's own function that fails: does its error say where, come to its caller alone, and leave nothing behind?"""

import gc
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conversations import LINES, SHORT
from dialocpp import ChatSession, Model
from dialocpp.errors import HookTraceback
from sentences import one_sentence


class HookError(Exception):
    pass


class TwoPartError(Exception):
    """It cannot be copied by its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def deep_in_the_hook(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [HookError("mine"), TwoPartError("mine", "too"), KeyError("mine")], ids=repr)
def test_an_error_of_a_hook_says_where(random_model: Model, error: Exception) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        try:
            _ = {}["what"]
        except KeyError as cause:
            raise error from cause

    chat = ChatSession(random_model, logits_processor=hook, **SHORT)
    for call in (lambda: chat.reply(LINES[0]), lambda: random_model.generate("a", logits_processor=hook)):
        try:
            call()
        except type(error) as found:
            text = "".join(traceback.format_exception(found))
            assert isinstance(found.__cause__, HookTraceback)
            assert str(found) == str(error)
        else:
            pytest.fail("no error")
        assert text.count(Path(__file__).name) >= 2 and "in hook" in text and "KeyError: 'what'" in text
    assert chat.history == []


def test_an_error_of_a_hook_holds_no_pages(random_model: Model) -> None:
    gc.collect()
    before = random_model.kv_bytes_in_use
    kept: list[Exception] = []

    def hook(tokens: list[int], logits: Any) -> None:
        raise HookError("mine")

    def ask() -> None:
        try:
            random_model.generate("a", logits_processor=hook)
        except HookError as error:
            kept.append(error.with_traceback(None))

    gc.disable()
    try:
        ask()
        assert random_model.kv_bytes_in_use == before
    finally:
        gc.enable()
    assert kept


def stops(*arguments: Any) -> Any:
    return next(iter(()))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("logits_processor", {"logits_processor": stops}),
        ("reply_filter", {"reply_filter": stops}),
        ("ranker stops", {"rankers": stops, "num_candidates": 2}),
    ],
)
def test_a_hook_that_raises_stop_iteration(random_model: Model, name: str, arguments: dict[str, Any]) -> None:
    chat = ChatSession(random_model, seed=1, **SHORT, **arguments)
    with one_sentence(RuntimeError, f"expected {name} to return something, found that it raised StopIteration"):
        chat.reply(LINES[0])
    assert chat.history == [] and chat._occupancy.holder is None


def test_a_chat_format_that_raises_stop_iteration(random_model: Model) -> None:
    with one_sentence(RuntimeError, "chat format stops to return something"):
        ChatSession(random_model, chat_format=stops)


def test_an_error_of_a_function_for_load_is_not_the_files(random_model: Model, tmp_path: Path) -> None:
    chat = ChatSession(random_model, reply_filter=lambda text: True, **SHORT)
    chat.save(tmp_path / "chat.json")

    def layout(dialogue: Any) -> Iterator[Any]:
        raise TypeError("mine")
        yield

    with one_sentence(TypeError, "mine"):
        ChatSession.load(tmp_path / "chat.json", random_model, reply_filter=None, chat_format=layout)
    with one_sentence(TypeError, "reply_filter"):
        ChatSession.load(tmp_path / "chat.json", random_model, reply_filter=5)


def test_dropped_jobs_are_served_no_more(random_model: Model) -> None:
    """Whatever struck between submitting one and noting it."""
    gc.collect()
    runtime, before = random_model.runtime, random_model.kv_bytes_in_use
    from dialocpp import GenerationConfig

    request = runtime.request(runtime.new_sequence(), [1, 2, 3], GenerationConfig(), seed=0, penalty_start=0)
    runtime.scheduler.submit(request)
    runtime.scheduler.advance(request)
    assert random_model.kv_bytes_in_use > before
    gone = weakref.ref(request)
    del request
    assert gone() is None and random_model.kv_bytes_in_use == before
    assert runtime.scheduler._live == {}
