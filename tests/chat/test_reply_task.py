"""Can a reply be made from given turns, with a Runtime and without a session? As a server does it."""

from contextlib import suppress

import pytest
from conversations import LINES, SHORT, converse, turns_of
from dialocpp import ChatSession, Model
from dialocpp.chat.config import split_arguments
from dialocpp.chat.history import Exchange, History
from dialocpp.chat.reply_spec import ReplySpec
from dialocpp.chat.reply_task import ReplyTask
from dialocpp.decoding.seeds import derived_seed
from dialocpp.engine.steps import Steps, drive
from dialocpp.prompt.formats import resolve_format
from dialocpp.prompt.turns import Turn


def written(task: ReplyTask) -> Steps[str]:
    """The text, by whoever does what is needed for it."""
    pieces, text, answer = task.pieces(), "", None
    with suppress(StopIteration):
        while True:
            item = pieces.send(answer)
            text, answer = (text + item, None) if isinstance(item, str) else (text, (yield item))
    return text


@pytest.mark.parametrize("arguments", [{}, {"num_candidates": 3}, {"num_beams": 2, "do_sample": False}])
def test_a_reply_from_given_turns(model: Model, arguments: dict[str, object]) -> None:
    chat = ChatSession(model, seed=4, **SHORT, **arguments)
    converse(chat, LINES[:2])
    past, runtime = turns_of(chat), model.runtime
    expected = chat.reply(LINES[2])

    settings, config = split_arguments(None, None, {**SHORT, **arguments})
    history = History(resolve_format("auto", model.tokenizer, model.folder, model.name), runtime.n_positions)
    history.restore(past, [Exchange()] * (len(past) // 2))
    message = Turn("user", LINES[2], tuple(model.tokenizer.encode(LINES[2])))
    window = history.window(settings.history_tokens(config, runtime.n_positions), config.max_new_tokens)
    draft = history.draft(message, window)
    spec = ReplySpec.of(draft, config, settings, seed=derived_seed(4, draft.number, 0))
    task = ReplyTask(runtime, runtime.new_sequence(), spec)
    assert drive(runtime.scheduler, written(task)) == expected.text
    assert task.finish_reason is not None
    reply = task.reply(task.finish_reason)
    assert (reply.token_ids, reply.finish_reason, reply.seed) == (
        expected.token_ids,
        expected.finish_reason,
        expected.seed,
    )
    assert reply.candidates == expected.candidates
    assert reply.usage.cached_tokens == 0 and reply.usage.prompt_tokens == expected.usage.prompt_tokens
