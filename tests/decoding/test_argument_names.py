"""Does an argument under another system's name get its answer, and may numbers be numpy's or None?"""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from dialocpp import ChatSession, GenerationConfig, Model
from dialocpp.decoding.generation_config import ARGUMENTS, CHAT, GREEDY, override
from dialocpp.decoding.other_names import INSTEAD
from dialocpp.decoding.seeds import checked_seed

ANSWERS = {
    "max_tokens": "use max_new_tokens",
    "max_completion_tokens": "use max_new_tokens",
    "num_predict": "use max_new_tokens",
    "n": "use num_return_sequences",
    "best_of": "use num_candidates",
    "stop": "use stop_strings",
    "stop_token_ids": "use eos_token_id",
    "ignore_eos": r"use eos_token_id=\[\]",
    "repeat_penalty": "use repetition_penalty",
    "mirostat": "use top_p, typical_p, min_p or eta_cutoff",
    "grammar": "use logits_processor",
    "logprobs": "use top_logprobs",
    "max_length": "use max_new_tokens, which does not count the prompt",
    "min_length": "use min_new_tokens, which does not count the prompt",
    "pad_token_id": "leave it out: prompts of different lengths run together without padding",
    "attention_mask": "leave it out: prompts of different lengths run together without padding",
    "use_cache": "leave it out: keys and values are always cached",
    "streamer": "use ChatSession.stream",
    "stopping_criteria": "use stop_strings, eos_token_id or max_time",
    "prefix_allowed_tokens_fn": "use logits_processor",
    "input_ids": "give the prompts as the first argument",
    "assistant_model": "leave it out: there is no speculative decoding here",
    "messages": "use ChatSession",
}


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items())
def test_another_system_s_name_gets_its_answer_at_every_door(tiny_folder: Any, name: str, answer: str) -> None:
    model = Model.from_pretrained(tiny_folder, dtype="float32", num_threads=1)
    chat = ChatSession(model)
    doors = [
        lambda: model.generate("a", **{name: 1}),
        lambda: override(GREEDY, {name: None}),
        lambda: ChatSession(model, **{name: 1}),
        lambda: ChatSession.from_pretrained("no/such-model", **{name: 1}),
        lambda: chat.reply("a", **{name: 1}),
    ]
    for door in doors:
        with pytest.raises(TypeError, match=f"^expected an? .*argument.*, found '{name}'; {answer}"):
            door()
    assert chat.history == []


def test_the_answers_name_arguments_that_there_are() -> None:
    assert not INSTEAD.keys() & ARGUMENTS
    for name, answer in INSTEAD.items():
        assert answer.startswith(("use ", "leave it out", "give ", "load ", "put ")), name
        if answer.startswith("use "):
            (used,) = re.findall(r"^use (?:Model\.)?([\w.]+)", answer)
            there = {*ARGUMENTS, "truncation", "num_candidates", "ChatSession", "ChatSession.stream"}
            assert used in there or hasattr(Model, used), name


SCALARS: list[tuple[str, Any, Any]] = [
    ("max_new_tokens", np.int64(7), 7),
    ("min_new_tokens", np.uint8(3), 3),
    ("do_sample", np.bool_(True), True),
    ("temperature", np.float64(0.5), 0.5),
    ("temperature", np.float32(0.5), 0.5),
    ("top_p", np.float16(0.5), 0.5),
    ("repetition_penalty", np.longdouble(1.5), 1.5),
    ("min_p", np.array(0.25), 0.25),
    ("top_k", np.int32(9), 9),
    ("eos_token_id", np.int64(4), 4),
    ("eos_token_id", np.array([4, 5]), (4, 5)),
    ("eos_token_id", [np.int16(4), 5], (4, 5)),
    ("suppress_tokens", np.arange(3), (0, 1, 2)),
    ("bad_words_ids", [np.array([1, 2]), [np.int8(3)]], ((1, 2), (3,))),
    ("bad_words_ids", np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
    ("sequence_bias", {(np.int64(1),): np.float64(0.5)}, (((1,), 0.5),)),
    ("logit_bias", {np.int64(3): np.float32(-2)}, ((3, -2.0),)),
    ("forced_eos_token_id", np.int64(6), 6),
    ("stop_strings", np.array(["a", "b"]), ("a", "b")),
    ("max_time", np.float64(1.5), 1.5),
    ("top_logprobs", np.int64(2), 2),
    ("seed", np.uint64(2**64 - 1), 2**64 - 1),
    ("early_stopping", np.bool_(True), True),
]


@pytest.mark.parametrize(("name", "given", "kept"), SCALARS)
def test_a_numpy_number_is_kept_as_python_s(name: str, given: Any, kept: Any) -> None:
    for config in (GenerationConfig(**{name: given}), override(GREEDY, {name: given})):
        found = getattr(config, name)
        assert found == kept and type(found) is type(kept)


def test_a_session_s_own_numbers_may_be_numpy_s(tiny_folder: Any) -> None:
    model = Model.from_pretrained(tiny_folder, num_threads=np.int64(1), kv_cache_bytes=np.int64(1 << 24))
    counts = {"num_candidates": np.int64(2), "max_retries": np.uint8(0), "window_tokens": np.int32(20)}
    chat = ChatSession(model, seed=np.int64(5), echo_guard=np.bool_(False), **counts, max_new_tokens=np.int64(3))
    plain = ChatSession(model, seed=5, echo_guard=False, num_candidates=2, max_retries=0, window_tokens=20)
    assert chat.settings == plain.settings and chat.seed == plain.seed
    assert chat.reply("Hi").text == plain.reply("Hi", max_new_tokens=3).text
    assert type(checked_seed(np.int64(5))) is int


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_new_tokens", np.float64(3.0)),
        ("top_k", np.bool_(True)),
        ("temperature", np.array([0.5, 0.6])),
        ("temperature", np.str_("1")),
        ("do_sample", np.int64(1)),
        ("suppress_tokens", np.array([1.5])),
        ("seed", np.datetime64("2020-01-01")),
    ],
)
def test_a_numpy_value_of_the_wrong_kind_stays_an_error(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^expected {name} "):
        GenerationConfig(**{name: wrong})


@pytest.mark.parametrize("field", dataclasses.fields(GenerationConfig), ids=lambda field: field.name)
def test_none_is_not_set(field: Any) -> None:
    assert GenerationConfig(**{field.name: None}) == GenerationConfig()
    off = {"top_k": 0}.get(field.name, field.default)
    assert getattr(override(CHAT, {field.name: None}), field.name) == off, "as transformers: None takes the rule away"


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float32(0), np.int64(0), np.array(0.0)])
def test_a_temperature_of_zero_is_greedy(wide_folder: Any, zero: Any) -> None:
    assert GenerationConfig(do_sample=True, temperature=zero) == GREEDY
    assert override(CHAT, {"temperature": zero}) == override(CHAT, {"do_sample": False})
    assert override(CHAT, {"temperature": zero, "do_sample": True}) == override(CHAT, {"do_sample": False})
    model = Model.from_pretrained(wide_folder, dtype="float32", num_threads=1)
    cold = model.generate(["ab", "cd"], temperature=zero, do_sample=True, max_new_tokens=6)
    greedy = model.generate(["ab", "cd"], max_new_tokens=6)
    assert [one.token_ids for one in cold] == [one.token_ids for one in greedy]
