"""Is bad input one sentence of the right type, after which the session goes on and nothing is lost?"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conversations import LINES, SHORT, converse, ids_of
from dialocpp import CapacityError, ChatSession, Model
from sentences import one_sentence

BAD_MESSAGES: list[tuple[Any, type[Exception], str]] = [
    ("", ValueError, "empty"),
    (" \t\n ", ValueError, "empty"),
    ("\u3000", ValueError, "empty"),
    ("word " * 20_000, CapacityError, "shorten"),
    ("a\x00b", ValueError, r"U\+0000 at index 1"),
    ("\x1b[31mred", ValueError, r"U\+001B at index 0"),
    ("bell\x07", ValueError, r"U\+0007"),
    ("\x85", ValueError, ""),
    ("half \ud83d", ValueError, "surrogate"),
    ("\udc80", ValueError, "surrogate"),
    (None, TypeError, "NoneType"),
    (b"bytes", TypeError, "bytes"),
    (7, TypeError, "int"),
    (["Hello"], TypeError, "list"),
]


@pytest.fixture
def chat_that_goes_on(model: Model) -> Iterator[ChatSession]:
    chat, undisturbed = (ChatSession(model, seed=25, **SHORT) for _ in range(2))
    for session in (chat, undisturbed):
        session.reply(LINES[0])
    before = chat.history
    yield chat
    assert chat.history == before
    assert ids_of(converse(chat, LINES[1:])) == ids_of(converse(undisturbed, LINES[1:]))


@pytest.mark.parametrize(
    ("message", "kind", "about"), BAD_MESSAGES, ids=[repr(m[0])[:16] for m in BAD_MESSAGES]
)
def test_a_bad_message(
    chat_that_goes_on: ChatSession, message: Any, kind: type[Exception], about: str
) -> None:
    for say in (chat_that_goes_on.reply, chat_that_goes_on.stream):
        with one_sentence(kind, about):
            say(message)


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temprature": 1.0}, TypeError, "did you mean 'temperature'"),
    ({"wibble": 5}, TypeError, "GenerationConfig's help"),
    ({"temperature": -0.5}, ValueError, "expected temperature greater than 0"),
    ({"temperature": "hot"}, TypeError, "temperature"),
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens"),
    ({"max_new_tokens": -1}, ValueError, "max_new_tokens"),
    ({"top_p": 2}, ValueError, "top_p"),
    ({"top_k": 2**40}, ValueError, "top_k"),
    ({"seed": -1}, ValueError, "seed"),
    ({"eos_token_id": 2**40}, ValueError, "eos_token_id"),
]


@pytest.mark.parametrize(
    ("arguments", "kind", "about"), BAD_ARGUMENTS, ids=[str(a[0]) for a in BAD_ARGUMENTS]
)
def test_a_bad_argument(
    chat_that_goes_on: ChatSession, arguments: dict[str, Any], kind: type[Exception], about: str
) -> None:
    for call in (chat_that_goes_on.reply, chat_that_goes_on.stream):
        with one_sentence(kind, about):
            call("Hello", **arguments)
    for call in (chat_that_goes_on.regenerate, chat_that_goes_on.regenerate_stream):
        with one_sentence(kind, about):
            call(**arguments)
    with one_sentence(kind, about):
        ChatSession(chat_that_goes_on.model, **arguments)


def test_a_bad_seed_of_a_session(random_model: Model) -> None:
    for seed, kind in ((-1, ValueError), (2**64, ValueError), ("x", TypeError), (1.5, TypeError)):
        with one_sentence(kind, "seed"):
            ChatSession(random_model, seed=seed)  # type: ignore[arg-type]


def test_a_full_cache_leaves_the_session_whole(random_folder: Path, random_model: Model) -> None:
    probe = ChatSession(random_model, seed=26, **SHORT)
    gc.collect()
    before = random_model.kv_bytes_in_use
    probe.reply("Hi")
    page = random_model.kv_bytes_in_use - before
    model = Model.from_pretrained(random_folder, dtype="float32", num_threads=1, kv_cache_bytes=3 * page)
    first, second = (ChatSession(model, seed=seed, **SHORT) for seed in (26, 27))
    first.reply("Hi")
    second.reply("Hi")
    history = second.history
    with one_sentence(CapacityError, "in the KV cache, found"):
        second.reply("a longer message that needs another page")
    assert second.history == history
    del first
    second.reply("a longer message that needs another page")
    assert len(second.history) == 4
