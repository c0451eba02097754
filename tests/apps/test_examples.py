"""Do the examples run as they are, on the bundled model and on one that is named?"""

import subprocess
import sys
from pathlib import Path

import pytest
from dialocpp import ChatSession

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
KEYBOARD = "Hello\nHow are you?\nDo you like music?\nWhat kind?\nGood night.\n"


def output_of(name: str, *arguments: object) -> str:
    """What an example prints; an error fails the test with its traceback."""
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, input=KEYBOARD, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_are_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert {"model_card.py", "paddle.py"} <= set(NAMES)
    assert [name for name in NAMES if f"`{name}`" not in listed] == []


@pytest.mark.parametrize("name", NAMES)
def test_on_the_bundled_model(name: str) -> None:
    assert output_of(name).strip()


@pytest.mark.parametrize("name", NAMES)
def test_on_a_folder(name: str, wide_folder: Path) -> None:
    assert output_of(name, wide_folder).strip()


def test_the_model_card_gives_the_greedy_replies() -> None:
    lines = output_of("model_card.py").splitlines()
    chat = ChatSession.from_pretrained()
    for said, answered in zip(lines[::2], lines[1::2], strict=True):
        message = said.removeprefix(">> User: ")
        assert answered == f"DialoGPT: {chat.reply(message, do_sample=False)}"
    assert len(lines) == 10
