"""Does a conversation stay whole, its history, window and cache, whatever strikes in mid-reply?"""

import asyncio
import dataclasses
import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import CapacityError, ChatSession, Model, Reply
from dialocpp.engine import request as jobs
from dialocpp.engine import scheduler
from dialocpp.prompt.turns import turn_ids
from scripted_runtime import serve_with
from sentences import one_sentence
from small_models import Gpt2, gpt2_config, random_gpt2

LINES = [
    "Hello, how are you?",
    "What do you like to eat?",
    "I am going home now.",
    "Does money buy happiness?",
]
SHORT = {"max_new_tokens": 12}


@pytest.fixture(scope="module")
def random_folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    """A model that ends many of its turns. Its tokens are ASCII: one each, so that every token is a piece."""
    sizes = {"n_positions": 256, "n_embd": 48, "n_head": 3}
    return save_folder(random_gpt2(gpt2_config(**sizes), seed=2, end_lift=1.0))


@pytest.fixture(scope="module")
def random_model(random_folder: Path) -> Model:
    return Model.from_pretrained(random_folder, dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def bytes_model(save_folder: Callable[[Gpt2], Path]) -> Model:
    """Its tokenizer knows every byte and few pairs: other characters than ASCII take several tokens."""
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(vocab_size=301), seed=3)), num_threads=1)


@pytest.fixture(scope="module")
def bundled_model() -> Model:
    return Model.from_pretrained(num_threads=1)


@pytest.fixture(params=["random", "bundled"])
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(f"{request.param}_model")


def converse(chat: ChatSession, lines: list[str] = LINES, **generation: Any) -> list[Reply]:
    return [chat.reply(line, **{**SHORT, **generation}) for line in lines]


