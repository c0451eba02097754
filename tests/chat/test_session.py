"""Is a conversation its history, and do undo, regenerate, fork and reset leave it whole?"""


import numpy as np
import pytest
from conversations import LINES, SHORT, converse, ids_of, interrupted_at, turns_of
from dialocpp import ChatSession, Model
from sentences import one_sentence


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


def test_a_turn_holds_nothing_of_its_stop_string(bundled_model: Model) -> None:
    chat = ChatSession(bundled_model, seed=6, do_sample=False)
    whole = chat.fork().reply(LINES[0])
    reply = chat.reply(LINES[0], stop_strings=[whole.text[5:9]])
    assert (reply.finish_reason, reply.text) == ("stop", whole.text[:5])
    assert bundled_model.tokenizer.decode(reply.token_ids) == reply.text
    assert turns_of(chat)[-1].token_ids == reply.token_ids


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
