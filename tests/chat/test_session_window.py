"""Does a conversation stay in its window, with the persona always in it?"""

from pathlib import Path

import pytest
from conversations import LINES, own_tokens, recorded, reopened, turns_of
from dialocpp import CapacityError, ChatSession, Model
from dialocpp.prompt.turns import turn_ids
from sentences import one_sentence


def test_a_long_conversation_stays_in_its_window(random_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 positions, 16 of them for the reply: old turns fall out, many at once and seldom."""
    chat = ChatSession(random_model, do_sample=False, max_new_tokens=16)
    eos, window = random_model.tokenizer.eos_token_id, random_model.config.n_positions
    drops = first = 0
    jobs = recorded(monkeypatch, random_model)
    for i in range(60):
        reply = chat.reply("ah " * (1 + i % 5) + str(i))
        usage = reply.usage
        assert usage.prompt_tokens + 16 <= window
        assert len(jobs[-1].sequence) <= window
        first += reply.dropped_turns
        turns = turns_of(chat)
        prompt = turn_ids(turns[first:-1], eos)
        assert usage.prompt_tokens == len(prompt), "whole turns"
        # What the model saw, it sees as if nothing had been before.
        (alone,) = random_model.generate(prompt, max_new_tokens=16)
        assert alone.token_ids == reply.token_ids
        if reply.dropped_turns:
            drops += 1
            assert usage.prompt_tokens <= window // 2
        elif i:
            assert usage.prompt_tokens - usage.cached_tokens <= len(turns[-2].token_ids) + 3, "only the new turn"
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


def test_the_soft_window_holds_and_the_greedy_one_is_the_model_s(bundled_model: Model) -> None:
    chat, greedy = ChatSession(bundled_model, seed=4), ChatSession(bundled_model, do_sample=False, max_new_tokens=20)
    longest = 0
    for i in range(30):
        assert chat.reply(LINES[i % 4]).usage.prompt_tokens <= 128
        longest = max(longest, greedy.reply(LINES[i % 4]).usage.prompt_tokens)
    assert longest > 200


def test_a_persona_never_leaves_and_is_read_once(bundled_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    persona = ["I am a teacher.", "I live in Paris with my cat."]
    chat = ChatSession(bundled_model, seed=5, persona=persona, window_tokens=48)
    encode, eos = bundled_model.tokenizer.encode, bundled_model.tokenizer.eos_token_id
    pinned = [token for line in persona for token in (*encode(line), eos)]
    assert chat.pinned_tokens == len(pinned) == chat.prepare()
    jobs = recorded(monkeypatch, bundled_model)
    drops = 0
    for i in range(20):
        reply = chat.reply(LINES[i % 4])
        assert jobs[-1].prompt[: len(pinned)] == jobs[-1].sequence.tokens[: len(pinned)] == pinned
        assert reply.usage.cached_tokens >= len(pinned)
        assert reply.usage.prompt_tokens <= len(pinned) + 48
        drops += reply.dropped_turns > 0
    assert drops >= 2
    assert all(turn["content"] not in persona for turn in chat.history)
    twin = chat.fork()
    chat.reset()
    assert chat.reply("Hi").usage.prompt_tokens == len(pinned) + own_tokens(bundled_model, "Hi")
    assert twin.reply("Hi").usage.cached_tokens >= len(pinned)


def test_a_persona_that_leaves_no_room(bundled_model: Model) -> None:
    with one_sentence(CapacityError, "persona"):
        ChatSession(bundled_model, persona=["so " * 200])
