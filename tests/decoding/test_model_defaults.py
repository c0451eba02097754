"""Is generation_config.json obeyed as transformers obeys it, token for token, with a caller's arguments on top?"""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import ChatSession, GenerationConfig, Model
from dialocpp.decoding.generation_config import CHAT, GREEDY
from dialocpp.decoding.model_defaults import ModelDefaults
from dialocpp.errors import CheckpointWarning
from small_models import Gpt2

BATCH, LENGTH = 12, 16
END = 300

# What stands in the file, beside the end-of-text; each for a batch of prompts of its own length.
FILES: dict[str, dict[str, Any]] = {
    "ends": {"max_new_tokens": 20, "eos_token_id": [300, *range(0, 300, 9)]},
    "suppress": {"max_new_tokens": 14, "suppress_tokens": list(range(60, 260))},
    "begin": {"max_new_tokens": 12, "begin_suppress_tokens": list(range(120, 301))},
    "bad words": {"max_new_tokens": 12, "bad_words_ids": [[i] for i in range(0, 300, 2)] + [[1, 3], [300]]},
    "forced end": {"max_new_tokens": 7, "forced_eos_token_id": 299, "eos_token_id": [300, 299]},
    "repetition": {"max_new_tokens": 14, "repetition_penalty": 1.9},
    "ngrams and least": {"max_new_tokens": 15, "no_repeat_ngram_size": 1, "min_new_tokens": 9},
    "sequence bias": {"max_new_tokens": 12, "sequence_bias": [[[5], 6.0], [[7, 9], 4.0], [[260], 5.0]]},
    "max_length": {"max_length": 19},
    "min_length": {"max_length": 30, "min_length": 24},
    "both lengths": {"max_length": 9, "max_new_tokens": 13, "min_length": 3, "min_new_tokens": 8},
    "beams": {"max_new_tokens": 10, "num_beams": 3, "length_penalty": 1.4},
    "beams early": {"max_length": 24, "num_beams": 4, "early_stopping": True, "no_repeat_ngram_size": 2},
    "nulls and names of no meaning": {
        "max_new_tokens": 9,
        "temperature": None,
        "num_beams": None,
        "min_length": None,
        "transformers_version": "5.0.0",
        "use_cache": False,
        "kappa": 7,
    },
}

# The file, and what a caller gives on top of it.
ON_TOP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shorter": ({"max_length": 40, "repetition_penalty": 1.7}, {"max_new_tokens": 6}),
    "other penalty": ({"max_new_tokens": 9, "repetition_penalty": 1.9}, {"repetition_penalty": 1.2}),
    "no penalty": ({"max_new_tokens": 9, "repetition_penalty": 1.9}, {"repetition_penalty": None}),
    "no bans": ({"max_new_tokens": 9, "suppress_tokens": list(range(200))}, {"suppress_tokens": None}),
    "greedy keeps penalties": (
        {"max_new_tokens": 11, "do_sample": True, "temperature": 0.4, "top_k": 7, "no_repeat_ngram_size": 1},
        {"do_sample": False},
    ),
    "no beams": ({"max_new_tokens": 9, "num_beams": 4}, {"num_beams": 1}),
    "other end": ({"max_new_tokens": 18, "eos_token_id": list(range(0, 300, 4))}, {"eos_token_id": [300, 5]}),
    "least": ({"max_new_tokens": 12, "min_length": 30}, {"min_new_tokens": 4}),
    "least of the file": ({"max_length": 60, "min_length": 17}, {"max_new_tokens": 12}),
}
CASES = {name: (says, {}) for name, says in FILES.items()} | ON_TOP


@pytest.fixture(scope="module")
def folder(save_folder: Callable[[Gpt2], Path], wide: Gpt2) -> Path:
    return save_folder(wide)


def with_file(folder: Path, target: Path, says: dict[str, Any]) -> Path:
    copy = Path(shutil.copytree(folder, target))
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": END} | says))
    return copy


def prompts_of(index: int) -> list[list[int]]:
    """All of one length, so that transformers needs no padding."""
    return np.random.default_rng(index).integers(0, 300, (BATCH, 5 + index % 7)).tolist()


