"""What must hold for any input? One function from bytes each: it returns, or it has found something.

Bytes choose among fragments and mutations, so that most inputs get behind the first check; `run.py` makes the bytes.
"""

import atexit
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dialocpp.chat import transcript
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.errors import CheckpointError
from dialocpp.prompt.formats import resolve_format
from dialocpp.prompt.turns import Turn
from dialocpp.text.tokenizer import Tokenizer
from small_models import END_OF_TEXT, byte_level_tokenizer, gpt2_config

FOLDER = Path(tempfile.mkdtemp(prefix="dialocpp-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
_ODD = [None, True, -1, 0, 1e308, 2**64, "", "\x1b", "\ud800", [], {}, [[]], "a" * 300, {"a": 1}, 0.5, "gpt2", [0, 1]]
_PIECES = [
    *("{{", "}}", "{%", "%}", " message ", ".content", "['role']", " + ", " ~ ", "'<|end|>'", "'a'", "messages"),
    *("[-1]", "[1:]", "[::-1]", " for message in messages ", " endfor ", " if true ", " endif ", " else ", "|tojson"),
    *("|upper", "|length", "|trim", "|join('<|end|>')", ".split('a')", ".replace('a', '')", "eos_token", "3", "*"),
    *("(", ")", ",", " set x = ", "x", " range(9)", " in ", " not ", "%", "'%s'", " macro m(x) ", " endmacro "),
    *("m(1)", "\n"),
    *("<|end|>", "{{ message.content }}", "{% for message in messages %}", "{% endfor %}", "|e", "|list"),
    *("|first", " == ", "-"),
]  # fmt: skip
_TEXTS = ["Hello", "<|end|>", "<|END|>", "a<|en", "d|>", " {{ eos_token }} ", "é😀\n", END_OF_TEXT, "aaa", "\ue000"]


@cache
def _tokenizer() -> Tokenizer:
    inner = byte_level_tokenizer(301)
    inner.add_special_tokens(["<|end|>"])
    inner.encode_special_tokens = True
    return Tokenizer(inner, 300)


@cache
def _saved() -> str:
    from dialocpp import ChatSession

    chat = ChatSession.from_pretrained(seed=1, persona="I am Al.", preset="paddle")
    chat.reply("Hello")
    chat.save(FOLDER / "seed.json")
    return (FOLDER / "seed.json").read_text()


def _mutated(value: Any, chance: random.Random) -> Any:
    """The value with something odd somewhere in it."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {k: _mutated(v, chance) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [_mutated(item, chance) if i == place else item for i, item in enumerate(value)]
    return chance.choice(_ODD)


def _json_file(name: str, valid: Any, data: bytes) -> Path:
    """A mutated JSON, or that with bytes put into it."""
    chance = random.Random(data)
    for _ in range(chance.randrange(3)):
        valid = _mutated(valid, chance)
    content = json.dumps(valid).encode()
    if chance.random() < 0.3:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + data[:9] + content[place + chance.randrange(9) :]
    (FOLDER / name).write_bytes(content)
    return FOLDER / name


def saved_conversations(data: bytes) -> None:
    """A file is a conversation that can be saved again, or one ValueError."""
    path = _json_file("chat.json", json.loads(_saved()), data)
    try:
        found = transcript.read(path)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    transcript.write(FOLDER / "again.json", found)
    assert transcript.read(FOLDER / "again.json") == found


def templates(data: bytes) -> None:
    """A template gives the prompt that plain jinja gives, or one ValueError, soon; and no text becomes a token."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    chance = random.Random(data)
    source = "".join(chance.choices(_PIECES, k=chance.randrange(1, 14)))
    texts = ["".join(chance.choices(_TEXTS, k=chance.randrange(1, 4))).strip() or "a" for _ in range(3)]
    (FOLDER / "chat_template.jinja").write_text(source)
    turns = [Turn(("user", "assistant")[i % 2], text, tuple(_tokenizer().encode(text))) for i, text in enumerate(texts)]
    begin = time.thread_time()
    try:
        ids = resolve_format("template", _tokenizer(), FOLDER, "").encode(turns)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    finally:
        assert time.thread_time() - begin < 5
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    said = plain.render(messages=messages, eos_token=END_OF_TEXT, add_generation_prompt=True)
    assert _tokenizer().decode(ids) == said
    own = sum(token in _tokenizer().special_token_ids for token in ids)
    assert own <= said.count("<|end|>") + said.count(END_OF_TEXT)
    if "<|end|>" not in source and "eos_token" not in source:
        assert own == 0


def configs(data: bytes) -> None:
    """A config.json is a config that says the same when it is written again, or one CheckpointError."""
    path = _json_file("config.json", gpt2_config(), data)
    try:
        config = ModelConfig.from_dict(read_json_object(path))
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert ModelConfig.from_dict(config.to_dict()) == config


def tokenizer_files(data: bytes) -> None:
    """A tokenizer.json encodes and decodes, or there is one CheckpointError at load or ValueError on a text."""
    folder = FOLDER / "tokenizer"
    folder.mkdir(exist_ok=True)
    _json_file("tokenizer/tokenizer.json", json.loads(byte_level_tokenizer(301).to_str()), data)
    try:
        tokenizer = Tokenizer.from_folder(folder, [300])
        ids = tokenizer.encode("Hello <|endoftext|> é😀")
        assert tokenizer.eos_token_id not in ids
        tokenizer.decode(ids)
    except (CheckpointError, ValueError):
        return


def streams(data: bytes) -> None:
    """The pieces of a stream are what decode gives, for any ids."""
    chance = random.Random(data)
    ids = [chance.randrange(_tokenizer().vocab_size) for _ in range(chance.randrange(20))]
    stream = _tokenizer().stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == _tokenizer().decode(ids)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (saved_conversations, templates, configs, tokenizer_files, streams)
}
