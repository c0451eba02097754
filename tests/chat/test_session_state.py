"""Is nothing read twice that need not be, and does a session come back from a file as it was?"""

import json
from pathlib import Path
from typing import Any

import pytest
from dialocpp import PRESETS, CapacityError, ChatSession, Model
from dialocpp.decoding.generation_config import ARGUMENTS
from sentences import one_sentence

LINES = ["Hello, how are you?", "What do you like to eat?", "I am going home now.", "Does money buy happiness?"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(num_threads=1)


def own_tokens(model: Model, line: str) -> int:
    return len(model.tokenizer.encode(line)) + 1


# The cache


def test_undo_leaves_the_cache_of_what_stays(model: Model) -> None:
    chat = ChatSession(model, seed=1)
    for line in LINES:
        chat.reply(line)
    for line in reversed(LINES[2:]):
        assert chat.undo() == line
        usage = chat.reply("Something else then.").usage
        assert usage.fresh_tokens == own_tokens(model, "Something else then.")
        assert usage.recomputed_tokens == 0
        chat.undo()


def test_fork_and_regenerate_read_nothing_again(model: Model) -> None:
    chat = ChatSession(model, seed=1)
    for line in LINES[:2]:
        chat.reply(line)
    twin = chat.fork()
    usages = [each.reply(LINES[2]).usage for each in (chat, twin)]
    assert usages[0] == usages[1]
    assert usages[0].recomputed_tokens == 0
    assert chat.regenerate().usage.fresh_tokens == 1, "the last token of the prompt, for its logits"
    assert chat.regenerate().usage.recomputed_tokens == 0


def test_undo_behind_a_drop_that_was_known_before_is_free(model: Model) -> None:
    chat = ChatSession(model, seed=2, window_tokens=64)
    while not (reply := chat.reply("Tell me more about that.")).dropped_turns:
        pass
    assert reply.usage.recomputed_tokens > 0
    chat.undo()
    again = chat.reply("Tell me more about this.")
    assert again.dropped_turns == reply.dropped_turns
    assert again.usage.recomputed_tokens == 0
    assert again.usage.fresh_tokens <= own_tokens(model, "Tell me more about this.")


def test_prepare_moves_the_cost_and_changes_no_reply(model: Model) -> None:
    prepared, plain = (ChatSession(model, seed=3, window_tokens=64) for _ in range(2))
    recomputed = 0
    for i in range(30):
        line = LINES[i % 4]
        fresh = prepared.prepare()
        assert prepared.prepare() == 0, "it is read"
        one, other = prepared.reply(line), plain.reply(line)
        assert (one.text, one.dropped_turns) == (other.text, other.dropped_turns)
        assert one.usage.prepared_tokens == fresh
        assert one.usage.recomputed_tokens == other.usage.recomputed_tokens
        if one.usage.recomputed_tokens:
            recomputed += 1
            assert one.usage.fresh_tokens <= own_tokens(model, line), "it was read before the message came"
            assert other.usage.fresh_tokens > own_tokens(model, line)
        assert other.usage.prompt_tokens <= 64
    assert 2 <= recomputed <= 15
    assert ChatSession(model).prepare() == 0


def test_the_soft_window_holds_and_the_greedy_one_is_the_model_s(model: Model) -> None:
    chat, greedy = ChatSession(model, seed=4), ChatSession(model, do_sample=False, max_new_tokens=20)
    longest = 0
    for i in range(30):
        assert chat.reply(LINES[i % 4]).usage.prompt_tokens <= 128
        longest = max(longest, greedy.reply(LINES[i % 4]).usage.prompt_tokens)
    assert longest > 200


# The persona


def test_a_persona_never_leaves_and_is_read_once(model: Model) -> None:
    persona = ["I am a teacher.", "I live in Paris with my cat."]
    chat = ChatSession(model, seed=5, persona=persona, window_tokens=48)
    pinned = [token for line in persona for token in (*model.tokenizer.encode(line), model.tokenizer.eos_token_id)]
    assert chat.prepare() == len(pinned)
    drops = 0
    for i in range(20):
        reply = chat.reply(LINES[i % 4])
        assert chat._sequence.tokens[: len(pinned)] == pinned
        assert reply.usage.cached_tokens >= len(pinned)
        assert reply.usage.prompt_tokens <= len(pinned) + 48
        drops += reply.dropped_turns > 0
    assert drops >= 2
    assert all(turn["content"] not in persona for turn in chat.history)
    twin = chat.fork()
    chat.reset()
    assert chat.reply("Hi").usage.prompt_tokens == len(pinned) + own_tokens(model, "Hi")
    assert twin.reply("Hi").usage.cached_tokens >= len(pinned)


def test_a_persona_that_leaves_no_room(model: Model) -> None:
    with one_sentence(CapacityError, "persona"):
        ChatSession(model, persona=["so " * 200])


# Save and load


def test_settings_come_back(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(
        model,
        preset="paddle",
        seed=6,
        num_candidates=2,
        persona=["I am a cook."],
        window_tokens=60,
        reply_filter=["dog", "cat"],
        fallback=["Pardon?"],
        echo_guard=True,
        max_retries=1,
    )
    for line in LINES:
        chat.reply(line)
    chat.regenerate()
    chat.save(path)
    loaded = ChatSession.load(path, model)
    assert (loaded.settings, loaded.preset, loaded.seed) == (chat.settings, "paddle", 6)
    assert loaded._exchanges == chat._exchanges
    first, second = (each.regenerate() for each in (chat, loaded))
    assert (first.text, first.seed) == (second.text, second.seed)
    assert chat.undo() == loaded.undo()
    first, second = (each.reply("Good night.") for each in (chat, loaded))
    assert (first.text, first.candidates) == (second.text, second.candidates)
    content = json.loads(path.read_text())
    assert content["version"] == 2
    assert "cache" not in content


def test_functions_are_asked_for(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"

    def polite(text: str) -> bool:
        return "damn" not in text

    def short(context: list[str], reply: str) -> float:
        return -len(reply)

    chat = ChatSession(model, seed=7, reply_filter=polite, rankers=[short], num_candidates=2)
    chat.reply("Hello")
    chat.save(path)
    for given, missing in (({}, "reply_filter"), ({"reply_filter": polite}, "rankers")):
        with one_sentence(ValueError, f"held with {missing}"):
            ChatSession.load(path, model, **given)
    loaded = ChatSession.load(path, model, reply_filter=polite, rankers=[short])
    assert loaded.reply("And?").candidates == chat.reply("And?").candidates
    assert ChatSession.load(path, model, reply_filter=None, rankers=()).settings.reply_filter is None


# Presets and settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(model: Model, name: str) -> None:
    preset = PRESETS[name]
    assert preset.generation.keys() <= ARGUMENTS
    if preset.needs_reverse:
        with one_sentence(ValueError, "reverse="):
            ChatSession(model, preset=name)
        chat = ChatSession(model, preset=name, seed=8, rankers=lambda context, reply: len(reply))
        reply = chat.reply("Hello", max_new_tokens=12)
        assert len(reply.candidates) == 16
        return
    chat = ChatSession(model, preset=name, seed=8)
    reply = chat.reply("Hello", max_new_tokens=12)
    assert reply.text
    if name == "default":
        assert chat.generation_config == ChatSession(model).generation_config
    if name == "paper-beam":
        ids = [*model.tokenizer.encode("Hello"), model.tokenizer.eos_token_id]
        (alone,) = model.generate(ids, preset.generation_config, max_new_tokens=12)
        assert reply.token_ids == reply.candidates[0].token_ids == alone.token_ids
        assert reply.candidates[0].scores["beam"] == alone.score
        assert chat.reply("And you?", max_new_tokens=12).usage.recomputed_tokens == 0
    if name == "model-card":
        assert chat.reply("And you?", max_new_tokens=12).token_ids == greedy(model, "Hello", "And you?")


def greedy(model: Model, *lines: str) -> tuple[int, ...]:
    ids: list[int] = []
    for line in lines:
        ids += [*model.tokenizer.encode(line), model.tokenizer.eos_token_id]
        (said,) = model.generate(ids, max_new_tokens=12)
        ids += [*said.token_ids, model.tokenizer.eos_token_id]
    return said.token_ids


BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"preset": "padle"}, ValueError, "did you mean 'paddle'"),
    ({"num_candidates": 0}, ValueError, "num_candidates must be 1 or more"),
    ({"num_candidates": "two"}, TypeError, "num_candidates"),
    ({"max_retries": -1}, ValueError, "max_retries"),
    ({"window_tokens": 0}, ValueError, "window_tokens"),
    ({"window_tokens": 1.5}, TypeError, "window_tokens"),
    ({"echo_guard": "yes"}, TypeError, "echo_guard"),
    ({"fallback": []}, ValueError, "fallback"),
    ({"fallback": [" "]}, ValueError, "fallback"),
    ({"persona": [5]}, TypeError, "persona"),
    ({"reply_filter": 5}, TypeError, "reply_filter"),
    ({"reply_filter": [""]}, ValueError, "reply_filter"),
    ({"chat_format": 5}, TypeError, "chat_format"),
    ({"chat_format": "dialog"}, ValueError, "chat_format must be one of"),
    ({"num_candidate": 2}, TypeError, "did you mean 'num_candidates'"),
    ({"window_token": 2}, TypeError, "did you mean 'window_tokens'"),
]


@pytest.mark.parametrize(("arguments", "kind", "about"), BAD_SETTINGS, ids=[str(a[0]) for a in BAD_SETTINGS])
def test_a_bad_setting(model: Model, arguments: dict[str, Any], kind: type[Exception], about: str) -> None:
    with one_sentence(kind, about):
        ChatSession(model, **arguments)


def test_a_bad_setting_is_an_error_before_anything_is_loaded(tmp_path: Path) -> None:
    with one_sentence(ValueError, "num_candidates"):
        ChatSession.from_pretrained(tmp_path / "nothing here", num_candidates=0)
    chat = ChatSession.from_pretrained(preset="gpt2bot", seed=1, persona="I am a cook.", num_threads=1)
    assert (chat.preset, chat.settings.persona) == ("gpt2bot", ("I am a cook.",))