def transformers_ids(folder: Path, prompts: list[list[int]], arguments: dict[str, Any]) -> list[list[int]]:
    """Without the end-of-text and what follows it."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        rows = torch.tensor(prompts)
        mask = torch.ones_like(rows)
        output = peer.generate(rows, attention_mask=mask, pad_token_id=END, **arguments)[:, rows.shape[1] :].tolist()
    ends = arguments.get("eos_token_id") or peer.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    return [ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))] for ids in output]


@pytest.mark.parametrize("name", CASES)
def test_the_ids_are_transformers(folder: Path, tmp_path: Path, name: str) -> None:
    says, arguments = CASES[name]
    there = with_file(folder, tmp_path / "model", says)
    prompts = prompts_of(list(CASES).index(name))
    model = Model.from_pretrained(there, dtype="float32", num_threads=1)
    found = [list(one.token_ids) for one in model.generate(prompts, **arguments)]
    assert found == transformers_ids(there, prompts, arguments)
    # Alone a prompt gets the same, whatever its length: max_length counts each by itself.
    assert list(model.generate(prompts[0], **arguments)[0].token_ids) == found[0]
    other = Model.from_pretrained(folder, dtype="float32", num_threads=1).generate(prompts, max_new_tokens=LENGTH)
    assert found != [list(one.token_ids) for one in other], "else the file would make no difference"


def test_max_length_counts_each_prompt_by_itself_and_what_is_too_long_is_an_error(folder: Path, tmp_path: Path) -> None:
    there = with_file(folder, tmp_path / "m", {"max_length": 12, "eos_token_id": []})
    model = Model.from_pretrained(there, num_threads=1)
    found = model.generate([[1] * 3, [2] * 9, [3] * 11])
    assert [len(one.token_ids) for one in found] == [9, 3, 1]
    with pytest.raises(ValueError, match=r"^expected a prompt below max_length=12 .*, found 12 tokens; give max_n"):
        model.generate([[1] * 3, [2] * 12])
    assert len(model.generate([2] * 12, max_new_tokens=2)[0].token_ids) == 2


def test_a_config_takes_the_file_s_place_as_a_whole(folder: Path, tmp_path: Path) -> None:
    says = {"repetition_penalty": 1.9, "max_length": 12, "suppress_tokens": [1], "do_sample": True}
    model = Model.from_pretrained(with_file(folder, tmp_path / "m", says), dtype="float32", num_threads=1)
    plain = Model.from_pretrained(folder, dtype="float32", num_threads=1)
    found = model.generate(prompts_of(1), GREEDY, max_new_tokens=9)
    same = plain.generate(prompts_of(1), max_new_tokens=9)
    assert [one.token_ids for one in found] == [one.token_ids for one in same]


def test_sampling_is_the_file_s_and_beams_win_over_it(folder: Path, tmp_path: Path) -> None:
    says = {"do_sample": True, "temperature": 1.4, "top_k": 30, "top_p": 0.9, "max_new_tokens": 8}
    model = Model.from_pretrained(with_file(folder, tmp_path / "m", says), dtype="float32", num_threads=1)
    drawn = model.generate(prompts_of(2), seed=3)
    named = model.generate(prompts_of(2), GenerationConfig(**says, seed=3))
    assert [one.token_ids for one in drawn] == [one.token_ids for one in named]
    beams = model.generate(prompts_of(2), num_beams=3)
    same = model.generate(prompts_of(2), GenerationConfig(num_beams=3, max_new_tokens=8))
    assert [one.token_ids for one in beams] == [one.token_ids for one in same]


def test_a_session_takes_what_names_tokens_and_keeps_its_own_sampling(folder: Path, tmp_path: Path) -> None:
    tokens = {"suppress_tokens": [7, 8], "begin_suppress_tokens": [9], "bad_words_ids": [[10, 11]]}
    says = tokens | {"temperature": 1.9, "do_sample": False, "max_length": 9, "repetition_penalty": 3.0, "num_beams": 5}
    model = Model.from_pretrained(with_file(folder, tmp_path / "m", says), num_threads=1)
    kept = {"suppress_tokens": (7, 8), "begin_suppress_tokens": (9,), "bad_words_ids": ((10, 11),)}
    for chat, base in (
        (ChatSession(model), CHAT),
        (ChatSession(model, preset="paddle"), GenerationConfig(do_sample=True, top_k=5, max_new_tokens=32)),
    ):
        config = chat.generation_config
        assert {name: getattr(config, name) for name in kept} == kept
        assert GenerationConfig(**(vars(config) | dict.fromkeys(kept))) == base
    assert ChatSession(model, suppress_tokens=[4]).generation_config.suppress_tokens == (4,)
    assert ChatSession(model, suppress_tokens=None).generation_config.suppress_tokens is None
    assert ChatSession(model, CHAT).generation_config == CHAT
    assert not {7, 8} & set(ChatSession(model, seed=1, max_new_tokens=40).reply("ab").token_ids)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": "hot"}, "expected temperature to be a number, found 'hot'"),
    ({"max_new_tokens": 0}, "expected max_new_tokens to be 1 or more, found 0"),
    ({"max_length": -5}, "expected max_length to be from 1"),
    ({"min_length": 2.5}, "expected min_length to be an integer, found 2.5"),
    ({"bad_words_ids": [[999]]}, "expected bad_words_ids to hold token ids below 301"),
    ({"suppress_tokens": [-1, 5]}, "expected suppress_tokens to hold token ids"),
    ({"forced_eos_token_id": {"a": 1}}, "expected forced_eos_token_id to be a token id"),
    ({"num_return_sequences": 3}, "expected num_return_sequences=1"),
    ({"num_beams": 3, "do_sample": True}, "expected do_sample=False with num_beams=3"),
    ({"eos_token_id": "<|endoftext|>"}, "expected eos_token_id to be a token id"),
    ({"guidance_scale": 1.5}, "expected no guidance_scale"),
    ({"exponential_decay_length_penalty": [4, 1.1]}, "expected no exponential_decay_length_penalty"),
]


@pytest.mark.parametrize(("says", "about"), WRONG)
def test_what_is_wrong_is_left_out(folder: Path, tmp_path: Path, says: dict[str, Any], about: str) -> None:
    there = with_file(folder, tmp_path / "m", {"repetition_penalty": 1.5} | says)
    with pytest.warns(CheckpointWarning, match=about) as caught:
        model = Model.from_pretrained(there, num_threads=1)
    assert len(caught) == 1 and "generation_config.json" in str(caught[0].message)
    assert model.generation_defaults.config.repetition_penalty == 1.5
    assert model.generate("ab", max_new_tokens=2)


def test_an_end_of_minus_one_is_none_and_nothing_is_nothing() -> None:
    assert ModelDefaults.of({"eos_token_id": -1}, 97) == ModelDefaults() == ModelDefaults.of({}, 97)
