"""Is nothing read twice that need not be, and does the cache change no reply?"""

import gc
from pathlib import Path

from conversations import LINES, SHORT, converse, own_tokens, reopened, turns_of
from dialocpp import ChatSession, Model, Reply


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
        assert total == sum(len(turn.token_ids) + 1 for turn in turns_of(chat)[:-1])
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


def test_undo_leaves_the_cache_of_what_stays(bundled_model: Model) -> None:
    chat = ChatSession(bundled_model, seed=1)
    for line in LINES:
        chat.reply(line)
    for line in reversed(LINES[2:]):
        assert chat.undo() == line
        usage = chat.reply("Something else then.").usage
        assert usage.fresh_tokens == own_tokens(bundled_model, "Something else then.")
        assert usage.recomputed_tokens == 0
        chat.undo()


def test_fork_and_regenerate_read_nothing_again(bundled_model: Model) -> None:
    chat = ChatSession(bundled_model, seed=1)
    for line in LINES[:2]:
        chat.reply(line)
    twin = chat.fork()
    usages = [each.reply(LINES[2]).usage for each in (chat, twin)]
    assert usages[0] == usages[1]
    assert usages[0].recomputed_tokens == 0
    assert chat.regenerate().usage.fresh_tokens == 1, "the last token of the prompt, for its logits"
    assert chat.regenerate().usage.recomputed_tokens == 0


def test_undo_behind_a_drop_that_was_known_before_is_free(bundled_model: Model) -> None:
    chat = ChatSession(bundled_model, seed=2, window_tokens=64)
    while not (reply := chat.reply("Tell me more about that.")).dropped_turns:
        pass
    assert reply.usage.recomputed_tokens > 0
    chat.undo()
    again = chat.reply("Tell me more about this.")
    assert again.dropped_turns == reply.dropped_turns
    assert again.usage.recomputed_tokens == 0
    assert again.usage.fresh_tokens <= own_tokens(bundled_model, "Tell me more about this.")


def test_prepare_moves_the_cost_and_changes_no_reply(bundled_model: Model) -> None:
    prepared, plain = (ChatSession(bundled_model, seed=3, window_tokens=64) for _ in range(2))
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
            assert one.usage.fresh_tokens <= own_tokens(bundled_model, line), "it was read before the message came"
            assert other.usage.fresh_tokens > own_tokens(bundled_model, line)
        assert other.usage.prompt_tokens <= 64
    assert 2 <= recomputed <= 15
    assert ChatSession(bundled_model).prepare() == 0