def ids_of(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


def reopened(chat: ChatSession, folder: Path) -> ChatSession:
    """The same conversation with an empty cache."""
    chat.save(folder / "reopened.json")
    return ChatSession.load(folder / "reopened.json", chat.model)


# Turns


def test_a_conversation_is_its_history(model: Model) -> None:
    chat = ChatSession(model, seed=1)
    replies = converse(chat)
    expected = []
    for line, reply in zip(LINES, replies, strict=True):
        expected += [{"role": "user", "content": line}, {"role": "assistant", "content": str(reply)}]
    assert chat.history == expected
    assert all(reply.text == model.tokenizer.decode(reply.token_ids) for reply in replies)
    chat.history.clear()
    assert chat.history == expected, "the history is a copy"


def test_a_seed_repeats_the_conversation(model: Model) -> None:
    first, again, other = (ids_of(converse(ChatSession(model, seed=seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_each_turn_has_its_own_random_numbers(random_model: Model) -> None:
    replies = converse(ChatSession(random_model, seed=1))
    assert len({reply.seed for reply in replies}) == len(replies)


def test_a_stream_is_the_reply_in_pieces(model: Model) -> None:
    whole, pieces = ChatSession(model, seed=3), ChatSession(model, seed=3)
    for line in LINES:
        stream = pieces.stream(line, **SHORT)
        with pytest.raises(RuntimeError, match="no reply yet"):
            _ = stream.reply
        text = "".join(stream)
        reply = whole.reply(line, **SHORT)
        assert text == str(reply) == str(stream.reply)
        assert stream.reply.token_ids == reply.token_ids
        assert list(stream) == [], "a stream that has ended stays ended"
    assert whole.history == pieces.history


def test_greedy_replies_are_those_of_generate(model: Model) -> None:
    chat = ChatSession(model, do_sample=False, **SHORT)
    ids: list[int] = []
    for line in LINES:
        eos = model.tokenizer.eos_token_id
        ids += [*model.tokenizer.encode(line), eos]
        (expected,) = model.generate(ids, **SHORT)
        reply = chat.reply(line)
        assert (reply.token_ids, reply.finish_reason) == (expected.token_ids, expected.finish_reason)
        ids += [*reply.token_ids, eos]


def test_penalties_look_at_the_reply_alone(model: Model) -> None:
    """A word of the conversation may be said again; else a long one would run out of words."""
    chat = ChatSession(model, do_sample=False, no_repeat_ngram_size=1, **SHORT)
    eos = model.tokenizer.eos_token_id
    ids: list[int] = []
    for line in LINES[:2]:
        ids += [*model.tokenizer.encode(line), eos]
        said: list[int] = []
        while len(said) < SHORT["max_new_tokens"] and eos not in said:
            logits = model.logits([*ids, *said])[-1]
            logits[said] = -np.inf
            said.append(int(logits.argmax()))
        said = [token for token in said if token != eos]
        assert chat.reply(line).token_ids == tuple(said)
        ids += [*said, eos]


def test_text_never_becomes_a_special_token(model: Model) -> None:
    chat = ChatSession(model, seed=1, **SHORT)
    reply = chat.reply("a<|endoftext|>b")
    ids = model.tokenizer.encode("a<|endoftext|>b")
    assert model.tokenizer.eos_token_id not in ids
    assert reply.usage.prompt_tokens == len(ids) + 1


# The cache


def test_a_turn_reads_only_its_new_tokens(model: Model) -> None:
    """Of the reply before it, the cache lacks the token that was chosen last and never read."""
    chat = ChatSession(model, seed=5, **SHORT)
    total, reasons = 0, set()
    previous: Reply | None = None
    for line in LINES:
        reply = chat.reply(line)
        new = len(model.tokenizer.encode(line)) + 1
        if previous is not None:
            new += 1 if previous.finish_reason == "eos" else 2
        total = reply.usage.prompt_tokens
        assert total - reply.usage.cached_tokens == new
        assert total == sum(len(turn) for turn in chat._turns[:-1])
        reasons.add(reply.finish_reason)
        previous = reply


def test_the_cache_changes_no_reply(model: Model, tmp_path: Path) -> None:
    chat = ChatSession(model, seed=6, **SHORT)
    for line in LINES:
        twin = reopened(chat, tmp_path)
        reply, fresh = chat.reply(line), twin.reply(line)
        assert fresh.usage.cached_tokens == 0
        assert fresh.token_ids == reply.token_ids


def test_sessions_free_their_pages(random_model: Model) -> None:
    gc.collect()
    gc.disable()
    try:
        chat = ChatSession(random_model, seed=1, **SHORT)
        converse(chat)
        assert random_model.kv_bytes_in_use > 0
        chat.reset()
        assert random_model.kv_bytes_in_use == 0
        stream = chat.stream("Hello")
        next(stream)
        del chat, stream
        assert random_model.kv_bytes_in_use == 0
    finally:
        gc.enable()


# Undo, regenerate, fork, reset


def test_undo_takes_back_one_exchange(model: Model) -> None:
    chat, undisturbed = (ChatSession(model, seed=7, **SHORT) for _ in range(2))
    converse(chat, LINES[:2])
    before = chat.history
    chat.reply("What a pity!")
    assert chat.undo() == "What a pity!"
    assert chat.history == before
    converse(undisturbed, LINES[:2])
    assert chat.reply(LINES[2]).token_ids == undisturbed.reply(LINES[2]).token_ids
    for line in reversed(LINES[:3]):
        assert chat.undo() == line
    assert chat.history == []
    with one_sentence(ValueError, "no turn yet"):
        chat.undo()
    assert chat.reply(LINES[0]).token_ids == ids_of(converse(ChatSession(model, seed=7)))[0]


def test_regenerate_answers_anew(model: Model) -> None:
    chat, again = (ChatSession(model, seed=8, do_sample=True, temperature=2.0, **SHORT) for _ in range(2))
    with one_sentence(ValueError, "no turn yet"):
        chat.regenerate()
    replies = [chat.reply(LINES[0])] + [chat.regenerate() for _ in range(4)]
    assert len(set(ids_of(replies))) == 5
    assert len(chat.history) == 2 and chat.history[-1]["content"] == str(replies[-1])
    assert replies[-1].usage.cached_tokens == replies[-1].usage.prompt_tokens - 1
    assert ids_of([again.reply(LINES[0])] + [again.regenerate() for _ in range(4)]) == ids_of(replies)
    assert chat.reply(LINES[1]).token_ids == again.reply(LINES[1]).token_ids


def test_greedy_regenerate_is_the_same_again(model: Model) -> None:
    chat = ChatSession(model, do_sample=False, **SHORT)
    reply = chat.reply(LINES[0])
    assert chat.regenerate().token_ids == reply.token_ids
    longer = chat.regenerate(max_new_tokens=30)
    assert longer.token_ids[: len(reply.token_ids)] == reply.token_ids


def test_an_abandoned_regenerate_keeps_the_old_reply(
    random_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ChatSession(random_model, seed=8, **SHORT)
    chat.reply(LINES[0])
    before = chat.history
    stream = chat.regenerate_stream()
    stream.close()
    assert chat.history == before
    with interrupted_at(monkeypatch, 0), one_sentence(KeyboardInterrupt):
        chat.regenerate()
    assert chat.history == before
    assert chat.undo() == LINES[0]


def test_forks_share_the_past_and_nothing_else(model: Model) -> None:
    chat = ChatSession(model, seed=9, **SHORT)
    converse(chat, LINES[:2])
    twin = chat.fork()
    past = chat.history
    reply = chat.reply(LINES[2])
    assert twin.history == past
    same = twin.reply(LINES[2])
    assert same.token_ids == reply.token_ids
    assert same.usage.cached_tokens == reply.usage.cached_tokens > 0, "the fork shares the cache"
    twin.undo()
    other = twin.reply("Something else entirely.")
    assert chat.history[:4] == twin.history[:4] == past and chat.history[4:] != twin.history[4:]
    undisturbed = ChatSession(model, seed=9, **SHORT)
    converse(undisturbed, [*LINES[:2], "Something else entirely."])
    assert undisturbed.history[-1]["content"] == str(other)
    assert chat.reply(LINES[3]).token_ids == ids_of(converse(ChatSession(model, seed=9)))[3]


def test_reset_begins_anew(model: Model) -> None:
    chat = ChatSession(model, seed=10)
    first = ids_of(converse(chat))
    chat.reset()
    assert chat.history == []
    assert ids_of(converse(chat)) == first


# Save and load


def test_a_loaded_conversation_goes_on_alike(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(model, seed=11, temperature=1.3, **SHORT)
    converse(chat, LINES[:2])
    chat.regenerate()
    chat.save(path)
    loaded = ChatSession.load(path, model)
    assert loaded.history == chat.history
    assert loaded.generation_config == chat.generation_config
    assert loaded.regenerate().token_ids == chat.regenerate().token_ids
    assert ids_of(converse(loaded, LINES[2:])) == ids_of(converse(chat, LINES[2:]))
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_a_conversation_moves_to_another_model(
    random_model: Model, bytes_model: Model, tmp_path: Path
) -> None:
    """Its tokenizer has other ids, and it has a quarter of the positions."""
    chat = ChatSession(random_model, seed=12, **SHORT)
    converse(chat)
    chat.save(tmp_path / "chat.json")
    loaded = ChatSession.load(tmp_path / "chat.json", bytes_model)
    assert loaded.history == chat.history
    loaded.reply("Hello")
    assert loaded.history[:-2] == chat.history


def test_a_save_that_fails_leaves_the_old_file(random_model: Model, tmp_path: Path, monkeypatch: Any) -> None:
    chat = ChatSession(random_model, seed=13, **SHORT)
    chat.save(tmp_path / "chat.json")
    before = (tmp_path / "chat.json").read_bytes()
    chat.reply("Hello")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("the disk is full")))
    with one_sentence(OSError, "the disk is full"):
        chat.save(tmp_path / "chat.json")
    assert (tmp_path / "chat.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def first_turn(saved: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return saved | {"turns": [saved["turns"][0] | changes, saved["turns"][1]]}


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda saved: [saved],
    "another format": lambda saved: saved | {"format": "notebook"},
    "no format": lambda saved: {k: v for k, v in saved.items() if k != "format"},
    "a later version": lambda saved: saved | {"version": 3},
    "no turns": lambda saved: {k: v for k, v in saved.items() if k != "turns"},
    "turns are a number": lambda saved: saved | {"turns": 3},
    "half an exchange": lambda saved: saved | {"turns": saved["turns"][:1]},
    "two users": lambda saved: saved | {"turns": saved["turns"][:1] * 2},
    "text is a number": lambda saved: first_turn(saved, content=5),
    "ids are words": lambda saved: first_turn(saved, token_ids=["a"]),
    "a negative id": lambda saved: first_turn(saved, token_ids=[-1]),
    "an unknown id": lambda saved: first_turn(saved, token_ids=[97]),
    "a huge id": lambda saved: first_turn(saved, token_ids=[2**40]),
    "window behind the end": lambda saved: saved | {"exchanges": [{"first_visible": 9, "attempt": 0}]},
    "a negative window": lambda saved: saved | {"exchanges": [{"first_visible": -1, "attempt": 0}]},
    "too many exchanges": lambda saved: saved | {"exchanges": saved["exchanges"] * 2},
    "an exchange is a number": lambda saved: saved | {"exchanges": [1]},
    "settings are a list": lambda saved: saved | {"settings": [1]},
    "an unknown session setting": lambda saved: saved | {"settings": {"warmth": 1}},
    "a bad session setting": lambda saved: saved | {"settings": {"num_candidates": "x"}},
    "functions without names": lambda saved: saved | {"functions": [1]},
    "the seed is text": lambda saved: saved | {"seed": "x"},
    "the seed is too large": lambda saved: saved | {"seed": 2**64},
    "an unknown setting": lambda saved: saved | {"generation_config": {"warmth": 1}},
    "a bad setting": lambda saved: saved | {"generation_config": {"temperature": -1}},
    "no settings": lambda saved: saved | {"generation_config": None},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_error(random_model: Model, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(random_model, seed=14, **SHORT)
    chat.reply("Hello")
    chat.save(path)
    path.write_text(json.dumps(DAMAGES[damage](json.loads(path.read_text()))))
    with one_sentence(ValueError):
        ChatSession.load(path, random_model)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"hello", b"\xff\xfe\x00", b"null", b'{"format": "dialocpp.chat"']
)
def test_what_is_no_conversation_is_an_error(random_model: Model, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "chat.json").write_bytes(content)
    with one_sentence(ValueError, "not a saved conversation"):
        ChatSession.load(tmp_path / "chat.json", random_model)


def test_a_file_that_is_not_there_is_an_error(random_model: Model, tmp_path: Path) -> None:
    with one_sentence(FileNotFoundError):
        ChatSession.load(tmp_path / "chat.json", random_model)


# The window


def test_a_long_conversation_stays_in_its_window(random_model: Model) -> None:
    """256 positions, 16 of them for the reply: old turns fall out, many at once and seldom."""
    chat = ChatSession(random_model, do_sample=False, max_new_tokens=16)
    eos, window = random_model.tokenizer.eos_token_id, random_model.config.n_positions
    drops = first = 0
    for i in range(60):
        reply = chat.reply("ah " * (1 + i % 5) + str(i))
        usage = reply.usage
        assert usage.prompt_tokens + 16 <= window
        assert len(chat._sequence) <= window
        first += reply.dropped_turns
        prompt = turn_ids(chat._turns[first:-1], eos)
        assert usage.prompt_tokens == len(prompt), "whole turns"
        # What the model saw, it sees as if nothing had been before.
        (alone,) = random_model.generate(prompt, max_new_tokens=16)
        assert alone.token_ids == reply.token_ids
        if reply.dropped_turns:
            drops += 1
            assert usage.prompt_tokens <= window // 2
        elif i:
            assert usage.prompt_tokens - usage.cached_tokens <= len(chat._turns[-2]) + 2, "only the new turn"
    assert len(chat.history) == 120
    assert first > 60
    assert 2 <= drops <= 20, "most turns pay nothing"


def test_room_for_the_reply_is_at_most_half_the_window(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=1, max_new_tokens=100_000, min_new_tokens=300)
    reply = chat.reply("Hello")
    assert (reply.finish_reason, reply.usage.prompt_tokens + len(reply.token_ids)) == ("length", 257)
    chat = ChatSession(random_model, seed=1, max_new_tokens=100_000)
    assert chat.reply("a" * 127).usage.prompt_tokens == 128
    with one_sentence(CapacityError, "128 tokens"):
        chat.reply("a" * 128)


def test_undo_behind_the_window_brings_old_turns_back(random_model: Model) -> None:
    chat = ChatSession(random_model, do_sample=False, max_new_tokens=20)
    for i in range(12):
        chat.reply(f"word {i}")
    while chat.history:
        chat.undo()
        twin = chat.fork()
        twin.reply("What now?")
        assert twin.history[:-2] == chat.history
    assert chat.reply("word 0").dropped_turns == 0


def test_a_window_survives_fork_save_and_regenerate(random_model: Model, tmp_path: Path) -> None:
    chat = ChatSession(random_model, seed=15, max_new_tokens=20)
    while not chat.reply("some words").dropped_turns:
        pass
    twin, saved = chat.fork(), reopened(chat, tmp_path)
    replies = [session.reply("and now?").token_ids for session in (chat, twin, saved)]
    assert replies[0] == replies[1] == replies[2]
    again = [session.regenerate().token_ids for session in (chat, twin, saved)]
    assert again[0] == again[1] == again[2]


# Whole characters


class Script:
    """A scheduler that says what it was given, whatever was asked."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def submit(self, request: jobs.Request) -> None:
        request.rules = dataclasses.replace(request.rules, max_new_tokens=len(self._ids))

    def cancel(self, request: jobs.Request) -> None:
        pass

    def next_token(self, request: jobs.Request) -> int | None:
        if len(request.generated) == len(self._ids):
            return None
        request.generated.append(self._ids[len(request.generated)])
        return request.generated[-1]


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
        assert chat._turns[-1].token_ids == tuple(ids[:count])
        assert (stream.reply.finish_reason, stream.reply.text) == ("cancelled", shown)


# Leaving early


def test_what_others_computed_ahead_was_not_shown(random_model: Model) -> None:
    """Whoever waits runs the steps for all: a stream may be far ahead of its reader when it is closed."""
    slow, quick = (ChatSession(random_model, seed=seed, min_new_tokens=20) for seed in (1, 2))
    stream = slow.stream(LINES[0])
    text = next(stream)
    quick.reply(LINES[1])
    assert len(stream._answer._first.generated) >= 20
    stream.close()
    assert slow.history[-1]["content"] == text
    assert random_model.tokenizer.decode(slow._turns[-1].token_ids) == text


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


class interrupted_at:  # noqa: N801 (used like a function)
    """Ctrl-C in the call number `count` of a function that a reply calls again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, place: str = "next_token") -> None:
        self._patch, self._left, self._place = monkeypatch, count, place

    def __enter__(self) -> None:
        owner = scheduler.Scheduler
        original = getattr(owner, self._place)

        def strike(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                raise KeyboardInterrupt("Ctrl-C")
            return original(*arguments)

        self._context = self._patch.context()
        self._context.__enter__().setattr(owner, self._place, strike)

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


@pytest.mark.parametrize("place", ["next_token", "_step", "_plan", "_commit", "submit"])
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


@pytest.mark.parametrize("place", ["next_token", "_step", "_plan", "_commit"])
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
    said = chat._turns[-1]
    assert len(chat.history) == 4 and chat.history[2]["content"] == LINES[1]
    assert 0 < len(said.token_ids) <= count and said.token_ids == whole.token_ids[: len(said.token_ids)]
    twin = reopened(chat, tmp_path)
    assert chat.reply(LINES[2]).token_ids == twin.reply(LINES[2]).token_ids


def test_ctrl_c_in_one_session_leaves_the_others_alone(
    random_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [ChatSession(random_model, seed=seed, **SHORT) for seed in range(4)]
    expected = [str(session.fork().reply(LINES[0])) for session in sessions]
    streams = [session.stream(LINES[0]) for session in sessions]
    with interrupted_at(monkeypatch, 2, "_commit"), one_sentence(KeyboardInterrupt):
        for _ in range(3):
            next(streams[0])
            random_model.runtime.scheduler._step(streams[0]._answer._first)
    assert ["".join(stream) for stream in streams[1:]] == expected[1:]


# Many at once


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


# Bad input: one sentence of the right type, the session goes on, and nothing is lost.

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
    ({"temperature": -0.5}, ValueError, "temperature must be greater than 0"),
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
    with one_sentence(CapacityError, "KV cache is full"):
        second.reply("a longer message that needs another page")
    assert second.history == history
    del first
    second.reply("a longer message that needs another page")
    assert len(second.history) == 4
