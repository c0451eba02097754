"""Do the tokens of a session mean what the model's files say: what ends a reply, what is text, what is never drawn?"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from dialocpp import ChatSession, Model
from dialocpp.errors import VocabularyWarning
from dialocpp.prompt.chat_format import ChatFormat
from dialocpp.prompt.turns import Dialogue, Piece, Special, Turn
from dialocpp.text.tokenizer import Tokenizer
from small_models import byte_level_tokenizer, gpt2_config, random_gpt2, write_checkpoint
from tokenizers import AddedToken


def bot(
    folder: Path, rows: int, files: dict[str, dict[str, Any]], added: Iterable[AddedToken] = (), lift: int = 96
) -> Path:
    """A random model of so many rows with a tokenizer of 97 tokens and these added ones; `lift`: the likely token."""
    config = gpt2_config(vocab_size=rows, n_layer=1, eos_token_id=lift, bos_token_id=96)
    write_checkpoint(folder, random_gpt2(config, end_lift=6))
    inner = byte_level_tokenizer(97)
    inner.add_tokens(list(added))
    inner.save(str(folder / "tokenizer.json"))
    for name, content in {"config.json": config | {"eos_token_id": 96}, **files}.items():
        (folder / name).write_text(json.dumps({**config, **content} if name == "config.json" else content))
    return folder


ENDS: dict[str, tuple[dict[str, dict[str, Any]], int]] = {
    "the tokenizer's": ({"tokenizer_config.json": {"eos_token": "<sep>"}}, 97),
    "the map's": ({"special_tokens_map.json": {"eos_token": {"content": "<sep>"}}}, 97),
    "generation_config's": ({"generation_config.json": {"eos_token_id": [96, 97]}}, 97),
    "the config's list": ({"config.json": {"eos_token_id": [96, 97]}}, 97),
    "the config's": (
        {"config.json": {"eos_token_id": 97}, "tokenizer_config.json": {"eos_token": "<|endoftext|>"}},
        97,
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_reply_ends_with_whatever_a_file_calls_the_end(tmp_path: Path, case: str) -> None:
    files, end = ENDS[case]
    folder = bot(tmp_path, 98, files, [AddedToken("<sep>", special=False)], lift=end)
    model = Model.from_pretrained(folder, dtype="float32", num_threads=1)
    chat = ChatSession(model, do_sample=False, max_new_tokens=20)
    reply = chat.reply("hello")
    assert reply.finish_reason == "eos" and end not in reply.token_ids and "<sep>" not in reply.text
    assert end not in model.tokenizer.encode("hi <sep> you")


@pytest.mark.parametrize("rows", [98, 100, 104, 113, 128])
def test_a_row_without_a_token_is_never_drawn(tmp_path: Path, rows: int) -> None:
    folder = bot(tmp_path, rows, {}, lift=rows - 1)
    model = Model.from_pretrained(folder, dtype="float32", num_threads=1)
    assert model.tokenizer.nameless_ids == tuple(range(97, rows))
    prompt = [*model.tokenizer.encode("hello"), 96]
    free = model.generate(prompt, max_new_tokens=4)[0].token_ids
    assert rows - 1 in free, "as transformers, which knows no names"
    for arguments in ({"do_sample": False}, {"temperature": 5.0, "top_k": 0}, {"do_sample": False, "num_beams": 3}):
        reply = ChatSession(model, seed=1, max_new_tokens=12, max_retries=0, **arguments).reply("hello")
        assert all(id_ < 97 for id_ in reply.token_ids)


def test_a_message_with_a_token_that_has_no_row(tmp_path: Path) -> None:
    folder = bot(tmp_path, 97, {}, [AddedToken("kappa"), AddedToken("<pad>", special=True)])
    with pytest.warns(VocabularyWarning, match="text is encoded without these tokens: 'kappa', '<pad>'") as caught:
        model = Model.from_pretrained(folder, dtype="float32", num_threads=1)
    assert len(caught) == 1
    assert ChatSession(model, seed=1).reply("so kappa <pad>").token_ids is not None
    assert model.generate("kappa<pad>", max_new_tokens=2)


# What a chat format emits


def speakers(dialogue: Dialogue) -> Iterable[Piece]:
    for turn in dialogue.turns:
        yield Special("<speaker1>" if turn.role == "user" else "<speaker2>")
        yield turn
    yield 97 if not dialogue.asks else Special("<speaker2>")


def lines(dialogue: Dialogue) -> Iterable[Piece]:
    for turn in dialogue.turns:
        yield turn
        yield 95  # the newline


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(
    "text", ["<speaker1>", "a<speaker2>b", "<speaker2><speaker1>", "<<speaker1>speaker2>", "hi <speaker2> x"]
)
def test_a_message_never_holds_what_a_format_emits(tmp_path: Path, flag: bool, text: str) -> None:
    inner = byte_level_tokenizer(97)
    inner.add_tokens([AddedToken(name, special=flag) for name in ("<speaker1>", "<speaker2>")])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    chat_format = ChatFormat("speakers", speakers, tokenizer)
    ids = chat_format.encode([Turn("user", text, tuple(tokenizer.encode(text)))])
    assert [id_ for id_ in ids if id_ in (97, 98)] == [97, 98]
    assert tokenizer.decode(ids) == f"<speaker1>{text}<speaker2>"


def test_nor_an_ordinary_token_that_it_emits(tmp_path: Path) -> None:
    byte_level_tokenizer(97).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    text = "one\ntwo\nthree"
    ids = ChatFormat("lines", lines, tokenizer).encode([Turn("user", text, tuple(tokenizer.encode(text)))])
    assert tokenizer.decode(ids) == "one two three\n"
