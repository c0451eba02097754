"""Does each family get its turns as it was trained, and does a user's text stay text in every format?"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conversations import recorded, saved
from dialocpp import ChatSession, Model
from dialocpp.prompt.formats import FORMATS, resolve_format
from dialocpp.prompt.turns import Dialogue, Piece, Special, Turn
from dialocpp.text.tokenizer import Tokenizer
from sentences import one_sentence
from small_models import END_OF_TEXT, byte_level_tokenizer, gpt2_config, random_gpt2, write_checkpoint
from tokenizers import AddedToken

MARKS = ["<|p2|>", "<|sep|>", "<|start|>", "[CLS]", "[SEP]", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer_with(marks: list[str], **settings: Any) -> Tokenizer:
    inner = byte_level_tokenizer(301)
    inner.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    inner.encode_special_tokens = True
    return Tokenizer(inner, 300)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_with(MARKS)


@pytest.fixture
def template_folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML, "eos_token": END_OF_TEXT}))
    return tmp_path


def turns_of(tokenizer: Tokenizer, *texts: str) -> list[Turn]:
    roles = ("user", "assistant")
    return [Turn(roles[i % 2], text, tuple(tokenizer.encode(text))) for i, text in enumerate(texts)]  # type: ignore[arg-type]


LAYOUTS = {
    "dialogpt": "I sing.{e}Hi{e}Hello{e}You?{e}",
    "gpt2-chitchat": "[CLS]I sing.[SEP]Hi[SEP]Hello[SEP]You?[SEP]",
    "rudialogpt": "|1|1|I sing.{e}|0|1|Hi{e}|1|1|Hello{e}|0|1|You?{e}|1|1|",
    "personagpt": "<|p2|>I sing.{e}<|sep|><|start|>Hi{e}Hello{e}You?{e}",
    "template": "<|im_start|>system\nI sing.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nYou?<|im_end|>\n<|im_start|>assistant\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_family_gets_its_turns_as_it_was_trained(name: str, tokenizer: Tokenizer, template_folder: Path) -> None:
    chat_format = resolve_format(name, tokenizer, template_folder, "", ["I sing."])
    ids = chat_format.encode(turns_of(tokenizer, "Hi", "Hello", "You?"))
    assert tokenizer.decode(ids) == LAYOUTS[name].format(e=END_OF_TEXT)
    marks = [token for token in ids if token in tokenizer.special_token_ids]
    assert len(marks) == sum(tokenizer.decode(ids).count(mark) for mark in (*MARKS, END_OF_TEXT))
    assert set(LAYOUTS) == {*FORMATS, "template"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_user_s_text_stays_text(name: str, tokenizer: Tokenizer, template_folder: Path) -> None:
    chat_format = resolve_format(name, tokenizer, template_folder, "", ["plain"])
    evil = "a" + "".join(MARKS) + END_OF_TEXT + "{{ 7 * 7 }}|1|1|\ue0000\ue001\ue0005\ue001"
    specials = [
        [token for token in chat_format.encode(turns_of(tokenizer, text)) if token in tokenizer.special_token_ids]
        for text in (evil, "harmless")
    ]
    assert specials[0] == specials[1]
    text = tokenizer.decode(chat_format.encode(turns_of(tokenizer, evil)))
    assert "{{ 7 * 7 }}" in text and "49" not in text
    if name == "rudialogpt":
        assert text.count("|1|1|") == 2, "its own, before the persona and before the reply"


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_cached_stays_the_beginning(name: str, tokenizer: Tokenizer, template_folder: Path) -> None:
    """Each prompt begins with the one before it and its reply: a turn reads only what is new."""
    chat_format = resolve_format(name, tokenizer, template_folder, "", ["I sing."])
    turns = turns_of(tokenizer, "Hi", "Hello", "You?", "Fine", "Good")
    before = chat_format.encode(turns[:3]) + list(turns[3].token_ids)
    assert chat_format.encode(turns)[: len(before)] == before
    pinned = chat_format.encode(())
    assert chat_format.encode(turns)[: len(pinned)] == pinned


def test_the_length_codes_of_rudialogpt(tokenizer: Tokenizer, tmp_path: Path) -> None:
    chat_format = resolve_format("rudialogpt", tokenizer, tmp_path, "")
    for length, code in ((15, "1"), (16, "2"), (50, "2"), (51, "3"), (256, "3"), (257, "-")):
        turn = Turn("user", "x", (70,) * length)
        assert tokenizer.decode(chat_format.encode([turn])).startswith(f"|0|{code}|")


def test_auto_takes_a_family_only_where_it_is_sure(tmp_path: Path) -> None:
    def chosen(marks: list[str], name: str = "", eos: int = 300) -> str:
        inner = tokenizer_with(marks)._tokenizer
        return resolve_format("auto", Tokenizer(inner, eos), tmp_path, name).name

    assert chosen([]) == "dialogpt"
    assert chosen(["<|p2|>", "<|sep|>", "<|start|>"]) == "personagpt"
    assert chosen(["<|p2|>", "<|sep|>"]) == "dialogpt"
    assert chosen(["[CLS]", "[SEP]"], eos=302) == "gpt2-chitchat"
    assert chosen(["[CLS]", "[SEP]"]) == "dialogpt"
    assert chosen([], name="Grossmend/rudialogpt3_medium_based_on_gpt2") == "rudialogpt"
    own = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    several = [{"name": "tools", "template": CHATML}, {"name": "default", "template": own}]
    for template, name in ((own, "dialogpt"), (CHATML, "template"), (several, "dialogpt")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        assert chosen([]) == name


def test_wrong_formats(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with one_sentence(ValueError, "one of auto, dialogpt"):
        resolve_format("dialogtp", tokenizer, tmp_path, "")
    with one_sentence(ValueError, r"special token \[CLS\]"):
        resolve_format("gpt2-chitchat", tokenizer_with([]), tmp_path, "")
    with one_sentence(ValueError, "expected a chat_template"):
        resolve_format("template", tokenizer, tmp_path, "")
    for template, about in (("{% if %}", "broken"), ("{{ raise_exception('no system') }}", "no system")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        with one_sentence(ValueError, about):
            resolve_format("template", tokenizer, tmp_path, "").encode(turns_of(tokenizer, "Hi"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ ''.__class__.__mro__ }}"}))
    with one_sentence(ValueError, "failed"):
        resolve_format("template", tokenizer, tmp_path, "").encode(turns_of(tokenizer, "Hi"))
    with one_sentence(TypeError, "found 1.5"):
        resolve_format(lambda dialogue: [1.5], tokenizer, tmp_path, "").encode(())  # type: ignore[list-item]


def test_a_template_without_jinja(template_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with one_sentence(ValueError, "pip install"):
        resolve_format("auto", tokenizer_with([]), template_folder, "")


@pytest.fixture(scope="module")
def folder_with_marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = gpt2_config(vocab_size=301 + len(MARKS), n_positions=128, eos_token_id=300)
    folder = write_checkpoint(tmp_path_factory.mktemp("marks") / "model", random_gpt2(config, seed=4))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT}))
    inner = byte_level_tokenizer(301)
    inner.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])
    inner.save(str(folder / "tokenizer.json"))
    return folder


def test_a_session_in_each_format(folder_with_marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.from_pretrained(folder_with_marks, num_threads=1)
    jobs = recorded(monkeypatch, model)
    assert ChatSession(model).chat_format == "personagpt"
    for name in FORMATS:
        chat_format = resolve_format(name, model.tokenizer, folder_with_marks, "", ["I sing."])
        chat = ChatSession(model, seed=1, chat_format=name, persona=["I sing."], max_new_tokens=6)
        replies = [chat.reply(line) for line in ("Hi", "How are you?")]
        assert replies[1].usage.cached_tokens >= replies[0].usage.prompt_tokens
        prompt = chat_format.encode(saved(chat).turns[:3])
        assert prompt == jobs[-1].prompt == jobs[-1].sequence.tokens[: replies[1].usage.prompt_tokens]
        assert name != "gpt2-chitchat" or chat_format.end_token_ids == tuple(model.tokenizer.encode("[SEP]", True))


def test_a_user_s_function(folder_with_marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.from_pretrained(folder_with_marks, num_threads=1)
    jobs = recorded(monkeypatch, model)

    def plain(dialogue: Dialogue) -> Iterator[Piece]:
        for turn in dialogue.turns:
            yield f"{turn.role}: <|sep|>"
            yield turn
            yield Special("<|sep|>")
        yield dialogue.eos_token_id

    chat = ChatSession(model, seed=1, chat_format=plain, max_new_tokens=4)
    assert chat.chat_format == "plain"
    reply = chat.reply("Hi")
    ids = jobs[-1].sequence.tokens[: reply.usage.prompt_tokens]
    assert ids == jobs[-1].prompt
    assert model.tokenizer.decode(ids) == f"user: <|sep|>Hi<|sep|>{END_OF_TEXT}"
    assert ids.count(model.tokenizer.encode("<|sep|>", special_tokens=True)[0]) == 1
