"""Can a conversation go on from turns that were said elsewhere: several in a row, a bot that begins, texts alone?"""

import json
from pathlib import Path
from typing import Any

import pytest
from conversations import LINES, SHORT, recorded, reopened, saved, turns_of
from dialocpp import ChatSession, Model
from dialocpp.prompt.turns import turn_ids
from sentences import one_sentence

Message = dict[str, str]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def bot(text: str) -> Message:
    return {"role": "assistant", "content": text}


PASTS: dict[str, list[Message]] = {
    "pairs": [user("Hi."), bot("Hello."), user("And?"), bot("Fine.")],
    "the bot begins": [bot("Welcome."), user("Hi."), bot("Hello.")],
    "several in a row": [user("Hi."), user("Are you there?"), bot("Yes."), bot("I am."), user("Good.")],
    "one message": [user("Hi.")],
    "one word of the bot": [bot("Welcome.")],
}


@pytest.mark.parametrize("name", PASTS)
def test_a_given_past_is_what_the_model_reads(
    model: Model, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = PASTS[name]
    chat = ChatSession(model, seed=1, do_sample=False, history=past, **SHORT)
    assert chat.history == past
    jobs = recorded(monkeypatch, model)
    reply = chat.reply(LINES[0])
    assert jobs[0].prompt == turn_ids(turns_of(chat)[:-1], model.tokenizer.eos_token_id)
    assert reply.usage.recomputed_tokens == 0, "nothing had been read"
    assert chat.history == [*past, user(LINES[0]), bot(reply.text)]
    twin = reopened(chat, tmp_path)
    assert saved(twin).exchanges == saved(chat).exchanges
    assert twin.reply(LINES[1]).token_ids == chat.reply(LINES[1]).token_ids
    assert chat.undo() == LINES[1] and chat.undo() == LINES[0]
    assert chat.history == past
    assert chat.reply(LINES[0]).token_ids == reply.token_ids


@pytest.mark.parametrize("name", PASTS)
def test_appended_turns_are_a_given_past(model: Model, name: str) -> None:
    given, appended = (ChatSession(model, seed=1, history=past, **SHORT) for past in (PASTS[name], []))
    for turn in PASTS[name]:
        appended.append(turn["role"], turn["content"])  # type: ignore[arg-type]
    assert appended.history == given.history and saved(appended).exchanges == saved(given).exchanges
    assert appended.reply(LINES[0]).token_ids == given.reply(LINES[0]).token_ids


def test_a_message_without_a_reply_gets_one(model: Model) -> None:
    asked = ChatSession(model, seed=1, **SHORT)
    chat = ChatSession(model, seed=1, history=[user(LINES[0])], **SHORT)
    assert chat.regenerate().token_ids == asked.reply(LINES[0]).token_ids
    assert chat.history == asked.history
    assert chat.regenerate().token_ids == asked.regenerate().token_ids


def test_undo_takes_back_message_by_message(random_model: Model) -> None:
    chat = ChatSession(random_model, history=PASTS["several in a row"], **SHORT)
    assert [chat.undo() for _ in range(3)] == ["Good.", "Are you there?", "Hi."]
    assert chat.history == []
    chat = ChatSession(random_model, history=PASTS["one word of the bot"], **SHORT)
    with one_sentence(ValueError, "no turn yet"):
        chat.undo()
    with one_sentence(ValueError, "no turn yet"):
        chat.regenerate()


@pytest.mark.parametrize(
    ("turn", "kind", "about"),
    [
        ({"role": "system", "content": "Be kind."}, ValueError, "persona="),
        ({"role": "user", "content": ""}, ValueError, "empty"),
        ({"role": "user", "content": "a\x00"}, ValueError, "control"),
        ({"role": "user", "content": 5}, TypeError, "str"),
        ({"role": "user"}, TypeError, "as number 1"),
        ("Hi.", TypeError, "as number 1"),
    ],
)
def test_what_is_no_turn(random_model: Model, turn: Any, kind: type[Exception], about: str) -> None:
    with one_sentence(kind, about):
        ChatSession(random_model, history=[user("Hi."), turn])
    if isinstance(turn, dict) and len(turn) == 2:
        chat = ChatSession(random_model)
        with one_sentence(kind):
            chat.append(turn["role"], turn["content"])
        assert chat.history == []


def test_max_turns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = recorded(monkeypatch, model)
    chat = ChatSession(model, seed=1, max_turns=2, **SHORT)
    eos = model.tokenizer.eos_token_id
    for number in range(4):
        chat.prepare()
        before = len(jobs)
        chat.reply(f"number {number}")
        assert jobs[before].prompt == turn_ids(turns_of(chat)[-2 - min(2, 2 * number) : -1], eos)
    alone = ChatSession(model, seed=1, max_turns=0, **SHORT)
    alone.reply("first")
    assert alone.reply(LINES[0]).usage.prompt_tokens == len(model.tokenizer.encode(LINES[0])) + 1
    for bad, kind in ((-1, ValueError), ("x", TypeError)):
        with one_sentence(kind, "max_turns"):
            ChatSession(model, max_turns=bad)


def test_a_long_past_stays_in_the_window(random_model: Model) -> None:
    """Of many messages in a row the oldest leave first."""
    past = [user(f"message number {number}") for number in range(60)]
    chat = ChatSession(random_model, seed=1, history=past, **SHORT)
    reply = chat.reply("and the last one")
    assert 0 < reply.dropped_turns < 60 and reply.usage.prompt_tokens <= 128


@pytest.mark.parametrize("name", PASTS)
@pytest.mark.parametrize("shape", ["a list", "a file without ids"])
def test_a_file_of_texts(model: Model, name: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    chat = ChatSession(model, seed=1, history=PASTS[name])
    if shape == "a list":
        path.write_text(json.dumps(PASTS[name]))
    else:
        chat.save(path)
        content = json.loads(path.read_text())
        for turn in content["turns"]:
            del turn["token_ids"]
        path.write_text(json.dumps(content))
    loaded = ChatSession.load(path, model)
    assert loaded.history == PASTS[name]
    assert turns_of(loaded) == turns_of(chat) and saved(loaded).exchanges == saved(chat).exchanges
    assert loaded.reply(LINES[0], seed=3, **SHORT).token_ids == chat.reply(LINES[0], seed=3, **SHORT).token_ids
