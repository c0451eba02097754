"""What is a copy of a session or a model, and what does one learn who wants to pickle one?"""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conversations import LINES, SHORT
from dialocpp import ChatSession, Model
from held_engine import PATIENCE
from sentences import one_sentence


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_session_is_a_fork(random_model: Model, copied: Any) -> None:
    class MyChat(ChatSession):
        """With something of its own."""

    chat = MyChat(random_model, seed=1, **SHORT)
    chat.nickname = "Bo"  # type: ignore[attr-defined]
    chat.reply(LINES[0])
    twin, fork = copied(chat), chat.fork()
    assert type(twin) is MyChat and twin.nickname == "Bo" and twin.model is random_model
    assert twin.history == chat.history
    replies = [each.reply(LINES[1]) for each in (twin, fork)]
    assert replies[0].text == replies[1].text and replies[0].usage == replies[1].usage
    assert (len(twin.history), len(chat.history)) == (4, 2)
    many = copied([chat, {"a": chat}])
    assert many[0].history == chat.history
    with chat.stream(LINES[1]):
        twin.reply(LINES[2])  # each has a claim of its own
        with one_sentence(RuntimeError, "middle of a reply"):
            copied(chat)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_model_is_the_model(random_model: Model, copied: Any) -> None:
    assert copied(random_model) is random_model


def test_what_cannot_be_pickled_says_what_to_do(random_model: Model) -> None:
    chat = ChatSession(random_model, **SHORT)
    advice = {
        "ChatSession": (chat, "save"),
        "Model": (random_model, "from_pretrained"),
        "ReplyStream": (chat.stream(LINES[0]), ".reply"),
        "AsyncReplyStream": (chat.astream(LINES[0]), ".reply"),
    }
    for thing, about in advice.values():
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with one_sentence(TypeError, about):
                pickle.dumps(thing, protocol)
    for name in ("ReplyStream", "AsyncReplyStream"):
        with one_sentence(TypeError, "in the making"):
            copy.copy(advice[name][0])
    advice["ReplyStream"][0].close()
    reply = chat.reply(LINES[0])
    assert pickle.loads(pickle.dumps(reply)) == reply


PROGRAM = """
import multiprocessing, sys
from dialocpp import ChatSession, Model

def say(chat):
    return str(chat.reply("Hello"))

if __name__ == "__main__":
    model = Model.from_pretrained(num_threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for thing in (ChatSession(model), model):
            try:
                pool.map(say, [thing])
            except TypeError as error:
                print(error)
"""


def test_a_spawn_pool_says_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert "save() it to a file and load() that in the other process" in first
    assert "load it there with Model.from_pretrained" in second
