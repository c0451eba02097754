"""Does a saved conversation go on as it was, and is a file that is none an error?"""

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
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
    "half of a surrogate pair": lambda saved: first_turn(saved, content="a\ud800b"),
    "half of one in the settings": lambda saved: saved | {"settings": {"persona": ["\udfff"]}},
    "half of one in a key": lambda saved: saved | {"\ud900": 1},
    "the preset is an object": lambda saved: saved | {"preset": {"name": "paddle"}},
    "the preset is a list": lambda saved: saved | {"preset": ["paddle"]},
    "no such preset": lambda saved: saved | {"preset": "p" * 100_000},
    "the model is a number": lambda saved: saved | {"model": 1},
    "the fingerprint is a list": lambda saved: saved | {"fingerprint": []},
    "a function that no session has": lambda saved: saved | {"functions": ["eval"]},
    "other ids": lambda saved: first_turn(saved, token_ids=[5, 6, 7]),
    "more ids": lambda saved: first_turn(saved, token_ids=[*saved["turns"][0]["token_ids"], 5]),
    "fewer ids": lambda saved: first_turn(saved, token_ids=saved["turns"][0]["token_ids"][:-1]),
    "no ids": lambda saved: first_turn(saved, token_ids=[]),
    "the reply's ids are others": lambda saved: saved
    | {"turns": [saved["turns"][0], saved["turns"][1] | {"token_ids": [5, 6, 7, 8]}]},
    "the seed is not a number": lambda saved: saved | {"seed": float("nan")},
    "a setting is infinite": lambda saved: saved | {"generation_config": {"temperature": float("inf")}},
    "an attempt of a thousand digits": lambda saved: saved | {"exchanges": [{"first_visible": 10**1000, "attempt": 0}]},
    "a long wrong value": lambda saved: saved | {"version": "v" * 1_000_000},
    "a long wrong name": lambda saved: saved | {"generation_config": {"w" * 1_000_000: 1}},
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
    "content",
    [
        *(b"", b"{", b"hello", b"\xff\xfe\x00", b"null", b'{"format": "dialocpp.chat"'),
        *(b"[" * 1_000_000, b'{"a":' * 500_000, b"[{" * 9_999 + b"}]" * 9_999, b"9" * 10_000, b"\0" * 99),
    ],
    ids=range(11),
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


# Where a file is to be


def test_a_byte_order_mark_is_skipped(random_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(random_model, seed=14, **SHORT)
    chat.reply("Hello")
    chat.save(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ChatSession.load(path, random_model).history == chat.history


@pytest.mark.parametrize("how", ["stop string", "cancelled", "odd bytes", "fallback", "long"])
def test_what_a_session_saved_is_always_loaded(
    bundled_model: Model, random_model: Model, tmp_path: Path, how: str
) -> None:
    """The check of ids against texts takes every reply that a session can have."""
    model = random_model if how == "odd bytes" else bundled_model
    for seed in range(12):
        chat = ChatSession(model, seed=seed, max_new_tokens=24)
        if how == "stop string":
            chat.reply("Hello there", stop_strings=["o", "I'm", " you know", "the"])
            chat.generation_config = dataclasses.replace(chat.generation_config, stop_strings=["you know what", "ing"])
            chat.reply("And you?")
        elif how == "cancelled":
            with chat.stream("Hello", stop_strings=["zzz"]) as stream:
                for _, _piece in zip(range(1 + seed % 3), stream, strict=False):
                    pass
        elif how == "fallback":
            chat = ChatSession(model, seed=seed, reply_filter=lambda text: False, max_new_tokens=4)
            chat.reply("Hello")
        else:
            chat.reply("Hello", temperature=3.0, top_k=0, top_p=1.0)
        chat.save(tmp_path / "chat.json")
        given = {"reply_filter": None} if how == "fallback" else {}
        assert ChatSession.load(tmp_path / "chat.json", model, **given).history == chat.history


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_only_files_are_read_and_written(random_model: Model, tmp_path: Path) -> None:
    chat = ChatSession(random_model, seed=14, **SHORT)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a device").symlink_to("/dev/null")
    for path, kind in (
        (tmp_path / "pipe", "pipe"),
        (Path("/dev/zero"), "device"),
        (Path("/dev/full"), "device"),
        (tmp_path / "link to a device", "device"),
        (tmp_path, "folder"),
    ):
        with one_sentence(ValueError, f"found the {kind}"):
            chat.save(path)
        with one_sentence(IsADirectoryError if kind == "folder" else ValueError, "" if kind == "folder" else kind):
            ChatSession.load(path, random_model)
    assert (tmp_path / "pipe").is_fifo() and Path("/dev/null").is_char_device()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link to a device"}


def test_a_file_that_is_too_large_is_not_read(
    random_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialocpp.chat.transcript.MAX_BYTES", 5000)
    (tmp_path / "chat.json").write_bytes(b" " * 5001)
    with one_sentence(ValueError, "more than 5000 bytes"):
        ChatSession.load(tmp_path / "chat.json", random_model)


@pytest.mark.skipif(not hasattr(os, "fchown"), reason="this system has no modes like these")
def test_a_file_keeps_its_permissions_and_a_link_stays_one(random_model: Model, tmp_path: Path) -> None:
    chat = ChatSession(random_model, seed=14, **SHORT)
    real, link, far = tmp_path / "real", tmp_path / "link", tmp_path / "folder" / "far"
    (tmp_path / "folder").mkdir()
    for mode in (0o600, 0o640, 0o664, 0o444):
        real.touch()
        real.chmod(mode)
        chat.save(real)
        assert stat.S_IMODE(real.stat().st_mode) == mode
    link.symlink_to("folder/far")
    chat.save(link)
    chat.save(link)
    assert link.is_symlink() and ChatSession.load(far, random_model).seed == 14
    assert {path.name for path in tmp_path.rglob("*")} == {"real", "link", "folder", "far"}


def test_a_text_that_no_file_can_hold_costs_nothing(random_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = ChatSession(random_model, seed=14, fallback=["a\ud800"], **SHORT)
    path.write_text("old")
    with one_sentence(ValueError, "lone surrogate"):
        chat.save(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
def test_a_killed_save_leaves_nothing_for_ever(random_model: Model, tmp_path: Path) -> None:
    """Killed in the middle of writing, as the kernel does it when a file may not grow."""
    program = (
        "import os, signal, sys\n"
        "from dialocpp import ChatSession\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ChatSession.from_pretrained(seed=1).save(sys.argv[1])\n"
    )
    path = tmp_path / "chat.json"
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL and not path.exists()
        assert len(list(tmp_path.iterdir())) == 1, "one that is left at most, whatever happens"
    chat = ChatSession(random_model, seed=14, **SHORT)
    chat.save(path)
    assert list(tmp_path.iterdir()) == [path]
