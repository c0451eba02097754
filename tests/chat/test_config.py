"""Are presets and settings what they say, and is a bad one an error before anything is loaded?"""

from pathlib import Path
from typing import Any

import pytest
from dialocpp import PRESETS, ChatSession, Model
from dialocpp.decoding.generation_config import ARGUMENTS
from sentences import one_sentence


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(bundled_model: Model, name: str) -> None:
    preset = PRESETS[name]
    assert preset.generation.keys() <= ARGUMENTS
    if preset.needs_reverse:
        with one_sentence(ValueError, "reverse="):
            ChatSession(bundled_model, preset=name)
        chat = ChatSession(bundled_model, preset=name, seed=8, rankers=lambda context, reply: len(reply))
        reply = chat.reply("Hello", max_new_tokens=12)
        assert len(reply.candidates) == 16
        return
    chat = ChatSession(bundled_model, preset=name, seed=8)
    reply = chat.reply("Hello", max_new_tokens=12)
    assert reply.text
    if name == "default":
        assert chat.generation_config == ChatSession(bundled_model).generation_config
    if name == "paper-beam":
        ids = [*bundled_model.tokenizer.encode("Hello"), bundled_model.tokenizer.eos_token_id]
        (alone,) = bundled_model.generate(ids, preset.generation_config, max_new_tokens=12)
        assert reply.token_ids == reply.candidates[0].token_ids == alone.token_ids
        assert reply.candidates[0].scores["beam"] == alone.score
        assert chat.reply("And you?", max_new_tokens=12).usage.recomputed_tokens == 0
    if name == "bundled_model-card":
        assert chat.reply("And you?", max_new_tokens=12).token_ids == greedy(bundled_model, "Hello", "And you?")


def greedy(bundled_model: Model, *lines: str) -> tuple[int, ...]:
    ids: list[int] = []
    for line in lines:
        ids += [*bundled_model.tokenizer.encode(line), bundled_model.tokenizer.eos_token_id]
        (said,) = bundled_model.generate(ids, max_new_tokens=12)
        ids += [*said.token_ids, bundled_model.tokenizer.eos_token_id]
    return said.token_ids


BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"preset": "padle"}, ValueError, "did you mean 'paddle'"),
    ({"num_candidates": 0}, ValueError, "num_candidates to be 1 or more"),
    ({"num_candidates": "two"}, TypeError, "num_candidates"),
    ({"max_retries": -1}, ValueError, "max_retries"),
    ({"window_tokens": 0}, ValueError, "window_tokens"),
    ({"window_tokens": 1.5}, TypeError, "window_tokens"),
    ({"echo_guard": "yes"}, TypeError, "echo_guard"),
    ({"fallback": []}, ValueError, "fallback"),
    ({"fallback": [" "]}, ValueError, "fallback"),
    ({"persona": [5]}, TypeError, "persona"),
    ({"reply_filter": 5}, TypeError, "reply_filter"),
    ({"reply_filter": [""]}, ValueError, "reply_filter"),
    ({"chat_format": 5}, TypeError, "chat_format"),
    ({"chat_format": "dialog"}, ValueError, "chat_format to be one of"),
    ({"num_candidate": 2}, TypeError, "did you mean 'num_candidates'"),
    ({"window_token": 2}, TypeError, "did you mean 'window_tokens'"),
]


@pytest.mark.parametrize(("arguments", "kind", "about"), BAD_SETTINGS, ids=[str(a[0]) for a in BAD_SETTINGS])
def test_a_bad_setting(bundled_model: Model, arguments: dict[str, Any], kind: type[Exception], about: str) -> None:
    with one_sentence(kind, about):
        ChatSession(bundled_model, **arguments)


def test_a_bad_setting_is_an_error_before_anything_is_loaded(tmp_path: Path) -> None:
    with one_sentence(ValueError, "num_candidates"):
        ChatSession.from_pretrained(tmp_path / "nothing here", num_candidates=0)
    chat = ChatSession.from_pretrained(preset="gpt2bot", seed=1, persona="I am a cook.", num_threads=1)
    assert (chat.preset, chat.settings.persona) == ("gpt2bot", ("I am a cook.",))


def test_a_session_gives_one_reply(bundled_model: Model) -> None:
    with one_sentence(ValueError, "give num_candidates"):
        ChatSession(bundled_model, num_return_sequences=4)
    assert ChatSession(bundled_model, rankers=[]).settings.num_candidates == 1
