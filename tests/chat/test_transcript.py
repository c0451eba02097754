"""Does a saved conversation go on as it was, and is a file that is none an error?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conversations import LINES, SHORT, converse, ids_of, saved
from dialocpp import ChatSession, Model
from sentences import one_sentence


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
    with one_sentence(ValueError, "expected a saved conversation"):
        ChatSession.load(tmp_path / "chat.json", random_model)


def test_a_file_that_is_not_there_is_an_error(random_model: Model, tmp_path: Path) -> None:
    with one_sentence(FileNotFoundError):
        ChatSession.load(tmp_path / "chat.json", random_model)


def test_settings_come_back(bundled_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(
        bundled_model,
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
    loaded = ChatSession.load(path, bundled_model)
    assert (loaded.settings, loaded.preset, loaded.seed) == (chat.settings, "paddle", 6)
    assert saved(loaded).exchanges == saved(chat).exchanges
    first, second = (each.regenerate() for each in (chat, loaded))
    assert (first.text, first.seed) == (second.text, second.seed)
    assert chat.undo() == loaded.undo()
    first, second = (each.reply("Good night.") for each in (chat, loaded))
    assert (first.text, first.candidates) == (second.text, second.candidates)
    content = json.loads(path.read_text())
    assert content["version"] == 2
    assert "cache" not in content


def test_functions_are_asked_for(bundled_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"

    def polite(text: str) -> bool:
        return "damn" not in text

    def short(context: list[str], reply: str) -> float:
        return -len(reply)

    chat = ChatSession(bundled_model, seed=7, reply_filter=polite, rankers=[short], num_candidates=2)
    chat.reply("Hello")
    chat.save(path)
    for given, missing in (({}, "reply_filter"), ({"reply_filter": polite}, "rankers")):
        with one_sentence(ValueError, f"give {missing}= to load"):
            ChatSession.load(path, bundled_model, **given)
    loaded = ChatSession.load(path, bundled_model, reply_filter=polite, rankers=[short])
    assert loaded.reply("And?").candidates == chat.reply("And?").candidates
    assert ChatSession.load(path, bundled_model, reply_filter=None, rankers=()).settings.reply_filter is None


def test_a_session_with_a_hook_is_saved_without_it(bundled_model: Model, tmp_path: Path) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        pass

    chat = ChatSession(bundled_model, logits_processor=hook, seed=4)
    chat.reply(LINES[0])
    chat.save(tmp_path / "chat.json")
    assert "logits_processor" in json.loads((tmp_path / "chat.json").read_text())["functions"]
    with one_sentence(ValueError, "give logits_processor="):
        ChatSession.load(tmp_path / "chat.json", bundled_model)
    twin = ChatSession.load(tmp_path / "chat.json", bundled_model, logits_processor=hook)
    assert str(twin.reply(LINES[1])) == str(chat.reply(LINES[1]))
